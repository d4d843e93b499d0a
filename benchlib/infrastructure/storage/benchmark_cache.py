"""Computed panels, kept beside the run they describe; a key that fits can never be stale."""

import hashlib
import logging
import zlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import orjson
from sqlalchemy import func
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, delete, select

from benchlib.domain.results import RunRecord
from benchlib.infrastructure.storage.engine import Store
from benchlib.infrastructure.storage.models import BenchCache, BenchmarkResult

_log = logging.getLogger(__name__)

ANALYSIS_VERSION: Final = "1"
"""Changes whenever any number of any panel may change for the same data."""

_COUNTS: dict[tuple[str, int, int], int] = {}


def cache_key(run: RunRecord, panel: str, parameters: Mapping[str, Any], n_rows: int) -> str:
    """Name a panel by everything its content depends on.

    The run's data version grows with every change of its ratings, so edited ratings and resumed
    runs make new keys; the traits are part of the frozen configuration.
    """
    parts = [
        ANALYSIS_VERSION,
        run.id,
        run.data_version,
        n_rows,
        run.total,
        run.failed,
        run.status.value,
        run.config.trait_ids,
        panel,
        dict(parameters),
    ]
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()


def result_row_count(store: Store, run: RunRecord) -> int:
    """How many ratings the run has; counted once per data version."""
    key = (store.database, run.id, run.data_version)
    if key not in _COUNTS:
        with store.read() as session:
            count = session.exec(
                select(func.count()).where(col(BenchmarkResult.run_id) == run.id)
            ).one()
        if len(_COUNTS) > 1_000:
            _COUNTS.clear()
        _COUNTS[key] = int(count)
    return _COUNTS[key]


def get_cached(store: Store, key: str) -> Any | None:
    """The panel of this key, or None; one that cannot be read is a logged miss."""
    with store.read() as session:
        entry = session.get(BenchCache, key)
        payload = None if entry is None else entry.payload
    if payload is None:
        return None
    try:
        return orjson.loads(zlib.decompress(payload))
    except (zlib.error, orjson.JSONDecodeError) as problem:
        _log.warning("cached panel %s cannot be read (%s); computing it again", key[:12], problem)
        return None


def put_cached(store: Store, key: str, run_id: int, panel: str, value: Any, now: datetime) -> None:
    """Keep a panel; an entry that is there already (an unreadable one, say) is replaced."""
    payload = zlib.compress(orjson.dumps(value), 1)
    try:
        with store.write() as session:
            session.exec(delete(BenchCache).where(col(BenchCache.key) == key))
            session.add(
                BenchCache(key=key, run_id=run_id, panel=panel, payload=payload, created_at=now)
            )
    except IntegrityError:
        _log.info("panel %s of run %d was kept by another process or lost its run", panel, run_id)


def clear_cached(store: Store, run_id: int) -> int:
    """Forget every panel of a run; return how many there were."""
    with store.write() as session:
        return int(
            session.exec(delete(BenchCache).where(col(BenchCache.run_id) == run_id)).rowcount
        )
