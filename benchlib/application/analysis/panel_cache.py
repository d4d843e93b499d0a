"""Panels are computed once per content of a run, and kept.

Panels of a run that is active are computed at every call; those of a final run are computed once
and kept under a key that holds everything their content depends on.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar, cast

from benchlib.application.analysis.panel_payloads import (
    CacheCleared,
)
from benchlib.application.permissions import ActingService, needs
from benchlib.domain.material.composition import Composition, dataset_composition
from benchlib.domain.records import RunRecord
from benchlib.domain.run_state import ACTIVE
from benchlib.domain.users import OWNER, Role, User
from benchlib.infrastructure.cache_warming import (
    WarmJob,
    warm_job_snapshot,
)
from benchlib.infrastructure.loading import data_loader, snapshots
from benchlib.infrastructure.loading.data_loader import LoadedRun
from benchlib.infrastructure.storage import answer_blocks, benchmark_cache, datasets, runs
from benchlib.infrastructure.storage.database import Store
from benchlib.settings import Settings

_Panel = TypeVar("_Panel")


class KeptPanels(ActingService):
    """Reads the store; writes kept panels and snapshots, and nothing where it is read-only."""

    def __init__(self, store: Store, settings: Settings, user: User = OWNER) -> None:
        super().__init__(user, settings.read_only)
        self._store = store
        self._settings = settings
        self._computing = _OneAtATime()

    def get_warm_cache(self, run_id: int) -> WarmJob:
        """Where the newest warm-up of a run stands."""
        self._current(run_id)
        return warm_job_snapshot(run_id, store=self._store.database)

    @needs(Role.RESEARCHER, "clear what is kept of a run")
    def clear_cache(self, run_id: int) -> CacheCleared:
        """Forget every kept panel and snapshot of a run; they come back when asked for."""
        self._current(run_id)
        deleted = benchmark_cache.clear_cached(self._store, run_id)
        return {"ok": True, "deleted": deleted, "snapshots": self._forget_run(run_id)}

    def _forget_run(self, run_id: int) -> int:
        """Drop a run from memory and its snapshots from disk; return how many those were."""
        data_loader.forget_run(self._store, run_id)
        return snapshots.delete_snapshots(self._snapshot_folder, self._store.database, run_id)

    @property
    def _snapshot_folder(self) -> Path:
        return self._settings.data_dir / "snapshots"

    def _current(self, run_id: int) -> RunRecord:
        with self._store.read() as session:
            return runs.get_run(session, run_id)

    def get_composition(self, run_id: int) -> Composition:
        """What the personas of a run are made of; kept, because reading them all takes a while."""
        with self._store.read() as session:
            run = runs.get_run(session, run_id)
            dataset = datasets.get_dataset(session, run.dataset_id)
        key = benchmark_cache.composition_key(dataset)
        kept = benchmark_cache.get_cached(self._store, key)
        if kept is not None:
            return cast(Composition, kept)
        personas = data_loader.load_personas_cached(self._store, run.dataset_id)
        with self._store.read() as session:
            n_copies = len(datasets.load_links(session, run.dataset_id))
        composition = dataset_composition(personas, n_copies)
        if not self.read_only:
            benchmark_cache.put_cached(
                self._store,
                key,
                run_id,
                benchmark_cache.COMPOSITION_PANEL,
                composition,
                datetime.now(UTC),
            )
        return composition

    def _attributes(self, run: RunRecord) -> list[str]:
        return [found["attribute"] for found in self.get_composition(run.id)["attributes"]]

    def _load(self, run: RunRecord) -> LoadedRun:
        write = not self.read_only
        return data_loader.load_run_cached(self._store, run, self._snapshot_folder, write=write)

    def _panel(
        self,
        run_id: int,
        panel: str,
        parameters: Mapping[str, Any],
        compute: Callable[[LoadedRun], _Panel],
    ) -> _Panel:
        """The kept panel of a final run, else the computed one; active runs are read live."""
        return self._panel_of([run_id], panel, parameters, lambda loaded: compute(loaded[0]))

    def _panel_of(
        self,
        run_ids: Sequence[int],
        panel: str,
        parameters: Mapping[str, Any],
        compute: Callable[[Sequence[LoadedRun]], _Panel],
    ) -> _Panel:
        """The same of several runs; it is kept with the first, under the content of all."""
        with self._store.read() as session:
            found = [runs.get_run(session, run_id) for run_id in run_ids]
            digests = [
                answer_blocks.fetch_trait_digest(session, run.config.trait_ids) for run in found
            ]
        if any(run.status in ACTIVE for run in found):
            return compute([self._load(run) for run in found])
        keep = not self.read_only
        counts = [benchmark_cache.result_row_count(self._store, run, keep=keep) for run in found]
        described = list(zip(found, counts, digests, strict=True))
        beside = [
            benchmark_cache.cache_key(run, panel, {}, n_rows, digest)
            for run, n_rows, digest in described[1:]
        ]
        chosen = {**parameters, "beside": beside} if beside else parameters
        key = benchmark_cache.cache_key(found[0], panel, chosen, counts[0], digests[0])
        kept = benchmark_cache.get_cached(self._store, key)
        if kept is not None:
            return cast(_Panel, kept)
        with self._computing.of(key) as first:
            if not first:  # another thread has just computed it
                kept = benchmark_cache.get_cached(self._store, key)
                if kept is not None:
                    return cast(_Panel, kept)
            loaded = [self._load(run) for run in found]
            value = compute(loaded)
            same = all(
                now.run.data_version == run.data_version
                for now, run in zip(loaded, found, strict=True)
            )
            if keep and same:
                benchmark_cache.put_cached(
                    self._store, key, run_ids[0], panel, value, datetime.now(UTC)
                )
            return value


class _OneAtATime:
    """Lets one thread compute a panel while others that want the same one wait for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # a key has a lock exactly as long as somebody wants it
        self._wanted: dict[str, tuple[threading.Lock, int]] = {}

    @contextmanager
    def of(self, key: str) -> Iterator[bool]:
        """Hold the key; gives whether nobody else had it in the meantime."""
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
