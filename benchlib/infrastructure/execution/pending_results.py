"""Answers and failures that are not stored yet, and the counters that go with them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from benchlib.domain.errors import EngineFault
from benchlib.domain.records import Answer, AnswerFailure, Question, WorkItem
from benchlib.domain.vocabulary import FailureKind
from benchlib.infrastructure.storage import results, runs

_LATEST_ANSWERS: Final = 8


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction stores: answers, failures, and their counters."""

    rated: list[results.Rated]
    failures: list[results.FailedAttempt]
    values: dict[str, Any]


@dataclass
class PendingResults:
    """Counts and collects what comes in until it is taken to be stored.

    Attributes:
        done: Items rated, stored or not.
        failed: Items given up in this execution.
        tally: See `runs.empty_tally`; with the latest answers.
        rated: Not taken yet.
        failures: Not taken yet.
    """

    done: int = 0
    failed: int = 0
    tally: dict[str, Any] = field(default_factory=runs.empty_tally)
    rated: list[results.Rated] = field(default_factory=list)
    failures: list[results.FailedAttempt] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rated) + len(self.failures)

    def note_outcomes(
        self,
        questions: Sequence[Question],
        outcomes: Sequence[Answer | AnswerFailure],
        now: datetime,
        max_attempts: int,
    ) -> list[tuple[WorkItem, int]]:
        """Add the outcomes of a request; returns what to ask again, each with its next attempt."""
        again = []
        for question, outcome in zip(questions, outcomes, strict=True):
            if isinstance(outcome, Answer):
                self.rated.append(results.Rated(question, outcome, now))
                self.tally[question.item.scale_order][outcome.rating_raw - 1] += 1
                self.done += 1
                continue
            final = outcome.kind is FailureKind.REJECTED or question.attempt >= max_attempts
            self.failures.append(results.failed_attempt(question, outcome, now, final=final))
            self._count_failure(outcome.kind)
            if final:
                self.failed += 1
            else:
                again.append((question.item, question.attempt + 1))
        return again

    def note_fault(self, fault: EngineFault, now: datetime, n_items: int, attempt: int) -> None:
        """Add a request that was not answered."""
        self._count_failure(fault.kind)
        self.failures.append(
            results.FailedAttempt(fault.kind, str(fault), now, n_items=n_items, attempt=attempt)
        )

    def take(self) -> Batch:
        """Remove and return what came in, with the counters as they are now."""
        self._note_latest()
        batch = Batch(
            self.rated,
            self.failures,
            {
                "done": self.done,
                "failed": self.failed,
                "tally": {
                    **self.tally,
                    "in": list(self.tally["in"]),
                    "rev": list(self.tally["rev"]),
                    "failures": dict(self.tally["failures"]),
                },
            },
        )
        self.rated, self.failures = [], []
        return batch

    def give_back(self, batch: Batch) -> None:
        """Put back what could not be stored."""
        self.rated = batch.rated + self.rated
        self.failures = batch.failures + self.failures

    def _count_failure(self, kind: FailureKind) -> None:
        self.tally["failures"][kind.value] = self.tally["failures"].get(kind.value, 0) + 1

    def _note_latest(self) -> None:
        newest = [
            {
                "persona": question.item.persona.uuid,
                "case_id": question.item.trait.case_id,
                "scale_order": question.item.scale_order,
                "rating_raw": answer.rating_raw,
            }
            for question, answer, _ in self.rated[-_LATEST_ANSWERS:]
        ]
        self.tally["latest"] = (self.tally.get("latest", []) + newest)[-_LATEST_ANSWERS:]
