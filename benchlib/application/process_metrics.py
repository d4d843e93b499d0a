"""Metrics of this process and its store, for `/metrics`."""

from collections import Counter
from collections.abc import Callable, Mapping
from itertools import accumulate
from threading import Lock
from time import monotonic
from typing import Final, TypedDict

import benchlib
from benchlib.domain.asking.engine_reports import AddressState
from benchlib.domain.errors import StoreError
from benchlib.domain.run_state import ACTIVE
from benchlib.domain.vocabulary import FailureKind, RunStatus
from benchlib.infrastructure.execution.worker import Worker
from benchlib.infrastructure.storage import runs
from benchlib.infrastructure.storage.database import Store
from benchlib.infrastructure.storage.write_times import LIMITS


class ActiveRun(TypedDict):
    """A queued or running run; `lease_age_s` is None while it is queued."""

    run_id: int
    rated: int
    failed: int
    planned: int
    lease_age_s: float | None


class StoreMetrics(TypedDict):
    """Sums over all runs in the store."""

    runs: dict[str, int]
    rated: int
    failed: int
    failed_attempts: dict[str, int]
    active: list[ActiveRun]


class ProcessMetrics(TypedDict):
    """Everything; `store` is None while the store does not answer.

    `executor_alive` is None where another process executes. `addresses` are those of the run that
    this process executes. `write_counts` are transactions by
    duration: "0.1" -> how many took at most so many seconds; "+Inf" -> all.
    """

    version: str
    commit: str | None
    executor_alive: bool | None
    store: StoreMetrics | None
    addresses: tuple[AddressState, ...]
    write_counts: dict[str, int]
    write_seconds: float


class ProcessMonitor:
    """Gathers the metrics; remembers when it first saw each heartbeat of other processes."""

    def __init__(
        self, store: Store, worker: Worker | None, clock: Callable[[], float] = monotonic
    ) -> None:
        self._store: Final = store
        self._worker: Final = worker
        self._clock: Final = clock
        self._lock = Lock()  # a heartbeat and the time it was first seen change together
        self._seen: dict[int, tuple[int, float]] = {}

    def metrics(self) -> ProcessMetrics:
        """The current metrics; reads one short row per run."""
        try:
            with self._store.read() as session:
                counters = runs.list_counters(session)
        except StoreError:
            counters = None
        counts, seconds = self._store.write_times.summary()
        cumulated = dict(zip([*map(str, LIMITS), "+Inf"], accumulate(counts), strict=True))
        worker = self._worker
        return {
            "version": benchlib.__version__,
            "commit": worker.context.git_commit if worker else None,
            "executor_alive": worker.alive if worker else None,
            "store": None if counters is None else self._store_metrics(counters),
            "addresses": worker.context.monitor.addresses if worker else (),
            "write_counts": cumulated,
            "write_seconds": seconds,
        }

    def _store_metrics(self, counters: list[runs.RunCounters]) -> StoreMetrics:
        by_status = Counter(run.status for run in counters)
        attempts: Counter[str] = Counter()
        for run in counters:
            attempts.update(run.failures)
        ages = self._lease_ages(
            {run.id: run.heartbeat for run in counters if run.status is RunStatus.RUNNING}
        )
        return {
            "runs": {status.value: by_status[status] for status in RunStatus},
            "rated": sum(run.done for run in counters),
            "failed": sum(run.failed for run in counters),
            "failed_attempts": {kind.value: attempts[kind.value] for kind in FailureKind},
            "active": [
                {
                    "run_id": run.id,
                    "rated": run.done,
                    "failed": run.failed,
                    "planned": run.total,
                    "lease_age_s": ages.get(run.id),
                }
                for run in counters
                if run.status in ACTIVE
            ],
        }

    def _lease_ages(self, heartbeats: Mapping[int, int]) -> dict[int, float]:
        """Seconds since the last sign of life of each running run."""
        now = self._clock()
        with self._lock:
            self._seen = {
                run_id: (beat, now)
                if self._seen.get(run_id, (None, now))[0] != beat
                else self._seen[run_id]
                for run_id, beat in heartbeats.items()
            }
            ages = {run_id: now - since for run_id, (_, since) in self._seen.items()}
        if self._worker is not None:
            for run_id in ages:
                own = self._worker.context.monitor.seconds_since_commit(run_id)
                ages[run_id] = ages[run_id] if own is None else own
        return ages
