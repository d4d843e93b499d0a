"""What the executor needs from outside and tests replace: the model client."""

from collections.abc import Sequence
from typing import Protocol

from benchlib.domain.asking.engine_reports import AddressState
from benchlib.domain.records import Answer, AnswerFailure, EngineReport, Question


class ModelClient(Protocol):
    """Something that rates: a vLLM server, or the simulated rater. Used inside one event loop."""

    report: EngineReport
    """What was found before the run; fixed for its whole length."""

    @property
    def max_batch_size(self) -> int:
        """How many questions a request holds at most."""

    @property
    def batch_size(self) -> int:
        """How many questions the next request carries best."""

    @property
    def concurrency(self) -> int:
        """How many requests in flight keep the engine busy, as known now."""

    @property
    def addresses(self) -> tuple[AddressState, ...]:
        """The state of each address; empty for a client that has none."""

    async def ask(self, questions: Sequence[Question]) -> list[Answer | AnswerFailure]:
        """Ask all questions in one go.

        Returns:
            One outcome per question, in the same order.

        Raises:
            EngineFault: The transport failed; nothing was learned about any item.
            EngineChanged: The server now serves another model.
        """

    async def close(self) -> None:
        """Give up connections; in-flight calls end with EngineFault."""
