"""Back up a SQLite store while runs are writing to it, and restore it."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from sqlalchemy.engine import make_url

from benchlib.domain.errors import StoreError
from benchlib.infrastructure.storage.database import known_revisions, open_store


class Contents(NamedTuple):
    """What a store holds.

    Attributes:
        runs: Runs, in whatever state.
        results: Ratings of all runs.
    """

    runs: int
    results: int


def backup_store(url: str, target: Path) -> Contents:
    """Copy a consistent state of a store to a new file; writers are not held up.

    The copy is checked before it gets its name, so a file with that name is sound.

    Raises:
        StoreError: The store is not a SQLite file, `target` exists, or the copy failed.
    """
    source = _file(url)
    if target.exists():
        raise StoreError(f"The file {target} exists; name a new one, nothing is overwritten.")
    draft = target.with_name(f"{target.name}.part")
    try:
        with closing(_open(source)) as store, closing(sqlite3.connect(draft)) as copy:
            store.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, no separate log
        contents = _check(draft)
        os.replace(draft, target)
    except (sqlite3.Error, OSError) as problem:
        raise StoreError(f"The backup {target} could not be made: {problem}.") from None
    finally:
        draft.unlink(missing_ok=True)
    return contents


def restore_store(source: Path, url: str) -> Contents:
    """Make a new store from a backup and migrate it to this version's schema.

    Raises:
        StoreError: `source` is not a benchlib backup, or a store exists already: it is never
            overwritten, so move it away first.
    """
    target = _file(url)
    if target.exists():
        raise StoreError(
            f"There is a store at {target}; stop the dashboard and move that file away with those "
            "whose names begin like it, then restore again. Nothing was overwritten."
        )
    draft = target.with_name(f"{target.name}.part")
    try:
        _check(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        with closing(_open(source)) as backup, closing(sqlite3.connect(draft)) as copy:
            backup.backup(copy)
        contents = _check(draft)
        os.replace(draft, target)
    except (sqlite3.Error, OSError) as problem:
        raise StoreError(f"The backup {source} could not be restored: {problem}.") from None
    finally:
        draft.unlink(missing_ok=True)
    open_store(url).close()
    return contents


def _file(url: str) -> Path:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        raise StoreError(
            "Only SQLite stores are backed up here; for PostgreSQL use pg_dump --format=custom and "
            "pg_restore, which also work while runs are writing."
        )
    return Path(parsed.database)


def _open(path: Path) -> sqlite3.Connection:
    """Open an existing file, for reading only."""
    if not path.is_file():
        raise StoreError(f"There is no file {path}.")
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=30)


def _check(path: Path) -> Contents:
    """Check that a file is a complete benchlib store.

    Raises:
        StoreError: It is not.
        sqlite3.Error: It is not a database.
    """
    with closing(_open(path)) as store:
        (verdict,) = store.execute("PRAGMA integrity_check").fetchone()
        if verdict != "ok":
            raise StoreError(f"The file {path} is damaged: {verdict}.")
        try:
            (revision,) = store.execute("SELECT version_num FROM alembic_version").fetchone()
            (n_runs,) = store.execute("SELECT COUNT(*) FROM benchmarkrun").fetchone()
            (n_results,) = store.execute("SELECT COUNT(*) FROM benchmarkresult").fetchone()
        except (sqlite3.OperationalError, TypeError):
            raise StoreError(f"The file {path} is no store of benchlib.") from None
    if revision not in known_revisions():
        raise StoreError(f"The file {path} was written by a newer benchlib; update benchlib.")
    return Contents(n_runs, n_results)
