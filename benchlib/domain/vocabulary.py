"""The words of the field, one term per thing."""

from enum import StrEnum
from typing import Final, Literal

N_POINTS: Final = 5
"""Length of the Likert scale; ratings are 1..N_POINTS."""

UNKNOWN_TRAIT_CATEGORY: Final = "Unknown"
"""Category of a trait without one."""

UNKNOWN_CATEGORY: Final = "Unknown"
"""Value of a persona attribute that is missing; displayed, never tested."""

Language = Literal["en", "de"]
ScaleMode = Literal["in", "rev", "random50"]
ScaleOrder = Literal["in", "rev"]
AnswerMode = Literal["distribution", "rating", "rationale", "text"]
Valence = Literal[-1, 0, 1]
EngineKind = Literal["vllm", "simulated"]
SimulatedPreset = Literal["usual", "four", "refusals", "order", "unbiased"]

SCALE_ORDERS: Final[tuple[ScaleOrder, ScaleOrder]] = ("in", "rev")
"""Scale orders by their stored code: 0 = in, 1 = rev."""


class RunStatus(StrEnum):
    """Status of a run. `interrupted` means that its worker was lost; the run can be resumed."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    PARTIAL = "partial"
    CANCELLED = "cancelled"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


class FailureKind(StrEnum):
    """Why an attempt gave no rating.

    `unreachable`, `timeout`, `overloaded` and `server_error` are faults of the transport and are
    retried; `rejected` means that the server refuses this question (its prompt is too long, say);
    `unusable` means that the reply holds no valid rating.
    """

    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    OVERLOADED = "overloaded"
    SERVER_ERROR = "server_error"
    REJECTED = "rejected"
    UNUSABLE = "unusable"
