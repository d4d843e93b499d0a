"""SIGKILL the process that executes a run, again and again, and lose nothing.

`BENCHLIB_ALL_KILLS=1 pytest -s tests/kill/test_kill.py` runs the full count and prints its figures;
the default is the short form.
"""

import os
import random
import subprocess
import sys
from itertools import cycle
from time import sleep

import httpx
import pytest
from sqlalchemy import text

from benchlib.infrastructure.execution.executor import UNSTORED_SHARE
from benchlib.infrastructure.execution.progress_tracker import update_progress
from benchlib.infrastructure.storage.database import open_store
from tests.fake_vllm import fake_vllm_process
from tests.kill.dashboard import Dashboard, until
from tests.samples import HANGS_SECONDS, add_run, get_run

ALL = "BENCHLIB_ALL_KILLS" in os.environ
KILLS = {"sqlite": 50, "postgresql": 20} if ALL else {"sqlite": 8, "postgresql": 8}
ITEMS_PER_KILL = 3_600 if ALL else 2_000
IN_FLIGHT = 4
REQUEST_ITEMS = 64
AT_MOST_AGAIN = UNSTORED_SHARE * IN_FLIGHT * REQUEST_ITEMS

PROBES = 6
"""Each start asks a few test questions."""

LOOK_SECONDS = 0.01  # another process's progress can only be polled; leave it the processor


class Victim:
    """A process without pages that executes runs, and resumes what it finds interrupted."""

    def __init__(self, url, _folder, _engine):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.kill.child", url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout.readline() == b"ready\n"

    def resume(self, _run):
        """It does so by itself."""

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class VictimWithPages(Victim):
    """The real app; somebody looks at the run and resumes it."""

    def __init__(self, url, folder, engine):
        folder.mkdir()
        self._app = Dashboard(folder, engine, store_url=url)
        self.process = self._app.process
        until(lambda: self._app.http.get("/health").json()["ok"])

    def resume(self, run):
        told = self._app.status()
        assert (told["status"], told["done"]) == ("interrupted", run.done)
        assert told["error"] == "The process that executed the run went away; resume to go on."
        body = {"resume_run_id": run.id}
        self._app.http.post("/benchmarks/start", json=body).raise_for_status()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self._app.http.close()
        assert "Traceback" not in self._app.log.read_text()


VICTIMS = (Victim, VictimWithPages, *[Victim] * 6)


def rows(store, run_id):
    with store.read() as session:
        found = session.connection().execute(
            text(
                "SELECT persona_id, trait_id, scale_order, rating_raw, answered_at "
                "FROM benchmarkresult WHERE run_id = :run"
            ),
            {"run": run_id},
        )
        return {tuple(row[:3]): tuple(row[3:]) for row in found}


def asked(engine):
    """How many questions were answered, once no more are."""
    while True:
        state = httpx.get(f"{engine}/fake/state").json()
        if not state["in_flight"]:
            return state["n_items"]
        sleep(LOOK_SECONDS)


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def test_a_run_survives_every_kill(kind, tmp_path, request):
    sqlite = f"sqlite:///{tmp_path / 'store.db'}"
    url = sqlite if kind == "sqlite" else request.getfixturevalue("postgres_url")
    dice = random.Random(20)
    store = open_store(url)
    again = []
    with fake_vllm_process("--latency", "0.04") as engine:
        n_personas = KILLS[kind] * ITEMS_PER_KILL // 30  # 20 traits, half of the pairs dual
        run_id = add_run(
            store,
            n_personas,
            20,
            model_name="fake-model",
            vllm_base_url=engine,
            max_concurrency=IN_FLIGHT,
        )
        total = get_run(store, run_id).total
        victims = cycle(VICTIMS)
        for number in range(KILLS[kind]):
            before = get_run(store, run_id)
            victim = next(victims)(url, tmp_path / str(number), engine)
            if number:
                victim.resume(before)
            # A share of what is left: a slow machine asks on for long before it is killed.
            share = (total - before.done) // (KILLS[kind] - number + 1)
            aim = before.done + dice.randrange(1, max(share, 2))
            while (told := update_progress(store, run_id, 0))["done"] < aim:
                assert told["status"] in ("queued", "running", "interrupted"), told
                assert before.done <= told["done"]
                assert victim.process.poll() is None
                sleep(LOOK_SECONDS)
            assert told["status"] == "running"
            kept = rows(store, run_id)
            assert len(kept) >= told["done"]
            sleep(dice.uniform(0, 0.05))
            victim.kill()
            after = rows(store, run_id)
            assert kept.items() <= after.items()  # nothing that was told of is gone or changed
            assert get_run(store, run_id).done == len(after)
            again.append(asked(engine) - len(after) - sum(again))
            assert again[-1] <= AT_MOST_AGAIN + PROBES
            if kind == "sqlite":
                with store.read() as session:
                    check = session.connection().exec_driver_sql("PRAGMA integrity_check")
                    assert check.scalar() == "ok"
        child = Victim(url, tmp_path, engine)
        while update_progress(store, run_id, 0)["status"] in ("queued", "running", "interrupted"):
            assert child.process.poll() is None
            sleep(LOOK_SECONDS)
        child.process.stdin.close()
        assert child.process.wait(HANGS_SECONDS) == 0
        child.kill()
        assert asked(engine) - total - sum(again) <= PROBES
    run = get_run(store, run_id)
    assert (run.status, run.done, run.failed) == ("done", total, 0)
    assert len(rows(store, run_id)) == total
    assert sum(run.tally["in"]) + sum(run.tally["rev"]) == total
    print(
        f"{kind}: {KILLS[kind]} kills, {total:,} items, {sum(again):,} asked again, "
        f"{max(again)} at most after one kill"
    )
    store.close()
