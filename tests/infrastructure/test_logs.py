"""The log of a whole run: every event of it, and nothing that anybody wrote or said."""

import io
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from benchlib.domain.asking.work_plan import count_items
from benchlib.domain.errors import StoreError
from benchlib.domain.material.personas import PersonaDraft
from benchlib.domain.material.traits import TraitDraft
from benchlib.domain.records import RunConfig
from benchlib.infrastructure.logs import LogFormatter, set_up_logs
from benchlib.infrastructure.storage import datasets, runs, traits
from benchlib.infrastructure.storage.database import open_store
from tests.fake_vllm import fake_vllm_process
from tests.receiver import Receiver
from tests.samples import HANGS_SECONDS, NOW, get_run

DASHBOARD = """
import asyncio, sys
from benchlib.bootstrap import lifespan

async def live():
    async with lifespan(None):
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(live())
"""
N_PERSONAS = 40
MARKERS = {
    name: f"{name}-marker-7f3a"
    for name in (
        *("persona", "name", "biography", "dataset", "category", "adjective", "question", "system"),
        *("fault", "sk", "token", "user", "password"),
    )
}


def add_marked_run(store, address):
    """A run whose every text is marked; its first persona is refused by the fake server."""
    people = [
        PersonaDraft(
            f"{MARKERS['persona']}-{i}",
            {"gender": MARKERS["category"]},
            name=MARKERS["name"],
            biography=MARKERS["biography"] + (" POISON" if i == 0 else ""),
        )
        for i in range(N_PERSONAS)
    ]
    trait = TraitDraft(
        "trait",
        {"en": MARKERS["adjective"]},
        {"en": f"{MARKERS['question']} {{adjective}}?"},
        "warmth",
        1,
    )
    with store.write() as session:
        dataset_id = datasets.add_dataset(
            session, MARKERS["dataset"], "imported", people, parameters={}, now=NOW
        )
        trait_ids = tuple(traits.add_traits(session, [trait], now=NOW))
        config = RunConfig(
            dataset_id,
            "fake-model",
            "vllm",
            trait_ids,
            vllm_base_url=address,
            answer_mode="rationale",
            system_prompt=MARKERS["system"],
            max_concurrency=1,
        )
        return runs.add_run(session, config, count_items(N_PERSONAS, 1, config.dual_fraction), NOW)


def test_the_log_of_a_run_tells_every_event_and_no_text(tmp_path):
    store_url = f"sqlite:///{tmp_path / 'benchlib.db'}"
    fault = {"kind": "status", "status": 503, "message": MARKERS["fault"], "times": 2}
    faults = [{"kind": "ok", "times": 4}, fault]
    with (
        Receiver() as receiver,
        fake_vllm_process(
            "--api-key", MARKERS["sk"], "--faults", json.dumps(faults), "--set", "record=true"
        ) as engine,
    ):
        store = open_store(store_url)
        run_id = add_marked_run(store, engine)
        notify_url = receiver.address.replace(
            "json://", f"json://{MARKERS['user']}:{MARKERS['password']}@"
        )
        dashboard = subprocess.Popen(
            [sys.executable, "-c", DASHBOARD],
            cwd=tmp_path,
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith("BENCHLIB_")},
                "PYTHONPATH": str(Path(__file__).parents[2]),
                "BENCHLIB_DB_URL": store_url,
                "BENCHLIB_NOTIFY_URLS": f"{notify_url}/{MARKERS['token']}",
                "VLLM_API_KEY": MARKERS["sk"],
            },
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        path, message = receiver.messages.get(timeout=HANGS_SECONDS)
        _, log = dashboard.communicate()
    assert path == f"/{MARKERS['token']}"
    assert dashboard.returncode == 0
    run = get_run(store, run_id)
    with store.read() as session:
        answers = session.connection().execute(text("SELECT text FROM answertext")).scalars().all()
    store.close()
    assert run.status == "partial"
    assert (run.done > 0, run.failed > 0) == (True, True)

    for marker in (*MARKERS.values(), "marker-7f3a", "Because of reason", *answers):
        assert marker not in log
        assert marker not in json.dumps(message)
    lines = [json.loads(line) for line in log.splitlines()]
    events = [line["message"] for line in lines]
    expected = [
        *("dashboard started", "run claimed", "engine probed", "attempts failed"),
        *("waiting for the engine", "engine answers again", "run ended", "notification sent"),
        "dashboard stopped",
    ]
    assert list(dict.fromkeys(event for event in events if event in expected)) == expected
    about = {line["message"]: line for line in lines}
    assert about["engine probed"]["answer_mode_used"] == "rationale"
    assert sum(about["attempts failed"]["failures"].values()) == 1
    ended = about["run ended"]
    assert (ended["run_id"], ended["status"]) == (run_id, "partial")
    assert (ended["rated"], ended["failed"], ended["planned"]) == (run.done, run.failed, run.total)
    assert ended["failures"] == run.tally["failures"] == {"rejected": run.failed, "overloaded": 2}
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)


def record_of(error=None, message="it happened", **extra):
    exc_info = None
    if error is not None:
        with pytest.raises(type(error)) as raised:
            raise error
        exc_info = (raised.type, raised.value, raised.tb)
    record = logging.LogRecord("benchlib.x", logging.ERROR, "x.py", 1, message, (), exc_info)
    vars(record).update(extra)
    return record


def test_one_event_is_one_line_in_both_forms():
    record = record_of(message="two\nlines", run_id=3, path=Path("/x"), name_of='a "b"\n\x1b[1m')
    logged = json.loads(LogFormatter("json").format(record))
    assert logged["message"] == "two lines"
    assert (logged["run_id"], logged["path"], logged["level"]) == (3, "PosixPath", "error")
    line = LogFormatter("text").format(record)
    assert line.endswith(
        r'ERROR benchlib.x: two lines run_id=3 path="PosixPath" name_of="a \"b\"\n\u001b[1m"'
    )


@pytest.mark.parametrize("style", ["json", "text"])
def test_an_exception_is_logged_by_its_type_and_place_without_its_message(style):
    error = StoreError("SECRET")
    error.__cause__ = KeyError("SECRET")
    line = LogFormatter(style).format(record_of(error))
    assert "StoreError from KeyError" in line
    assert "SECRET" not in line
    line = LogFormatter(style).format(record_of(ValueError("SECRET")))
    assert "test_logs.py" in line
    assert "record_of" in line
    assert "SECRET" not in line
    assert "\n" not in line


def test_what_the_store_refuses_is_not_quoted(store):
    """A message of SQLAlchemy would hold the values of the statement."""
    add = text("INSERT INTO model (name) VALUES (:name)")
    with store.write() as session:
        session.connection().execute(add, {"name": "SECRET"})
    with store.write() as session, pytest.raises(IntegrityError, match="UNIQUE") as raised:
        session.connection().execute(add, {"name": "SECRET"})
    assert "SECRET" not in str(raised.value)


def test_the_web_servers_logs_get_the_same_form(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    server = logging.getLogger("some.web.server")
    handler = logging.StreamHandler(stream)
    server.addHandler(handler)
    server.propagate = False
    try:
        set_up_logs(None)  # not a terminal
        server.warning("logged by %s", "it")
    finally:
        server.removeHandler(handler)
    assert json.loads(stream.getvalue())["message"] == "logged by it"
