import sqlite3
import threading

import pytest
from sqlalchemy import text

from benchlib.domain.errors import StoreError
from benchlib.infrastructure.storage import database, runs
from benchlib.infrastructure.storage.database import open_store
from tests.samples import NOW, add_run, claim, get_run


def test_a_new_store_has_the_newest_schema_and_opens_again(tmp_path):
    url = f"sqlite:///{tmp_path / 'deep' / 'store.db'}"
    for _ in range(2):
        store = open_store(url)
        with store.read() as session:
            assert session.connection().execute(text("SELECT count(*) FROM trait")).scalar() == 0
            version = session.connection().execute(text("SELECT version_num FROM alembic_version"))
            assert version.scalar() == database.known_revisions()[-1]
        store.close()


def test_sqlite_runs_in_wal_with_foreign_keys_and_a_busy_timeout(store):
    with store.read() as session:
        ask = session.connection().exec_driver_sql
        assert ask("PRAGMA journal_mode").scalar() == "wal"
        assert ask("PRAGMA foreign_keys").scalar() == 1
        assert ask("PRAGMA busy_timeout").scalar() == 30_000
        assert ask("PRAGMA synchronous").scalar() == 2  # FULL


def test_models_and_migrations_describe_the_same_tables(any_store):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from sqlmodel import SQLModel

    from benchlib.infrastructure.storage import models

    assert models.BenchmarkRun
    with any_store.read() as session:
        context = MigrationContext.configure(session.connection(), opts={"compare_type": False})
        assert compare_metadata(context, SQLModel.metadata) == []


def test_a_file_that_is_no_database_is_reported_and_left_alone(tmp_path):
    path = tmp_path / "store.db"
    path.write_bytes(b"precious notes " * 500)
    with pytest.raises(StoreError, match=r"file is not a database.*left as it is"):
        open_store(f"sqlite:///{path}")
    assert path.read_bytes() == b"precious notes " * 500


def test_a_store_of_a_newer_version_is_refused(tmp_path):
    path = tmp_path / "store.db"
    open_store(f"sqlite:///{path}").close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(StoreError, match=r"newer benchlib \(schema 9999\); update benchlib"):
        open_store(f"sqlite:///{path}")


def test_a_database_of_another_program_is_refused(tmp_path):
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE recipes (id INTEGER)")
    connection.close()
    with pytest.raises(StoreError, match="tables of another program"):
        open_store(f"sqlite:///{path}")


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("mysql://host/name", "use sqlite or postgresql"),
        ("nonsense", "is no database URL"),
        ("sqlite://", "needs a file"),
        ("postgresql://nobody:secret@127.0.0.1:1/none", "does not answer"),
    ],
)
def test_a_wrong_url_is_reported_without_its_password(url, sentence):
    with pytest.raises(StoreError, match=sentence) as raised:
        open_store(url)
    assert "secret" not in str(raised.value)


def test_a_write_is_rolled_back_whole(any_store):
    def write_half():
        with any_store.write() as session:
            session.connection().execute(text("INSERT INTO model (name) VALUES ('half')"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half()
    with any_store.read() as session:
        assert session.connection().execute(text("SELECT count(*) FROM model")).scalar() == 0


def test_two_processes_worth_of_first_starts_at_once_make_one_store(tmp_path):
    url = f"sqlite:///{tmp_path / 'store.db'}"
    ready = threading.Barrier(4)
    failures = []

    def start():
        ready.wait()
        try:
            open_store(url).close()
        except Exception as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_writers_in_many_threads_wait_for_each_other(any_store):
    def add(number):
        for step in range(20):
            with any_store.write() as session:
                session.connection().execute(
                    text("INSERT INTO model (name) VALUES (:name)"), {"name": f"{number}-{step}"}
                )

    threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with any_store.read() as session:
        assert session.connection().execute(text("SELECT count(*) FROM model")).scalar() == 80


def test_the_known_revisions_are_those_of_alembic():
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(database._MIGRATIONS))
    walked = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert database.known_revisions() == walked[::-1]


@pytest.mark.postgres
def test_a_writer_that_stalls_releases_its_locks(postgres_url, monkeypatch):
    store = open_store(postgres_url)  # migrating and adding a run may take longer than 300 ms
    run_id = add_run(store)
    claim(store, "stalled")
    store.close()
    monkeypatch.setattr(database, "_STALLED_MS", 300)
    store = open_store(postgres_url)

    def stall():
        with store.write() as stalled:
            assert runs.renew(stalled, run_id, "stalled", changed=False, values={})
            with store.write() as session:
                run = runs.get_run(session, run_id)
                assert runs.mark_interrupted(session, run, NOW, "It stalled.")
            runs.get_run(stalled, run_id)

    with pytest.raises(StoreError, match="does not answer"):
        stall()
    assert get_run(store, run_id).status == "interrupted"
    store.close()
