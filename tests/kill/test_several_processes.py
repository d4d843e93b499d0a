"""Several processes on one store: every run has one owner, whatever happens to the others."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import urllib.request
from contextlib import closing, contextmanager
from itertools import chain
from time import monotonic, sleep, time

import pytest
from sqlalchemy import text

from benchlib.application.benchmark_service import BenchmarkService
from benchlib.domain.asking.work_plan import count_items
from benchlib.domain.material.personas import PersonaDraft
from benchlib.domain.records import RunConfig
from benchlib.infrastructure.execution.executor import UNSTORED_SHARE
from benchlib.infrastructure.storage import datasets, runs
from benchlib.infrastructure.storage.database import open_store
from benchlib.settings import Settings
from tests.fake_vllm import fake_vllm_process
from tests.samples import HANGS_SECONDS, NOW, add_traits, get_run

COMMAND = (sys.executable, "-m", "tests.kill.child")
NEVER_LAPSES = 3_600
"""A lease for processes that only share: on a busy machine a short one may lapse by itself."""

LEASE_SECONDS = 4
MINUTES = (0, 17, -9)
"""How far the clocks of the processes are off."""

IN_FLIGHT = 4
REQUEST_ITEMS = 64
AT_MOST_AGAIN = UNSTORED_SHARE * IN_FLIGHT * REQUEST_ITEMS
LOOK_SECONDS = 0.02  # another process's progress can only be polled

kinds = pytest.mark.parametrize(
    "kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]
)


class Child:
    """A process that executes runs, as if on a machine of its own."""

    def __init__(self, url, log, minutes, lease_seconds):
        self.minutes = minutes
        self._log = log
        with log.open("w") as stream:
            self.process = subprocess.Popen(
                [*COMMAND, url, "--boot", log.stem, "--minutes", str(minutes)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                env={**os.environ, "BENCHLIB_LEASE_SECONDS": str(lease_seconds)},
            )

    def owns(self, run):
        return run.owner is not None and run.owner.split("/")[1] == self._log.stem

    def told(self, what):
        """The runs of which its log says this."""
        found = re.findall(rf"{what} run_id=(\d+)$", self._log.read_text(), re.MULTILINE)
        return [int(run_id) for run_id in found]


@contextmanager
def children(url, folder, lease_seconds):
    """A process per clock, all ready."""
    folder.mkdir()
    started = [
        Child(url, folder / f"machine-{i}.log", minutes, lease_seconds)
        for i, minutes in enumerate(MINUTES)
    ]
    try:
        for child in started:
            assert child.process.stdout.readline() == b"ready\n"
        yield started
        for child in started:
            child.process.stdin.close()
        for child in started:
            assert child.process.wait(HANGS_SECONDS) in (0, -signal.SIGKILL)
    finally:
        for child in started:
            child.process.kill()
            child.process.wait()
            child.process.stdin.close()
            child.process.stdout.close()


@pytest.fixture
def place(kind, tmp_path, request):
    """URL and store."""
    sqlite = f"sqlite:///{tmp_path / 'store.db'}"
    url = sqlite if kind == "sqlite" else request.getfixturevalue("postgres_url")
    store = open_store(url)
    yield url, store
    store.close()


def add_run(store, address, number, n_personas):
    """A queued run whose prompts no other run has."""
    people = [
        PersonaDraft(f"{number}-{i}", {"origin": f"place {number}-{i}"}) for i in range(n_personas)
    ]
    trait_ids = tuple(add_traits(store))
    with store.write() as session:
        dataset_id = datasets.add_dataset(
            session, f"dataset {number}", "imported", people, parameters={}, now=NOW
        )
        config = RunConfig(
            dataset_id=dataset_id,
            model_name="fake-model",
            llm="vllm",
            vllm_base_url=address,
            trait_ids=trait_ids,
            dual_fraction=0.5,
            seed=number,
            max_concurrency=IN_FLIGHT,
        )
        return runs.add_run(session, config, count_items(n_personas, len(trait_ids), 0.5), NOW)


def until(condition, seconds=HANGS_SECONDS):
    last = monotonic() + seconds
    while not condition():
        assert monotonic() < last
        sleep(LOOK_SECONDS)


def answers(store, run_id):
    """Moment of every answer of a run, by its key."""
    with store.read() as session:
        rows = session.connection().execute(
            text(
                "SELECT persona_id, trait_id, scale_order, answered_at "
                "FROM benchmarkresult WHERE run_id = :run"
            ),
            {"run": run_id},
        )
        return [(tuple(row[:3]), row[3]) for row in rows]


def check_complete(store, run_ids):
    for run_id in run_ids:
        run = get_run(store, run_id)
        assert (run.status, run.done, run.failed) == ("done", run.total, 0), (run_id, run.error)
        keys = [key for key, _ in answers(store, run_id)]
        assert len(keys) == len(set(keys)) == run.total
        assert sum(run.tally["in"]) + sum(run.tally["rev"]) == run.total


def asked_again(address):
    """How many questions about personas were sent once more."""
    with urllib.request.urlopen(f"{address}/fake/state") as answer:
        repeated = json.load(answer)["repeated"]
    return sum(times - 1 for prompt, times in repeated.items() if "place " in prompt)


@kinds
def test_several_processes_on_one_store(kind, place, tmp_path):
    """A crew for several scenes: processes take longer to start than to prove their point."""
    url, store = place
    with fake_vllm_process("--latency", "0.1", "--set", "record=true") as address:
        with children(url, tmp_path / "sharing", NEVER_LAPSES) as crew:
            a_queue_is_shared_and_no_question_is_asked_twice(store, address, crew)
            a_run_is_cancelled_from_a_process_that_executes_nothing(store, address)
            assert asked_again(address) == 0
        with children(url, tmp_path / "failing", LEASE_SECONDS) as crew:
            runs_of_processes_that_stall_or_die_are_taken_over(store, address, crew)
        print(f"{kind}: {asked_again(address)} asked again")


def a_queue_is_shared_and_no_question_is_asked_twice(store, address, crew):
    run_ids = [add_run(store, address, number, 80) for number in range(8)]
    until(lambda: all(get_run(store, run_id).status == "done" for run_id in run_ids))
    executed = [child.told("run claimed") for child in crew]
    check_complete(store, run_ids)
    assert all(executed)  # everybody took part
    assert sorted(chain(*executed)) == run_ids
    assert asked_again(address) == 0


def a_run_is_cancelled_from_a_process_that_executes_nothing(store, address):
    run_id = add_run(store, address, 8, 2_000)
    until(lambda: get_run(store, run_id).done)
    BenchmarkService(store, None, Settings()).runs.cancel_benchmark(run_id)
    until(lambda: get_run(store, run_id).status != "running")
    run = get_run(store, run_id)
    assert run.status == "cancelled"
    assert 0 < run.done == len(answers(store, run_id)) < run.total


def stall(process, store):
    """Stop a process, but not while it holds SQLite's file: nobody can take that away from it."""
    process.send_signal(signal.SIGSTOP)
    if store.dialect != "sqlite":
        return
    with closing(sqlite3.connect(store.database, timeout=0, isolation_level=None)) as probe:
        while True:
            try:
                probe.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                process.send_signal(signal.SIGCONT)
                sleep(LOOK_SECONDS)
                process.send_signal(signal.SIGSTOP)
            else:
                return


def runs_of_processes_that_stall_or_die_are_taken_over(store, address, crew):
    run_ids = [add_run(store, address, number, 500) for number in (9, 10)]
    until(lambda: all(get_run(store, run_id).done for run_id in run_ids))
    first, second = (get_run(store, run_id) for run_id in run_ids)
    stalled = next(child for child in crew if child.owns(first))
    dead = next(child for child in crew if child.owns(second))
    heir = next(child for child in crew if child not in (stalled, dead))
    stall(stalled.process, store)
    dead.process.kill()
    lost = monotonic()
    until(lambda: get_run(store, run_ids[0]).owner != first.owner)
    assert monotonic() - lost > LEASE_SECONDS / 2  # no earlier than the lease tells
    until(lambda: heir.owns(get_run(store, run_ids[0])))
    awake = time() * 1000
    stalled.process.send_signal(signal.SIGCONT)
    until(lambda: run_ids[0] in stalled.told("lease lost"))
    until(lambda: all(get_run(store, run_id).status == "done" for run_id in run_ids))
    check_complete(store, run_ids)
    # The clocks are too far apart to mix up whose answer is whose.
    moments = [moment - 60_000 * stalled.minutes for _, moment in answers(store, run_ids[0])]
    own = [moment - awake for moment in moments if abs(moment - awake) < 4 * 60_000]
    assert own
    assert max(own) < 0  # not a word more after it woke up
    # what the stalled and the dead one had not stored
    assert asked_again(address) <= 2 * AT_MOST_AGAIN
