"""Compositions of datasets, computed once per content and cached in memory and in the store."""

from datetime import UTC, datetime
from typing import Final, cast

from benchlib.domain.material.composition import Composition, dataset_composition
from benchlib.domain.records import DatasetRecord
from benchlib.infrastructure.loading import data_loader
from benchlib.infrastructure.lru import Lru
from benchlib.infrastructure.storage import benchmark_cache, datasets
from benchlib.infrastructure.storage.database import Store

_MAX_ENTRIES: Final = 64

_MEMORY: Final[Lru[tuple[str, str], Composition]] = Lru(_MAX_ENTRIES)


def load_composition(
    store: Store, dataset: DatasetRecord, *, run_id: int | None = None
) -> Composition:
    """The composition of a dataset; reading all personas takes a while, so it is cached.

    Args:
        store: The store of the dataset.
        dataset: The dataset.
        run_id: A run on this dataset, with which the composition is stored; None stores
            nothing.
    """
    known = _MEMORY.get((store.database, dataset.content_hash))
    if known is not None:
        return known
    key = benchmark_cache.composition_key(dataset)
    composition = cast(Composition | None, benchmark_cache.get_cached(store, key))
    if composition is None:
        personas = data_loader.load_personas_cached(store, dataset.id)
        with store.read() as session:
            n_copies = len(datasets.load_links(session, dataset.id))
        composition = dataset_composition(personas, n_copies)
        if run_id is not None:
            panel, now = benchmark_cache.COMPOSITION_PANEL, datetime.now(UTC)
            benchmark_cache.put_cached(store, key, run_id, panel, composition, now)
    remember_composition(store, dataset, composition)
    return composition


def remember_composition(store: Store, dataset: DatasetRecord, composition: Composition) -> None:
    """Add a composition to the memory of this process."""
    _MEMORY.put((store.database, dataset.content_hash), composition)


def forget_compositions() -> None:
    """Drop every composition from memory; for tests."""
    _MEMORY.clear()
