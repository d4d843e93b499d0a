"""Full disks, locked, damaged and read-only files, and copies: what is stored stays."""

import asyncio
import shutil
import sqlite3
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import event, text

from benchlib import cli
from benchlib.domain.errors import StoreError
from benchlib.infrastructure.execution.executor import execute_benchmark_run
from benchlib.infrastructure.execution.timing import Timing
from benchlib.infrastructure.storage import database, runs
from benchlib.infrastructure.storage.backup import backup_store, restore_store
from benchlib.infrastructure.storage.database import open_store
from benchlib.settings import get_settings
from tests.samples import add_run, claim, get_run, worker_context
from tests.scripted_client import ScriptedClient

FIXTURES = Path(__file__).parents[2] / "fixtures"


def keys(store, run_id):
    with store.read() as session:
        found = session.connection().execute(
            text(
                "SELECT persona_id, trait_id, scale_order, rating_raw FROM benchmarkresult "
                "WHERE run_id = :run"
            ),
            {"run": run_id},
        )
        return sorted(tuple(row) for row in found)


def intact(store):
    with store.read() as session:
        return session.connection().execute(text("PRAGMA integrity_check")).scalar() == "ok"


def execute_acting(store, client, run_id, acts):
    """Execute; at the n-th wait of the execution, which takes no time, `acts[n]` is called."""
    turns = iter(acts)

    async def wait(_stopping, _seconds):
        act = next(turns, None)
        if act is not None:
            act()
        await asyncio.sleep(0)

    status = execute_benchmark_run(replace(worker_context(store, client), wait=wait), run_id)
    assert next(turns, "all") == "all", "the run did not wait as often as it should have"
    return status


class Meddling(ScriptedClient):
    """Does something once, when ten questions have been asked."""

    act = None

    async def ask(self, questions):
        if len(self.asked) >= 10 and self.act is not None:
            act, self.act = self.act, None
            act()
        return await super().ask(questions)


def full_disk(store):
    """Make every connection believe the disk is full; returns what frees it again."""
    limited = []

    @event.listens_for(store._engine, "checkout")
    def limit(connection, _record, _proxy):
        cursor = connection.cursor()
        pages = cursor.execute("PRAGMA page_count").fetchone()[0] if not limited else limited[0]
        limited.append(pages)
        cursor.execute(f"PRAGMA max_page_count = {limited[0]}")
        cursor.close()

    def free():
        event.remove(store._engine, "checkout", limit)

        @event.listens_for(store._engine, "checkout")
        def unlimited(connection, _record, _proxy):
            cursor = connection.cursor()
            cursor.execute("PRAGMA max_page_count = 4294967294")
            cursor.close()

    return free


def test_a_run_waits_for_space_on_a_full_disk_and_loses_nothing(store):
    run_id = add_run(store, 300, 4)
    claim(store)
    client = Meddling(batch_size=8)
    frees = []
    client.act = lambda: frees.append(full_disk(store))
    acts = [lambda: None, lambda: None, lambda: frees[0]()]
    assert execute_acting(store, client, run_id, acts) == "done"
    run = get_run(store, run_id)
    found = keys(store, run_id)
    assert len(found) == len({key[:3] for key in found}) == run.done == run.total == 1_800
    assert len(client.asked) == run.total  # nothing was asked twice
    assert intact(store)


def test_a_run_that_finds_no_space_stays_resumable(store):
    run_id = add_run(store, 300, 4)
    claim(store)
    client = Meddling(batch_size=8)
    frees = []
    client.act = lambda: frees.append(full_disk(store))
    context = replace(worker_context(store, client), timing=Timing(store_patience_seconds=-1))
    assert execute_benchmark_run(context, run_id) == "failed"
    run = get_run(store, run_id)
    assert "Free some space; nothing stored so far is lost" in run.error
    kept = keys(store, run_id)
    assert 0 < len(kept) == run.done < run.total  # what was reported is there
    frees[0]()
    with store.write() as session:
        runs.requeue(session, run_id)
    assert claim(store) == run_id
    assert execute_benchmark_run(worker_context(store, ScriptedClient()), run_id) == "done"
    found = keys(store, run_id)
    assert set(kept) <= set(found)
    assert len(found) == 1_800
    assert intact(store)


def executor_now():
    return worker_context(None, ScriptedClient()).now()


def test_a_run_outlasts_a_writer_that_holds_the_store_for_longer_than_its_timeout(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(database, "_BUSY_TIMEOUT_MS", 30)
    store = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    run_id = add_run(store, 60, 4)
    claim(store)
    other = sqlite3.connect(tmp_path / "store.db", check_same_thread=False, isolation_level=None)
    client = Meddling()
    client.act = lambda: other.execute("BEGIN IMMEDIATE")  # in the loop's thread
    acts = [lambda: None, lambda: None, lambda: other.execute("COMMIT")]
    assert execute_acting(store, client, run_id, acts) == "done"
    assert len(client.asked) == get_run(store, run_id).done == 360
    other.close()
    store.close()


def test_a_damaged_file_is_reported_and_never_overwritten(tmp_path):
    path = tmp_path / "store.db"
    store = open_store(f"sqlite:///{path}")
    add_run(store, 200, 4)
    store.close()
    whole = path.read_bytes()
    damaged = whole[:4096] + b"\xff" * (len(whole) - 4096)
    path.write_bytes(damaged)
    with pytest.raises(StoreError, match="it was left as it is"):
        open_store(f"sqlite:///{path}")
    assert path.read_bytes() == damaged


def test_a_file_that_may_only_be_read_is_reported(tmp_path):
    path = tmp_path / "store.db"
    store = open_store(f"sqlite:///{path}")
    run_id = add_run(store)

    @event.listens_for(store._engine, "checkout")
    def only_read(connection, _record, _proxy):
        cursor = connection.cursor()
        cursor.execute("PRAGMA query_only = ON")
        cursor.close()

    with pytest.raises(StoreError, match="BENCHLIB_READ_ONLY"), store.write() as session:
        runs.annotate(session, run_id, note="x", tags=[])
    assert get_run(store, run_id).note == ""
    store.close()


def test_a_store_of_every_older_version_is_migrated(tmp_path):
    revisions = database.known_revisions()
    assert {path.name for path in FIXTURES.glob("store-*.db")} == {
        f"store-{revision}.db" for revision in revisions
    }
    for revision in revisions:
        path = tmp_path / f"{revision}.db"
        shutil.copy(FIXTURES / f"store-{revision}.db", path)
        store = open_store(f"sqlite:///{path}")
        run = get_run(store, 1)
        assert (run.status, run.done, run.total, run.note) == ("done", 36, 36, "kept")
        assert len(keys(store, 1)) == 36
        with store.read() as session:
            found = session.connection().execute(text("SELECT version_num FROM alembic_version"))
            assert found.scalar() == revisions[-1]
        assert intact(store)
        store.close()


def test_a_backup_taken_while_a_run_writes_is_whole_and_its_run_goes_on(store, tmp_path):
    url = f"sqlite:///{tmp_path / 'store.db'}"
    run_id = add_run(store, 400, 4)
    claim(store)
    halfway, taken = threading.Event(), threading.Event()

    class Paused(ScriptedClient):
        async def ask(self, questions):
            if len(self.asked) > 1_000:
                halfway.set()
            return await super().ask(questions)

    contents = []

    def copy():
        halfway.wait(60)
        contents.append(backup_store(url, tmp_path / "copy.db"))
        taken.set()

    copier = threading.Thread(target=copy)
    copier.start()
    assert execute_benchmark_run(worker_context(store, Paused(batch_size=4)), run_id) == "done"
    copier.join()
    assert taken.is_set()
    restored_url = f"sqlite:///{tmp_path / 'elsewhere' / 'store.db'}"
    assert restore_store(tmp_path / "copy.db", restored_url) == contents[0]
    restored = open_store(restored_url)
    run = get_run(restored, run_id)
    kept = keys(restored, run_id)
    assert run.done == len(kept) == contents[0].results
    assert set(kept) <= set(keys(store, run_id))
    if run.status == "running":
        with restored.write() as session:
            runs.mark_interrupted(session, run, executor_now(), "restored")
            runs.requeue(session, run_id)
        claim(restored)
        execute_benchmark_run(worker_context(restored, ScriptedClient()), run_id)
    assert keys(restored, run_id) == keys(store, run_id)
    assert intact(restored)
    restored.close()


def test_backup_and_restore_overwrite_nothing_and_say_what_is_wrong(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BENCHLIB_DATA_DIR", str(tmp_path / "data"))
    get_settings.cache_clear()
    url = get_settings().store_url
    store = open_store(url)
    add_run(store)
    store.close()
    copy = tmp_path / "copy.db"
    cli.main(["backup", str(copy)])
    assert capsys.readouterr().out == f"{copy} holds 1 runs with 0 ratings.\n"
    before = copy.read_bytes()
    for arguments, said in (
        (["backup", str(copy)], "exists; name a new one"),
        (["restore", str(copy)], "move that file away"),
    ):
        with pytest.raises(SystemExit, match=said):
            cli.main(arguments)
    assert copy.read_bytes() == before
    (tmp_path / "data" / "benchlib.db").rename(tmp_path / "old.db")
    (tmp_path / "noise.db").write_bytes(b"no database at all" * 100)
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE notes (text)")
    for name, said in (
        ("noise.db", "could not be restored"),
        ("other.db", "no store of benchlib"),
        ("nothing.db", "There is no file"),
    ):
        with pytest.raises(SystemExit, match=said):
            cli.main(["restore", str(tmp_path / name)])
        assert not (tmp_path / "data" / "benchlib.db").exists()
    cli.main(["restore", str(copy)])
    assert "holds 1 runs" in capsys.readouterr().out
    get_settings.cache_clear()
    with pytest.raises(StoreError, match="pg_dump"):
        backup_store("postgresql://user@host/name", tmp_path / "pg.db")
