"""SIGKILL the process that executes a run, again and again, and lose nothing.

BENCHLIB_KILLS=50 runs the full count; the default is the short form.
"""

import json
import os
import random
import signal
import subprocess
import sys
import urllib.request
from time import sleep

import pytest
from sqlalchemy import text

from benchlib.infrastructure.execution.progress_tracker import update_progress
from benchlib.infrastructure.storage.engine import open_store
from tests.fake_vllm import fake_vllm_process
from tests.samples import add_run, get_run

KILLS = int(os.environ.get("BENCHLIB_KILLS", "8"))
IN_FLIGHT = 4
REQUEST_ITEMS = 64
LOOK_SECONDS = 0.01  # another process's progress can only be polled; leave it the processor


def spawn(url):
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.kill.child", url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout.readline() == b"ready\n"
    return child


def kill(child):
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdin.close()
    child.stdout.close()


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


def asked(address):
    with urllib.request.urlopen(f"{address}/fake/state") as answer:
        return json.load(answer)["n_items"]


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def test_a_run_survives_every_kill(kind, tmp_path, request):
    sqlite = f"sqlite:///{tmp_path / 'store.db'}"
    url = sqlite if kind == "sqlite" else request.getfixturevalue("postgres_url")
    dice = random.Random(20)
    store = open_store(url)
    with fake_vllm_process("--latency", "0.04") as address:
        run_id = add_run(
            store,
            KILLS * 120,
            20,
            model_name="fake-model",
            vllm_base_url=address,
            batch_size=IN_FLIGHT,
        )
        total = get_run(store, run_id).total
        for _ in range(KILLS):
            child = spawn(url)
            begun = get_run(store, run_id).done
            aim = begun + dice.randrange(1, total // (KILLS + 1))
            while (told := update_progress(store, run_id, 0))["done"] < aim:
                assert told["status"] in ("running", "queued", "interrupted"), told
                assert child.poll() is None
                sleep(LOOK_SECONDS)
            kept = rows(store, run_id)
            assert len(kept) >= told["done"]
            kill(child)
            after = rows(store, run_id)
            assert kept.items() <= after.items()  # nothing that was told of is gone or changed
            assert get_run(store, run_id).done == len(after)
            if kind == "sqlite":
                with store.read() as session:
                    check = session.connection().exec_driver_sql("PRAGMA integrity_check")
                    assert check.scalar() == "ok"
        child = spawn(url)
        while update_progress(store, run_id, 0)["status"] in ("queued", "running", "interrupted"):
            assert child.poll() is None
            sleep(LOOK_SECONDS)
        child.stdin.close()
        assert child.wait(30) == 0
        child.stdout.close()
        n_asked = asked(address)
    run = get_run(store, run_id)
    assert (run.status, run.done, run.failed) == ("done", total, 0)
    assert len(rows(store, run_id)) == total
    assert sum(run.tally["in"]) + sum(run.tally["rev"]) == total
    probes = 3 * (KILLS + 1)  # each start asks a test question or two
    # a landed batch may wait for its commit while its place is taken: twice the work in flight
    assert n_asked - total <= KILLS * 2 * IN_FLIGHT * REQUEST_ITEMS + probes
    print(f"{kind}: {KILLS} kills, {total} items, {n_asked - total} asked again")
    store.close()
