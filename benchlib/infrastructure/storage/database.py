"""Open the store, SQLite in WAL mode or PostgreSQL, and migrate it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from sqlite3 import OperationalError
from threading import Lock
from time import monotonic, sleep
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlmodel import Session

from benchlib.domain.errors import StoreError
from benchlib.infrastructure.storage.write_times import WriteTimes

_MIGRATIONS: Final = Path(__file__).parent / "migrations"
_BUSY_TIMEOUT_MS: Final = 30_000
_STALLED_MS: Final = 20_000
"""PostgreSQL ends a write transaction, and releases its locks, after being idle for so long."""

_MIGRATION_LOCK: Final = 7_316_501_182  # key of the advisory lock in PostgreSQL; any fixed number

_MIGRATING = Lock()  # Alembic has one context for the whole process


class Store:
    """One database. Each unit of work opens a session of its own, in its own thread."""

    def __init__(self, engine: Engine) -> None:
        self.write_times: Final = WriteTimes()
        self._engine = engine
        self._writer = engine.execution_options(benchlib_write=True)

    @property
    def dialect(self) -> str:
        """Either `sqlite` or `postgresql`."""
        return self._engine.dialect.name

    @property
    def database(self) -> str:
        """Where the data is, without credentials; for people to read."""
        url = self._engine.url
        if self.dialect == "sqlite":
            return str(url.database)
        return url.difference_update_query(["password"]).render_as_string()

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that sees one consistent state and changes nothing."""
        with _translate_errors(self.database), Session(self._engine) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction: committed at the end, rolled back on any exception."""
        began = monotonic()
        try:
            with (
                _translate_errors(self.database),
                Session(self._writer, expire_on_commit=False) as session,
                session.begin(),
            ):
                yield session
        finally:
            self.write_times.note(monotonic() - began)

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


def open_store(url: str) -> Store:
    """Open the database at `url`, bring it to this version's schema, and return it.

    Raises:
        StoreError: It cannot be reached, is not a database, or was written by a newer version.
    """
    try:
        parsed = make_url(url)
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.get_backend_name() not in ("sqlite", "postgresql"):
            raise StoreError(
                f"BENCHLIB_DB_URL names {parsed.get_backend_name()}; use sqlite or postgresql."
            )
        if parsed.get_backend_name() == "sqlite":
            engine = _sqlite_engine(parsed.database)
        else:
            engine = _postgresql_engine(parsed)
    except (ArgumentError, ValueError):  # ValueError: the port is no number
        raise StoreError(
            "BENCHLIB_DB_URL is no database URL; write sqlite:///path or "
            "postgresql://user:password@host/name."
        ) from None
    except (ModuleNotFoundError, NoSuchModuleError):
        raise StoreError("PostgreSQL needs its driver: pip install 'benchlib[postgres]'.") from None
    store = Store(engine)
    with _translate_errors(store.database):
        try:
            _migrate(engine)
        except BaseException:
            store.close()
            raise
    return store


def _sqlite_engine(database: str | None) -> Engine:
    if not database or database == ":memory:":
        raise StoreError("BENCHLIB_DB_URL needs a file: an in-memory SQLite store loses its runs.")
    path = Path(database)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"The folder {path.parent} cannot be made ({error.strerror}).") from None
    engine = create_engine(
        f"sqlite:///{database}",
        pool_size=10,
        max_overflow=40,
        hide_parameters=True,  # stored content must not reach messages or logs
        connect_args={"timeout": _BUSY_TIMEOUT_MS / 1000},
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # BEGIN is sent below
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
        _switch_to_wal(cursor)
        cursor.execute(
            "PRAGMA synchronous = FULL"
        )  # a rating reported as stored survives a power cut
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("PRAGMA cache_size = -65536")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # In SQLite a reader that starts to write can fail at once; writers queue from the start.
        writes = connection.get_execution_options().get("benchlib_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _postgresql_engine(url: URL) -> Engine:
    engine = create_engine(
        url, pool_pre_ping=True, pool_size=10, max_overflow=40, hide_parameters=True
    )

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A worker that stalls in a write must not keep others from taking over its run.
        if connection.get_execution_options().get("benchlib_write", False):
            connection.exec_driver_sql(
                f"SET LOCAL idle_in_transaction_session_timeout = {_STALLED_MS}"
            )

    return engine


def _switch_to_wal(cursor: Any) -> None:
    """Use the write-ahead log; the switch ignores the busy timeout, so wait for it here."""
    last_try = monotonic() + _BUSY_TIMEOUT_MS / 1000
    while cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except OperationalError as error:
            if "locked" not in str(error) or monotonic() > last_try:
                raise
            sleep(0.02)


def _migrate(engine: Engine) -> None:
    """Apply missing migrations, one thread at a time."""
    with _MIGRATING:
        _apply_migrations(engine)


def _apply_migrations(engine: Engine) -> None:
    known = known_revisions()
    with engine.execution_options(benchlib_write=True).begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        current = _revision(connection)
        if current == known[-1]:
            return
        if current is not None and current not in known:
            raise StoreError(
                f"The store was written by a newer benchlib (schema {current}); "
                "update benchlib, or name another store in BENCHLIB_DB_URL."
            )
        if current is None and inspect(connection).get_table_names():
            raise StoreError(
                "The database holds tables of another program; name an empty one in "
                "BENCHLIB_DB_URL."
            )
        # Slow to import, and most starts need no migration.
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def known_revisions() -> list[str]:
    """Schema revisions this version knows, oldest first: the numbers that begin the file names."""
    files = (_MIGRATIONS / "versions").glob("[0-9]*_*.py")
    return sorted(path.name.partition("_")[0] for path in files)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    row = connection.execute(text("SELECT version_num FROM alembic_version")).first()
    return None if row is None else str(row[0])


@contextmanager
def _translate_errors(database: str) -> Iterator[None]:
    """Raise what the driver reports as a StoreError that names the next step."""
    try:
        yield
    except DBAPIError as error:
        reason = str(error.orig).strip().splitlines()[0] if error.orig else str(error)
        for sign, advice in _ADVICE.items():
            if sign in reason.lower():
                raise StoreError(f"The store {database}: {reason}. {advice}") from error
        if error.connection_invalidated or not _is_our_mistake(error):
            raise StoreError(f"The store {database} does not answer: {reason}.") from error
        raise


_ADVICE: Final = {
    "not a database": "The file is damaged or is something else; it was left as it is. "
    "Restore a backup, or name another file in BENCHLIB_DB_URL.",
    "malformed": "The file is damaged; it was left as it is. Restore a backup.",
    "disk is full": "Free some space; nothing stored so far is lost.",
    "readonly": "Give this user the right to write it, or set BENCHLIB_READ_ONLY=1.",
    "unable to open": "Check that the folder exists and can be written.",
    "locked": "Another process has held it for a long time; close that one or try again.",
}


def _is_our_mistake(error: DBAPIError) -> bool:
    """Whether it is a constraint or syntax error, which concerns the caller."""
    return type(error).__name__ in {
        "IntegrityError",
        "ProgrammingError",
        "DataError",
        "InterfaceError",
    }
