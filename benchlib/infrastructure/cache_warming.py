"""Computes a run's default panels before anyone asks for them: one job per run, step by step."""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import Final, TypedDict

from benchlib.infrastructure.lru import Lru

_log = logging.getLogger(__name__)

Step = tuple[str, Callable[[], object]]


class WarmStep(TypedDict):
    """One panel; `status` is waiting, running, done or failed."""

    name: str
    status: str
    ok: bool | None
    duration_ms: int | None
    error: str | None


class WarmJob(TypedDict):
    """The state of a warm-up; `status` is idle (never started), running, done or failed."""

    ok: bool
    run_id: int
    status: str
    steps: list[WarmStep]
    started_at: str | None
    updated_at: str | None
    finished_at: str | None
    duration_ms: int | None
    current_step: str | None
    had_errors: bool
    error: str | None


@dataclass
class _Job:
    key: tuple[str, int]
    snapshot: WarmJob
    began: float
    now: Callable[[], datetime]
    stop: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None


_WARM_CACHE_JOBS: Final[dict[tuple[str, int], _Job]] = {}
"""Jobs that are running."""

_ENDED_JOBS: Final[Lru[tuple[str, int], WarmJob]] = Lru(100)
_LOCK = threading.Lock()  # a run has at most one running job; snapshots are consistent
_STEP = threading.Lock()  # one step at a time per process: two big runs would need twice the memory


def start_warm_cache_job(
    run_id: int, steps: Sequence[Step], now: Callable[[], datetime], *, store: str = ""
) -> WarmJob:
    """Run the steps in a new thread and return at once; a job that is already running goes on.

    Args:
        run_id: The run.
        steps: Name and function of each.
        now: The clock.
        store: The database, since runs of several databases may share an id.
    """
    with _LOCK:
        job = _WARM_CACHE_JOBS.get((store, run_id))
        if job is not None:
            return _copy(job.snapshot)
        moment = now().isoformat()
        snapshot: WarmJob = {
            **_idle(run_id),
            "status": "running",
            "steps": [_waiting(name) for name, _ in steps],
            "started_at": moment,
            "updated_at": moment,
        }
        job = _Job((store, run_id), snapshot, monotonic(), now)
        job.thread = threading.Thread(
            target=_warm_cache_worker, args=(job, steps), name=f"warm-cache-{run_id}", daemon=True
        )
        _WARM_CACHE_JOBS[job.key] = job
        job.thread.start()
        return _copy(snapshot)


def warm_job_snapshot(run_id: int, *, store: str = "") -> WarmJob:
    """The state of the newest job for this run in this process."""
    with _LOCK:
        job = _WARM_CACHE_JOBS.get((store, run_id))
        ended = _ENDED_JOBS.get((store, run_id))
        return _copy(job.snapshot if job is not None else ended or _idle(run_id))


def stop_warm_cache_jobs(timeout: float = 10.0) -> None:
    """Let every job end after the step it is in; called when the process ends."""
    with _LOCK:
        jobs = list(_WARM_CACHE_JOBS.values())
        _WARM_CACHE_JOBS.clear()
        _ENDED_JOBS.clear()
    for job in jobs:
        job.stop.set()
    for job in jobs:
        if job.thread is not None:
            job.thread.join(timeout)


def _warm_cache_worker(job: _Job, steps: Sequence[Step]) -> None:
    for place, (name, compute) in enumerate(steps):
        with _STEP:
            if job.stop.is_set():
                break
            with _LOCK:
                job.snapshot["current_step"] = name
                job.snapshot["steps"][place]["status"] = "running"
                job.snapshot["updated_at"] = job.now().isoformat()
            step = _run_warm_step(name, compute)
        with _LOCK:
            job.snapshot["steps"][place] = step
            job.snapshot["had_errors"] |= not step["ok"]
            job.snapshot["updated_at"] = job.now().isoformat()
    with _LOCK:
        had_errors, stopped = job.snapshot["had_errors"], job.stop.is_set()
        error = "Some panels could not be computed." if had_errors else None
        ended: WarmJob = {
            **job.snapshot,
            "status": "failed" if had_errors or stopped else "done",
            "current_step": None,
            "error": "The warm-up was stopped; start it again." if stopped else error,
            "finished_at": job.now().isoformat(),
            "updated_at": job.now().isoformat(),
            "duration_ms": round(1000 * (monotonic() - job.began)),
        }
        if _WARM_CACHE_JOBS.get(job.key) is job:
            del _WARM_CACHE_JOBS[job.key]
            _ENDED_JOBS.put(job.key, ended)


def _run_warm_step(name: str, compute: Callable[[], object]) -> WarmStep:
    began = monotonic()
    error = None
    try:
        compute()
    except Exception as problem:  # noqa: BLE001
        _log.exception("warming %s failed", name)
        error = str(problem) or type(problem).__name__
    return {
        "name": name,
        "status": "failed" if error else "done",
        "ok": error is None,
        "duration_ms": round(1000 * (monotonic() - began)),
        "error": error,
    }


def _waiting(name: str) -> WarmStep:
    return {"name": name, "status": "waiting", "ok": None, "duration_ms": None, "error": None}


def _idle(run_id: int) -> WarmJob:
    return {
        "ok": True,
        "run_id": run_id,
        "status": "idle",
        "steps": [],
        "started_at": None,
        "updated_at": None,
        "finished_at": None,
        "duration_ms": None,
        "current_step": None,
        "had_errors": False,
        "error": None,
    }


def _copy(snapshot: WarmJob) -> WarmJob:
    return {**snapshot, "steps": [step.copy() for step in snapshot["steps"]]}
