"""The background thread of a process: frees runs of dead workers, executes the next run."""

import logging
import os
import socket
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchlib.domain.errors import BenchlibError, NotFound, WrongState
from benchlib.domain.records import RunRecord
from benchlib.domain.run_state import is_stale
from benchlib.domain.users import DASHBOARD
from benchlib.domain.vocabulary import RunStatus
from benchlib.infrastructure.execution.executor import (
    WorkerContext,
    execute_benchmark_run,
    finish_run,
)
from benchlib.infrastructure.storage import audit, runs

_log = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 1.0
"""How often the queue is checked for runs that another process added."""

_STOP_SECONDS: Final = 20.0


def process_name() -> str:
    """A name for this process, by which others on the same machine can tell whether it runs.

    Host, boot, process id and start time, and a random part in case these are not known.
    """
    return "/".join(
        (
            socket.gethostname(),
            _boot_id(),
            str(os.getpid()),
            _started(os.getpid()),
            uuid.uuid4().hex,
        )
    )


def is_dead(owner: str) -> bool:
    """Whether the owner is known to be dead: a process of this boot that no longer runs."""
    parts = owner.split("/")
    if len(parts) != 5:
        return False
    _, boot, process, started, _ = parts
    # Another boot may be another machine, whatever its name: only the lease can tell then.
    if not boot or boot != _boot_id() or not started:
        return False
    return _started(int(process)) != started


@dataclass
class Worker:
    """Owns the thread. `wake` it after queueing a run; `stop` it before the process ends.

    Attributes:
        after_run: Called with the id of every run that ended, in the worker's thread.
    """

    context: WorkerContext
    auto_resume: bool = False
    after_run: Callable[[int], object] | None = None
    keys: dict[int, str] = field(default_factory=dict)
    _seen: dict[int, tuple[int, float]] = field(default_factory=dict)
    _executing: int | None = None
    _wake: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread; sweeps first, so that what a crash left behind shows at once."""
        self.sweep()
        self._thread = threading.Thread(target=self._work, name="benchlib-worker", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Check the queue now."""
        self._wake.set()

    def stop(self) -> None:
        """Let requests in flight finish, leave the run resumable, end the thread."""
        self.context.stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(_STOP_SECONDS)

    @property
    def alive(self) -> bool:
        """Whether the thread runs and takes runs from the queue."""
        return self._thread is not None and self._thread.is_alive()

    def remember_key(self, run_id: int, api_key: str | None) -> None:
        """Keep a key for this run in memory only, until the run ends."""
        if api_key:
            self.keys[run_id] = api_key

    def sweep(self) -> None:
        """Mark runs of dead workers as interrupted; with `auto_resume`, queue them again."""
        with self.context.store.read() as session:
            running = runs.list_runs(session, statuses=[RunStatus.RUNNING])
        self._seen = {run.id: self._seen[run.id] for run in running if run.id in self._seen}
        for run in running:
            if run.id != self._executing and self._is_gone(run):
                self._interrupt(run)
        if self.auto_resume:
            self._requeue_interrupted()

    def _is_gone(self, run: RunRecord) -> bool:
        if run.owner is None or run.owner == self.context.owner or is_dead(run.owner):
            return True
        now = self.context.monotonic()
        heartbeat, since = self._seen.get(run.id, (-1, now))
        if heartbeat != run.heartbeat:
            self._seen[run.id] = (run.heartbeat, now)
            return False
        return is_stale(now - since, self.context.settings.lease_seconds)

    def _interrupt(self, run: RunRecord) -> None:
        reason = "The process that executed the run went away; resume to go on."
        with self.context.store.write() as session:
            if not runs.mark_interrupted(session, run, self.context.now(), reason):
                return
            run = runs.get_run(session, run.id)
        _log.warning("the worker of the run is gone", extra={"run_id": run.id})
        self.context.monitor.ended(run)

    def _requeue_interrupted(self) -> None:
        with self.context.store.write() as session:
            for run in runs.list_runs(session, statuses=[RunStatus.INTERRUPTED]):
                try:
                    runs.requeue(session, run.id)
                except (NotFound, WrongState):  # another process was faster
                    continue
                words = f"{run.model_name} on {run.dataset_name}, by BENCHLIB_AUTO_RESUME"
                audit.add_entry(
                    session, DASHBOARD.name, "resumed", "run", run.id, words, self.context.now()
                )
                _log.info("run resumed by itself", extra={"run_id": run.id})

    def _sweep_meanwhile(self) -> None:
        """Sweep during a run; trouble with other runs must not end this one."""
        try:
            self.sweep()
        except BenchlibError as problem:
            _log.error("the worker tries again", extra={"problem": str(problem)})

    def _work(self) -> None:
        while not self.context.stop.is_set():
            try:
                self.sweep()
                run_id = self._claim()
                if run_id is not None:
                    self._execute(run_id)
                    continue
            except BenchlibError as problem:  # the store cannot be reached: log it, try again
                _log.error("the worker tries again", extra={"problem": str(problem)})
            self._wake.wait(_LOOK_SECONDS)
            self._wake.clear()

    def _claim(self) -> int | None:
        with self.context.store.read() as session:
            if not runs.list_runs(session, statuses=[RunStatus.QUEUED]):
                return None
        with self.context.store.write() as session:
            return runs.claim_next(session, self.context.owner, self.context.now())

    def _execute(self, run_id: int) -> None:
        _log.info("run claimed", extra={"run_id": run_id})
        self._executing = run_id
        try:
            status = execute_benchmark_run(
                self.context, run_id, self.keys.get(run_id), housekeep=self._sweep_meanwhile
            )
        except BenchlibError:
            raise
        except Exception as problem:  # noqa: BLE001
            _log.exception("a fault of the program ended the run", extra={"run_id": run_id})
            status = finish_run(
                self.context,
                run_id,
                RunStatus.FAILED,
                f"A fault of the program ended the run ({type(problem).__name__}); what is rated "
                "is kept. Resume to go on, and report it with the log.",
            )
        finally:
            self._executing = None
        if status is not RunStatus.INTERRUPTED:
            self.keys.pop(run_id, None)
        if self.after_run is not None and not self.context.stop.is_set():
            self.after_run(run_id)


def _boot_id() -> str:
    """This boot and PID namespace (a container has its own); empty if not known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}:{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _started(process: int) -> str:
    """When a process started, in clock ticks since boot; empty if it is gone or not known."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return ""
    state, *rest = stat.rpartition(")")[2].split()
    return "" if state in "ZX" else rest[18]
