"""Live progress. The store is the truth; memory only remembers how fast it moved."""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypedDict

from benchlib.domain.asking.work_plan import CompletedKeys
from benchlib.domain.records import RunRecord
from benchlib.domain.vocabulary import RunStatus
from benchlib.infrastructure.storage import results, runs
from benchlib.infrastructure.storage.database import Store

_WINDOW_SECONDS: Final = 60.0


class ProgressStatus(TypedDict):
    """Where a run stands; `rate_per_s` and `eta_s` are None while no worker executes it.

    `done` counts rated items, `failed` items given up; `pct` is their share of `total`, 0..100,
    and 100 only when nothing is left.
    """

    ok: bool
    run_id: int
    status: str
    dataset_id: int
    done: int
    total: int
    failed: int
    pct: float
    rate_per_s: float | None
    eta_s: float | None
    error: str | None
    activity: str | None
    cancel_requested: bool
    simulated: bool


@dataclass
class _History:
    """How much was done at which time (monotonic seconds), over the last minute."""

    seen: deque[tuple[float, int]] = field(default_factory=deque)

    def note(self, now: float, done: int) -> None:
        if self.seen and (now < self.seen[-1][0] or done < self.seen[-1][1]):
            self.seen.clear()  # another run with this id, or another execution
        self.seen.append((now, done))
        while now - self.seen[0][0] > _WINDOW_SECONDS:
            self.seen.popleft()

    def rate(self) -> float | None:
        if len(self.seen) < 2:
            return None
        (begin, before), (end, after) = self.seen[0], self.seen[-1]
        return (after - before) / (end - begin) if end > begin else None


_BENCH_PROGRESS: dict[int, _History] = {}
_LOCK = threading.Lock()  # a history is read and written as a whole


def update_progress(store: Store, run_id: int, now: float) -> ProgressStatus:
    """Read the run from the store and remember how far it is.

    Args:
        now: Monotonic seconds.
    """
    with store.read() as session:
        run = runs.get_run(session, run_id)
    return note_progress(run, now)


def note_progress(run: RunRecord, now: float) -> ProgressStatus:
    """Remember how far a run that was just read is, and return its status."""
    with _LOCK:
        if run.status is not RunStatus.RUNNING:
            _BENCH_PROGRESS.pop(run.id, None)
            return _progress_status(run, None)
        history = _BENCH_PROGRESS.setdefault(run.id, _History())
        history.note(now, run.done + run.failed)
        return _progress_status(run, history.rate())


def note_done(run_id: int, now: float, n_settled: int) -> None:
    """Remember how far a running run is, for the rate that `note_progress` returns."""
    with _LOCK:
        _BENCH_PROGRESS.setdefault(run_id, _History()).note(now, n_settled)


def progress_poller(
    store: Store,
    run_id: int,
    stop: threading.Event,
    clock: Callable[[], float],
    report: Callable[[ProgressStatus], None],
    every: float = 1.0,
) -> None:
    """Report the run's status until `stop` is set, and once more then."""
    while not stop.wait(every):  # wakes at once when stopped
        report(update_progress(store, run_id, clock()))
    report(update_progress(store, run_id, clock()))  # the last word must not depend on timing


def get_completed_keys(store: Store, run_id: int) -> CompletedKeys:
    """The keys of a run that are rated already and must not be asked again."""
    with store.read() as session:
        return results.completed_keys(session, run_id)


def _progress_status(run: RunRecord, rate: float | None) -> ProgressStatus:
    left = run.total - run.done - run.failed
    share = (run.done + run.failed) / run.total if run.total else 1.0
    return {
        "ok": True,
        "run_id": run.id,
        "status": run.status.value,
        "dataset_id": run.dataset_id,
        "done": run.done,
        "total": run.total,
        "failed": run.failed,
        # rounding must not claim completion: 99.99 stays below 100
        "pct": 100.0 if left <= 0 else min(round(100 * share, 2), 99.99),
        "rate_per_s": rate,
        "eta_s": left / rate if rate else None,
        "error": run.error,
        "activity": run.activity,
        "cancel_requested": run.cancel_requested,
        "simulated": run.simulated,
    }
