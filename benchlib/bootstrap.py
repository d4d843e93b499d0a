"""Wiring: settings -> store -> worker -> services, once per process; tests replace the parts."""

import logging
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from subprocess import DEVNULL, CalledProcessError, run
from time import monotonic
from typing import Any, Final

import benchlib
from benchlib.application.benchmark_service import BenchmarkService
from benchlib.application.dataset_service import DatasetService
from benchlib.domain.errors import BenchlibError
from benchlib.domain.users import API_TOKEN, DASHBOARD, NOBODY, OWNER
from benchlib.infrastructure.cache_warming import stop_warm_cache_jobs
from benchlib.infrastructure.execution.executor import WorkerContext
from benchlib.infrastructure.execution.run_monitor import RunMonitor
from benchlib.infrastructure.execution.worker import Worker, process_name
from benchlib.infrastructure.logs import set_up_logs
from benchlib.infrastructure.notifications import Notifier
from benchlib.infrastructure.storage.database import Store, open_store
from benchlib.settings import Settings, get_settings


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything one process has one of."""

    store: Store
    worker: Worker | None
    service: BenchmarkService
    datasets: DatasetService
    notifier: Notifier


_LAST_WORDS_SECONDS: Final = 3.0
"""How long a stop waits for notifications that are being sent."""

_log = logging.getLogger(__name__)

_LOCK = threading.Lock()  # there is at most one set of parts, and so one worker, in a process
_parts: list[Parts] = []


def check_start() -> None:
    """Exit with one sentence if a setting is wrong or the store cannot be opened."""
    try:
        Notifier(get_settings())
        open_store(get_settings().store_url).close()
    except BenchlibError as problem:
        sys.exit(f"benchlib cannot start. {problem}")


def get_service() -> BenchmarkService:
    """The process's benchmark service; built at the first call.

    Where users log in, it acts for nobody until `acting_as` names a user.
    """
    return get_parts().service


def get_api_service() -> BenchmarkService:
    """The benchmark service for the API, acting for the token where one is set.

    If a token is set, the guard in front of the API allows no write without it; where there are
    users, no read either.
    """
    service = get_service()
    return service if get_settings().api_token is None else service.acting_as(API_TOKEN)


def get_dataset_service() -> DatasetService:
    """The process's dataset service; acts for nobody as `get_service` does."""
    return get_parts().datasets


def get_parts() -> Parts:
    """The process's parts; the first call opens the store, loads sample data, starts the worker.

    Raises:
        InvalidSetting: A setting is wrong.
        StoreError: The store cannot be opened.
    """
    with _LOCK:
        if not _parts:
            _parts.append(build(get_settings()))
        return _parts[0]


def build(settings: Settings) -> Parts:
    """Build the parts; the caller must `close` them."""
    notifier = Notifier(settings)
    store = open_store(settings.store_url)
    user = OWNER if settings.auth is None else NOBODY
    datasets = DatasetService(store, read_only=settings.read_only, user=user)
    worker = None
    if not settings.read_only:
        datasets.acting_as(DASHBOARD).load_sample_data()
        worker = Worker(
            WorkerContext(
                store=store,
                settings=settings,
                owner=process_name(),
                stop=threading.Event(),
                now=lambda: datetime.now(UTC),
                monotonic=monotonic,
                git_commit=_git_commit(),
                monitor=RunMonitor(notifier.notify, settings.stall_seconds),
            ),
            auto_resume=settings.auto_resume,
        )
    service = BenchmarkService(store, worker, settings, user)
    if worker is not None:
        worker.after_run = service.acting_as(DASHBOARD).analysis.start_warm_cache
        worker.start()
    return Parts(store, worker, service, datasets, notifier)


def close(parts: Parts) -> None:
    """Stop the worker, leaving its run resumable; stop what it started; close the store."""
    if parts.worker is not None:
        parts.worker.stop()
        parts.notifier.close(_LAST_WORDS_SECONDS)
    stop_warm_cache_jobs()
    parts.service.close()


@asynccontextmanager
async def lifespan(_app: Any) -> AsyncIterator[None]:
    """Own the parts for as long as the app runs, and close them in order, also on SIGTERM."""
    set_up_logs(get_settings().log_format)
    parts = get_parts()
    _log.info(
        "dashboard started",
        extra={
            "version": benchlib.__version__,
            "store": parts.store.dialect,
            "read_only": parts.service.read_only,
        },
    )
    try:
        yield
    finally:
        with _LOCK:
            while _parts:
                close(_parts.pop())
        _log.info("dashboard stopped")


def _git_commit() -> str | None:
    """The commit of this code, if it runs from a checkout."""
    try:
        found = run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(benchlib.__file__).parent,
            capture_output=True,
            text=True,
            stdin=DEVNULL,
            check=True,
            timeout=5,
        )
    except (OSError, CalledProcessError, TimeoutError):
        return None
    return found.stdout.strip()
