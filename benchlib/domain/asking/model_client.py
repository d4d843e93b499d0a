"""What the executor needs from outside and tests replace: the model client."""

from collections.abc import Sequence
from typing import Protocol

from benchlib.domain.asking.engine_reports import AddressState
from benchlib.domain.records import Answer, AnswerFailure, EngineReport, Question


class ModelClient(Protocol):
    """A model server or the simulated rater. Used inside one event loop."""

    report: EngineReport
    """What was found before the run; fixed for the whole run."""

    @property
    def max_batch_size(self) -> int:
        """Limit of questions in a request."""

    @property
    def batch_size(self) -> int:
        """Best number of questions for the next request."""

    @property
    def concurrency(self) -> int:
        """Requests in flight that keep the engine busy, as known now."""

    @property
    def addresses(self) -> tuple[AddressState, ...]:
        """The state of each address; empty for a client that has none."""

    async def ask(self, questions: Sequence[Question]) -> list[Answer | AnswerFailure]:
        """Ask all questions in one go.

        Returns:
            One outcome per question, in the same order.

        Raises:
            EngineFault: The transport failed; nothing is known about any item.
            EngineChanged: The server now serves another model.
        """

    async def close(self) -> None:
        """Close all connections; calls in flight end with EngineFault."""
