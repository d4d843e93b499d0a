import os
import subprocess
import sys
import threading

import pytest

from benchlib.domain.errors import StoreError
from benchlib.domain.records import Answer
from benchlib.infrastructure.execution.worker import Worker, is_dead, process_name
from benchlib.infrastructure.storage import runs
from tests.samples import HANGS_SECONDS, Clock, add_run, claim, get_run, worker_context
from tests.scripted_client import ScriptedClient, rate


@pytest.fixture
def make_worker(store):
    workers = []

    def make(client=None, **options):
        worker = Worker(
            worker_context(store, client or ScriptedClient(), **options.pop("context", {})),
            **options,
        )
        workers.append(worker)
        return worker

    yield make
    for worker in workers:
        worker.stop()


def ended_event():
    event = threading.Event()
    return event, lambda _run_id: event.set()


def test_a_queued_run_is_executed_in_the_background(store, make_worker):
    ended, after_run = ended_event()
    worker = make_worker(after_run=after_run)
    worker.start()
    run_id = add_run(store)
    worker.wake()
    assert ended.wait(HANGS_SECONDS)
    assert get_run(store, run_id).status == "done"


def test_queued_runs_wait_their_turn(store, make_worker):
    order = []
    all_ended = threading.Event()

    def after_run(run_id):
        order.append(run_id)
        if len(order) == 3:
            all_ended.set()

    worker = make_worker(after_run=after_run)
    first = add_run(store)
    with store.write() as session:
        config = runs.get_run(session, first).config
        others = [runs.add_run(session, config, 36, Clock().now()) for _ in range(2)]
    worker.start()
    assert all_ended.wait(HANGS_SECONDS)
    assert order == [first, *others]


def test_a_run_left_by_a_dead_process_is_interrupted_at_start(store, make_worker):
    name = subprocess.run(
        [
            sys.executable,
            "-c",
            "from benchlib.infrastructure.execution.worker import process_name;"
            "print(process_name())",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert is_dead(name)
    assert not is_dead(process_name())
    run_id = add_run(store)
    claim(store, name)
    worker = make_worker()
    worker.sweep()
    run = get_run(store, run_id)
    assert run.status == "interrupted"
    assert run.error == "The process that executed the run went away; resume to go on."


def test_a_reused_process_id_is_not_taken_for_the_owner():
    host, boot, _, _, _ = process_name().split("/")
    assert is_dead(f"{host}/{boot}/{os.getpid()}/1/x")


def test_a_machine_of_the_same_name_is_not_taken_for_this_one():
    host, _, _, started, _ = process_name().split("/")
    assert not is_dead(f"{host}/another boot/{os.getpid()}/1/x")
    assert not is_dead(f"{host}//{os.getpid()}/{started}/x")


def test_a_silent_worker_of_another_machine_loses_its_run_after_the_lease(store, make_worker):
    clock = Clock()
    run_id = add_run(store)
    claim(store, "elsewhere/boot/1/1/x")
    worker = make_worker(context={"clock": clock, "lease_seconds": 20})
    for seconds in (0, 15):
        clock.seconds += seconds
        worker.sweep()
        assert get_run(store, run_id).status == "running"
    with store.write() as session:  # it was alive after all
        runs.renew(session, run_id, "elsewhere/boot/1/1/x", changed=False, values={})
    clock.seconds += 15
    worker.sweep()
    clock.seconds += 15
    worker.sweep()
    assert get_run(store, run_id).status == "running"
    clock.seconds += 6
    worker.sweep()
    assert get_run(store, run_id).status == "interrupted"


def test_trouble_with_other_runs_does_not_end_the_one_that_executes(
    store, make_worker, monkeypatch
):
    ended, after_run = ended_event()
    worker = make_worker(after_run=after_run)
    sweep, swept = worker.sweep, []

    def stumble():
        if worker._executing is not None:
            swept.append(worker._executing)
            raise StoreError("The store is locked.")
        sweep()

    monkeypatch.setattr(worker, "sweep", stumble)
    run_id = add_run(store)
    worker.start()
    assert ended.wait(HANGS_SECONDS)
    assert swept
    assert get_run(store, run_id).status == "done"


def test_an_interrupted_run_that_another_process_resumed_first_is_left_alone(
    store, make_worker, monkeypatch
):
    run_id = add_run(store)
    queued = get_run(store, run_id)
    monkeypatch.setattr(runs, "list_runs", lambda *_, **__: [queued])
    make_worker(auto_resume=True)._requeue_interrupted()
    assert get_run(store, run_id).status == "queued"


def test_interrupted_runs_resume_by_themselves_only_on_request(store, make_worker):
    run_id = add_run(store)
    claim(store, "me")
    plain = make_worker()
    plain.sweep()
    assert get_run(store, run_id).status == "interrupted"
    ended, after_run = ended_event()
    worker = make_worker(after_run=after_run, auto_resume=True)
    worker.start()
    assert ended.wait(HANGS_SECONDS)
    assert get_run(store, run_id).status == "done"


def test_a_fault_of_the_program_fails_the_run_and_not_the_worker(store, make_worker):
    broken = [True]

    def script(question):
        if broken:
            raise KeyError("oops")
        return Answer(rate(question))

    ended, after_run = ended_event()
    worker = make_worker(ScriptedClient(script), after_run=after_run)
    run_id = add_run(store)
    worker.start()
    assert ended.wait(HANGS_SECONDS)
    run = get_run(store, run_id)
    assert run.status == "failed"
    assert "A fault of the program ended the run (KeyError)" in run.error
    broken.clear()
    ended.clear()
    with store.write() as session:
        runs.requeue(session, run_id)
    worker.wake()
    assert ended.wait(HANGS_SECONDS)
    assert get_run(store, run_id).status == "done"


def test_stop_ends_the_worker_and_leaves_the_run_resumable(store, make_worker):
    started = threading.Event()

    def script(question):
        started.set()
        return Answer(rate(question))

    worker = make_worker(ScriptedClient(script, batch_size=1))
    run_id = add_run(store, 200, 4)
    worker.start()
    assert started.wait(HANGS_SECONDS)
    worker.stop()
    assert not worker.alive
    run = get_run(store, run_id)
    assert run.status == "interrupted"
    assert 0 < run.done < run.total


def test_a_key_is_kept_in_memory_for_its_run_only(store, make_worker):
    ended, after_run = ended_event()
    client = ScriptedClient()
    worker = make_worker(client, after_run=after_run)
    run_id = add_run(store)
    worker.remember_key(run_id, "sk-secret")
    worker.start()
    assert ended.wait(HANGS_SECONDS)
    assert client.api_key == "sk-secret"
    assert worker.keys == {}
    with store.read() as session:
        dump = "".join(session.connection().connection.driver_connection.iterdump())
    assert "sk-secret" not in dump


def test_two_workers_on_one_store_execute_a_run_each(any_store):
    both = threading.Barrier(2)

    class Meeting(ScriptedClient):
        async def ask(self, questions):
            if not self.asked:
                both.wait(HANGS_SECONDS)  # breaks unless the other worker asks at the same time
            return await super().ask(questions)

    ended = [ended_event() for _ in range(2)]
    workers = [
        Worker(worker_context(any_store, Meeting(), owner=f"worker {number}"), after_run=after_run)
        for number, (_, after_run) in enumerate(ended)
    ]
    first = add_run(any_store)
    with any_store.write() as session:
        config = runs.get_run(session, first).config
        second = runs.add_run(session, config, 36, Clock().now())
    for worker in workers:
        worker.start()
    for event, _ in ended:
        assert event.wait(HANGS_SECONDS)
    for worker in workers:
        worker.stop()
    assert [get_run(any_store, run_id).status for run_id in (first, second)] == ["done", "done"]
