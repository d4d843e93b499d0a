"""Computed panels, cached in the store with their run; a key that matches is never stale."""

import hashlib
import logging
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from sqlalchemy import func
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, delete, select

from benchlib.domain.records import DatasetRecord, RunRecord
from benchlib.infrastructure.lru import Lru
from benchlib.infrastructure.storage.database import Store
from benchlib.infrastructure.storage.models import BenchCache, BenchmarkResult

_log = logging.getLogger(__name__)

ANALYSIS_VERSION: Final = "11"
"""Raise it whenever a panel may give other numbers for the same data."""

COMPOSITION_PANEL: Final = "composition"
"""Name of the entry that holds the composition of a run's dataset."""

ROW_COUNT_PANEL: Final = "row count"
"""Name of the entry that holds `result_row_count`."""

_COUNTS: Final[Lru[str, int]] = Lru(1_000)


def cache_key(
    run: RunRecord,
    panel: str,
    parameters: Mapping[str, Any],
    n_rows: int,
    traits: str = "",
) -> str:
    """The key of a panel: a hash of everything its content depends on.

    The run's data version grows with every change of its ratings, including edits by hand, so
    edited ratings and resumed runs get new keys.

    Args:
        run: The run as it is now.
        panel: Name of the panel.
        parameters: Every choice that changes its content; must survive JSON.
        n_rows: `result_row_count`.
        traits: `fetch_trait_digest` of the traits as the store has them now.
    """
    parts = [
        ANALYSIS_VERSION,
        run.id,
        run.data_version,
        n_rows,
        run.dataset_id,
        run.total,
        run.done,
        run.failed,
        run.status.value,
        run.simulated,
        run.config.seed,
        run.config.language,
        run.config.trait_ids,
        traits,
        dict(run.tally),
        panel,
        dict(parameters),
    ]
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()


def composition_key(dataset: DatasetRecord) -> str:
    """The key of a dataset's composition; its content hash covers every persona."""
    parts = [ANALYSIS_VERSION, COMPOSITION_PANEL, dataset.content_hash]
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()


def result_row_count(store: Store, run: RunRecord, *, keep: bool = True) -> int:
    """How many ratings the run has; counted once per data version.

    Counting a million rows takes a tenth of a second, so the count is cached in memory and, unless
    `keep` is False, in the store.
    """
    key = _count_key(store, run)
    count = _COUNTS.get(key)
    if count is None:
        stored = get_cached(store, key)
        count = stored if isinstance(stored, int) else _count(store, run.id)
        if keep and stored != count:
            put_cached(store, key, run.id, ROW_COUNT_PANEL, count, datetime.now(UTC))
        _COUNTS.put(key, count)
    return count


def get_cached(store: Store, key: str) -> Any | None:
    """The panel with this key, or None; one that cannot be read is logged and counts as missing."""
    with store.read() as session:
        payload = session.exec(select(BenchCache.payload).where(BenchCache.key == key)).first()
    if payload is None:
        return None
    try:
        return orjson.loads(zlib.decompress(payload))
    except (zlib.error, orjson.JSONDecodeError) as problem:
        _log.warning("cached panel %s cannot be read (%s); computing it again", key[:12], problem)
        return None


def put_cached(store: Store, key: str, run_id: int, panel: str, value: Any, now: datetime) -> None:
    """Store a panel; an existing entry (an unreadable one, say) is replaced."""
    payload = zlib.compress(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY), 1)
    try:
        with store.write() as session:
            session.exec(delete(BenchCache).where(col(BenchCache.key) == key))
            session.add(
                BenchCache(key=key, run_id=run_id, panel=panel, payload=payload, created_at=now)
            )
    except IntegrityError:
        _log.info(
            "panel %s of run %d was stored by another process, or its run was deleted",
            panel,
            run_id,
        )


def clear_cached(store: Store, run_id: int) -> int:
    """Delete every cached panel of a run; return how many there were."""
    _COUNTS.clear()
    with store.write() as session:
        of_run = col(BenchCache.run_id) == run_id
        helpers = col(BenchCache.panel).in_([COMPOSITION_PANEL, ROW_COUNT_PANEL])
        session.exec(delete(BenchCache).where(of_run, helpers))
        return int(session.exec(delete(BenchCache).where(of_run)).rowcount)


def _count(store: Store, run_id: int) -> int:
    with store.read() as session:
        query = select(func.count()).where(col(BenchmarkResult.run_id) == run_id)
        return int(session.exec(query).one())


def _count_key(store: Store, run: RunRecord) -> str:
    """Times of the run are part of it, in case another database took the name of this one."""
    times = [run.created_at, run.started_at]
    parts = [
        ROW_COUNT_PANEL,
        store.database,
        run.id,
        run.data_version,
        run.done,
        *map(str, times),
    ]
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()
