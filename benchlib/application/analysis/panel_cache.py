"""Panels are computed once per content of a run, then cached in the store.

A panel of an active run is computed at every call; that of a run that has ended is computed once
and stored under a key that holds everything its content depends on.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypedDict, TypeVar, cast

from benchlib.application.analysis.panels import Panel
from benchlib.application.analysis.queries import Query
from benchlib.domain.records import RunRecord
from benchlib.domain.run_state import ACTIVE
from benchlib.infrastructure.loading import data_loader, snapshots
from benchlib.infrastructure.loading.data_loader import LoadedRun
from benchlib.infrastructure.storage import answer_blocks, benchmark_cache, runs
from benchlib.infrastructure.storage.database import Store
from benchlib.settings import Settings

_Query = TypeVar("_Query", bound=Query)
_Payload = TypeVar("_Payload")


class CacheCleared(TypedDict):
    """How many cached panels and snapshots were deleted."""

    ok: bool
    deleted: int
    snapshots: int


class PanelCache:
    """Loads runs and computes their panels, each once; stores nothing where it is read-only."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._snapshot_folder: Path = settings.data_dir / "snapshots"
        self._read_only = settings.read_only
        self._computing = _OneAtATime()

    def load(self, run: RunRecord) -> LoadedRun:
        """A run's answers, from memory, a snapshot or the store."""
        return data_loader.load_run_cached(
            self._store, run, self._snapshot_folder, write=not self._read_only
        )

    def get(
        self, panel: Panel[LoadedRun, _Query, _Payload], run_id: int, query: _Query
    ) -> _Payload:
        """The cached panel of a run that has ended, else the computed one."""
        return self._get(
            panel.name, query, [run_id], lambda loaded: panel.compute(loaded[0], query)
        )

    def get_of_runs(
        self,
        panel: Panel[Sequence[LoadedRun], _Query, _Payload],
        run_ids: Sequence[int],
        query: _Query,
    ) -> _Payload:
        """The same of several runs; it is stored with the first, under the content of all."""
        return self._get(panel.name, query, run_ids, lambda loaded: panel.compute(loaded, query))

    def clear(self, run_id: int) -> CacheCleared:
        """Delete every cached panel and snapshot of a run; they are computed again on demand."""
        deleted = benchmark_cache.clear_cached(self._store, run_id)
        return {"ok": True, "deleted": deleted, "snapshots": self.forget_run(run_id)}

    def forget_run(self, run_id: int) -> int:
        """Drop a run from memory and its snapshots from disk; return how many those were."""
        data_loader.forget_run(self._store, run_id)
        return snapshots.delete_snapshots(self._snapshot_folder, self._store.database, run_id)

    def _get(
        self,
        name: str,
        query: Query,
        run_ids: Sequence[int],
        compute: Callable[[Sequence[LoadedRun]], _Payload],
    ) -> _Payload:
        with self._store.read() as session:
            found = [runs.get_run(session, run_id) for run_id in run_ids]
            digests = [
                answer_blocks.fetch_trait_digest(session, run.config.trait_ids) for run in found
            ]
        if any(run.status in ACTIVE for run in found):
            return compute([self.load(run) for run in found])
        keep = not self._read_only
        counts = [benchmark_cache.result_row_count(self._store, run, keep=keep) for run in found]
        first, *others = zip(found, counts, digests, strict=True)
        parameters = query.model_dump(mode="json")
        if others:
            parameters["compared_with"] = [
                benchmark_cache.cache_key(run, name, {}, n_rows, digest)
                for run, n_rows, digest in others
            ]
        run, n_rows, digest = first
        key = benchmark_cache.cache_key(run, name, parameters, n_rows, digest)
        cached = benchmark_cache.get_cached(self._store, key)
        if cached is not None:
            return cast(_Payload, cached)
        with self._computing.of(key) as is_first:
            if not is_first:  # another thread has just computed it
                cached = benchmark_cache.get_cached(self._store, key)
                if cached is not None:
                    return cast(_Payload, cached)
            loaded = [self.load(run) for run in found]
            value = compute(loaded)
            unchanged = all(
                now.run.data_version == run.data_version
                for now, run in zip(loaded, found, strict=True)
            )
            if keep and unchanged:
                now = datetime.now(UTC)
                benchmark_cache.put_cached(self._store, key, run_ids[0], name, value, now)
            return value


class _OneAtATime:
    """Lets one thread compute a panel while others that ask for the same one wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # a key has a lock exactly as long as a thread wants it
        self._wanted: dict[str, tuple[threading.Lock, int]] = {}

    @contextmanager
    def of(self, key: str) -> Iterator[bool]:
        """Hold the key; yields whether no other thread held it in the meantime."""
        with self._lock:
            lock, waiting = self._wanted.get(key, (threading.Lock(), 0))
            self._wanted[key] = (lock, waiting + 1)
        try:
            with lock:
                yield waiting == 0
        finally:
            with self._lock:
                lock, waiting = self._wanted.pop(key)
                if waiting > 1:
                    self._wanted[key] = (lock, waiting - 1)
