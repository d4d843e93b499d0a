"""What the log, `/metrics` and notifications learn about the runs this process executes.

The executor and the worker call it where something changes; nothing here is done per answer. It
logs facts and numbers only: no text from a person, model or server.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final, Literal, NamedTuple

from benchlib.domain.asking.engine_reports import AddressState
from benchlib.domain.asking.model_client import ModelClient
from benchlib.domain.records import RunRecord
from benchlib.domain.vocabulary import FailureKind

_PROGRESS_EVERY_SECONDS: Final = 60.0
"""How often the log says how far a run is."""

_FAILURES_EVERY_SECONDS: Final = 10.0
"""How often it reports failed attempts: a server that is down fails many."""

_log = logging.getLogger(__name__)


class RunEvent(NamedTuple):
    """Something that people want to know about a run; `quiet_seconds` is how long it stalled."""

    what: Literal["ended", "stalled", "recovered"]
    run: RunRecord
    quiet_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class _State:
    """A run at its last commit; times are monotonic seconds.

    Attributes:
        answers: Grows with everything an engine has answered.
        answered: When it last grew.
        logged: When progress was last logged.
        warned: When failed attempts were last logged.
        failures: Those logged by then.
        waits_since: When the executor began to wait for the engine, if it waits.
    """

    run: RunRecord
    committed: float
    answers: int
    answered: float
    logged: float
    warned: float
    failures: Mapping[str, int]
    waits_since: float | None = None
    stalled: bool = False


class RunMonitor:
    """Monitors one run after the other.

    Args:
        notify: Takes an event; must not block or raise.
        stall_seconds: A run without an answer for this long counts as stalled.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        notify: Callable[[RunEvent], None] = lambda _event: None,
        stall_seconds: float = 600.0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._notify: Final = notify
        self._stall_seconds: Final = stall_seconds
        self._clock: Final = clock
        self._state: _State | None = None  # replaced as a whole: other threads read it
        self._probed: int | None = None
        self._addresses: Callable[[], tuple[AddressState, ...]] = tuple

    @property
    def addresses(self) -> tuple[AddressState, ...]:
        """The state of each address of the run in execution."""
        return self._addresses()

    def seconds_since_commit(self, run_id: int) -> float | None:
        """Age of the last commit of a run; None if this process does not execute it."""
        state = self._state
        return self._clock() - state.committed if state and state.run.id == run_id else None

    def connected(self, run_id: int, client: ModelClient) -> None:
        """The engine was probed and will be asked."""
        report = client.report
        self._probed = run_id
        self._addresses = lambda: client.addresses
        _log.info(
            "engine probed",
            extra={
                "run_id": run_id,
                "engine": report.kind,
                "engine_version": report.engine_version,
                "n_addresses": len(report.addresses),
                "answer_mode": report.answer_mode,
                "answer_mode_used": report.answer_mode_used,
                "route": report.route,
            },
        )

    def committed(self, run: RunRecord) -> None:
        """The run was stored as it is here; called at least every few seconds."""
        now = self._clock()
        answers, failures = _answers(run), _failures(run)
        before = self._state
        if before is None or before.run.id != run.id:
            early = now - _FAILURES_EVERY_SECONDS
            self._state = _State(run, now, answers, now, now, early, failures)
            return
        logged, warned, logged_failures = before.logged, before.warned, before.failures
        if failures != logged_failures and now - warned >= _FAILURES_EVERY_SECONDS:
            new = {kind: n - logged_failures.get(kind, 0) for kind, n in failures.items()}
            new = {kind: n for kind, n in new.items() if n}
            _log.warning("attempts failed", extra={"run_id": run.id, "failures": new})
            warned, logged_failures = now, failures
        waits_since = before.waits_since
        waits = run.activity is not None and self._probed == run.id
        if waits and waits_since is None:
            waits_since = now
            _log.warning("waiting for the engine", extra={"run_id": run.id})
        elif waits_since is not None and not waits:
            waited = {"run_id": run.id, "waited_seconds": round(now - waits_since, 1)}
            _log.info("engine answers again", extra=waited)
            waits_since = None
        answered, stalled = before.answered, before.stalled
        if answers != before.answers:
            if stalled:
                self._note(RunEvent("recovered", run, now - answered))
            answered, stalled = now, False
        elif not stalled and now - answered >= self._stall_seconds:
            stalled = True
            self._note(RunEvent("stalled", run, now - answered))
        if now - logged >= _PROGRESS_EVERY_SECONDS:
            _log.info("progress", extra=_summary(run))
            logged = now
        self._state = _State(
            run, now, answers, answered, logged, warned, logged_failures, waits_since, stalled
        )

    def ended(self, run: RunRecord) -> None:
        """The run's execution has ended, by its own process or because that process died."""
        extra = _summary(run)
        _log.info("run ended", extra={**extra, "seconds_active": round(run.seconds_active, 1)})
        self.left(run.id)
        self._notify(RunEvent("ended", run))

    def left(self, run_id: int) -> None:
        """This process no longer executes the run."""
        if self._state is not None and self._state.run.id == run_id:
            self._state = self._probed = None
            self._addresses = tuple

    def _note(self, event: RunEvent) -> None:
        level = logging.WARNING if event.what == "stalled" else logging.INFO
        quiet = {"quiet_seconds": round(event.quiet_seconds, 1)}
        _log.log(level, "run %s", event.what, extra={**_summary(event.run), **quiet})
        self._notify(event)


def _answers(run: RunRecord) -> int:
    """Items that are rated, and attempts that failed although the engine answered."""
    failures = _failures(run)
    return run.done + sum(
        failures.get(kind, 0) for kind in (FailureKind.UNUSABLE, FailureKind.REJECTED)
    )


def _failures(run: RunRecord) -> dict[str, int]:
    return dict(run.tally["failures"])


def _summary(run: RunRecord) -> dict[str, Any]:
    """How far a run is, for the log."""
    return {
        "run_id": run.id,
        "status": run.status.value,
        "rated": run.done,
        "failed": run.failed,
        "planned": run.total,
        "failures": _failures(run),
    }
