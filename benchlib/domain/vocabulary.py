"""The words of the field, one term per thing."""

from enum import StrEnum
from typing import Final, Literal

N_POINTS: Final = 5
"""Length of the Likert scale; ratings are 1..N_POINTS."""

UNKNOWN_TRAIT_CATEGORY: Final = "Unknown"
"""Category of a trait that names none."""

UNKNOWN_CATEGORY: Final = "Unknown"
"""Value of a persona attribute that is not given; displayed, never tested."""

Language = Literal["en", "de"]
ScaleMode = Literal["in", "rev", "random50"]
ScaleOrder = Literal["in", "rev"]
AnswerMode = Literal["distribution", "rating", "rationale", "text"]
Valence = Literal[-1, 0, 1]
EngineKind = Literal["vllm", "simulated"]

SCALE_ORDERS: Final[tuple[ScaleOrder, ScaleOrder]] = ("in", "rev")
"""Scale orders by their stored code: 0 = in, 1 = rev."""


class RunStatus(StrEnum):
    """Where a run stands. `interrupted` means: its worker went away, resume it."""

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
    tried again; `rejected` means the server refuses this item (a prompt too long, say);
    `unusable` means an answer came that holds no valid rating.
    """

    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    OVERLOADED = "overloaded"
    SERVER_ERROR = "server_error"
    REJECTED = "rejected"
    UNUSABLE = "unusable"
