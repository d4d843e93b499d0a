from dataclasses import replace

import pytest

from benchlib.domain.records import Answer
from benchlib.domain.vocabulary import RunStatus
from benchlib.infrastructure.execution.executor import execute_benchmark_run
from benchlib.infrastructure.execution.run_monitor import RunMonitor
from benchlib.infrastructure.execution.worker import Worker
from benchlib.infrastructure.storage import runs
from tests.samples import Clock, add_run, claim, get_run, worker_context
from tests.scripted_client import ScriptedClient, rate, unusable


@pytest.fixture
def heard():
    return []


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def monitor(heard, clock):
    return RunMonitor(heard.append, stall_seconds=600, clock=clock.monotonic)


def event(heard):
    return [(item.what, item.run.id, item.run.status.value) for item in heard]


@pytest.mark.parametrize(
    ("script", "status"),
    [
        (lambda question: Answer(rate(question)), "done"),
        (lambda _question: unusable(), "partial"),
    ],
)
def test_the_end_of_a_run_is_told_once(store, monitor, heard, script, status):
    run_id = add_run(store)
    claim(store)
    context = replace(worker_context(store, ScriptedClient(script)), monitor=monitor)
    execute_benchmark_run(context, run_id)
    assert event(heard) == [("ended", run_id, status)]
    assert heard[0].run.done + heard[0].run.failed == heard[0].run.total
    assert monitor.seconds_since_commit(run_id) is None


def test_a_cancelled_run_is_told(store, monitor, heard):
    run_id = add_run(store)
    claim(store)

    def script(question):
        with store.write() as session:
            runs.request_cancel(session, run_id, Clock().now())
        return Answer(rate(question))

    context = replace(worker_context(store, ScriptedClient(script)), monitor=monitor)
    execute_benchmark_run(context, run_id)
    assert event(heard) == [("ended", run_id, "cancelled")]


def test_an_end_that_somebody_else_decided_is_not_told(store, monitor, heard, caplog):
    """The run was taken away in the middle: whoever took it tells."""
    run_id = add_run(store)
    claim(store)

    def script(question):
        with store.write() as session:
            run = runs.get_run(session, run_id)
            if run.status is RunStatus.RUNNING:
                runs.mark_interrupted(session, run, Clock().now(), "taken")
        return Answer(rate(question))

    context = replace(worker_context(store, ScriptedClient(script)), monitor=monitor)
    assert execute_benchmark_run(context, run_id) is RunStatus.INTERRUPTED
    assert heard == []
    assert [r.run_id for r in caplog.records if r.message == "lease lost"] == [run_id]
    assert monitor.seconds_since_commit(run_id) is None


def test_of_several_dashboards_one_tells_of_a_crash(store):
    run_id = add_run(store)
    claim(store, "me")  # as an earlier life of this process would have
    heard = []
    workers = [
        Worker(replace(worker_context(store, ScriptedClient()), monitor=RunMonitor(heard.append)))
        for _ in range(3)
    ]
    for worker in workers:
        worker.sweep()
    assert event(heard) == [("ended", run_id, "interrupted")]


def test_a_stall_is_told_once_and_its_end_once(store, monitor, heard, clock):
    run_id = add_run(store)
    claim(store)
    run = get_run(store, run_id)
    monitor.committed(run)
    monitor.committed(run)
    clock.seconds += 599
    monitor.committed(run)
    assert heard == []
    clock.seconds += 1
    monitor.committed(run)
    clock.seconds += 5_000
    monitor.committed(run)
    assert [(item.what, item.quiet_seconds) for item in heard] == [("stalled", 600)]
    monitor.committed(replace(run, done=1))
    monitor.committed(replace(run, done=2))
    assert [(item.what, item.quiet_seconds) for item in heard[1:]] == [("recovered", 5_600)]
    clock.seconds += 600
    monitor.committed(replace(run, done=2))
    assert [item.what for item in heard] == ["stalled", "recovered", "stalled"]


def test_answers_without_a_rating_are_no_stall_and_faults_are(store, monitor, heard, clock):
    add_run(store)
    claim(store)
    run = get_run(store, 1)

    def failed(**kinds):
        return replace(run, tally={**run.tally, "failures": kinds})

    monitor.committed(failed())
    for n in range(1, 5):
        clock.seconds += 400
        monitor.committed(failed(unusable=n))
    assert heard == []
    clock.seconds += 400
    monitor.committed(failed(unusable=4, unreachable=1))
    clock.seconds += 400
    monitor.committed(failed(unusable=4, unreachable=2))
    assert [item.what for item in heard] == ["stalled"]


def test_a_resumed_run_begins_anew(store, monitor, heard, clock):
    add_run(store)
    claim(store)
    run = get_run(store, 1)
    monitor.committed(run)
    monitor.left(1)
    clock.seconds += 10_000
    monitor.committed(run)
    assert monitor.seconds_since_commit(1) == 0
    clock.seconds += 7
    assert monitor.seconds_since_commit(1) == 7
    assert monitor.seconds_since_commit(2) is None
    assert heard == []


def test_the_log_is_not_flooded_by_a_server_that_is_down(store, monitor, clock, caplog):
    caplog.set_level("INFO")
    add_run(store)
    claim(store)
    run = get_run(store, 1)
    monitor.committed(run)
    for n in range(1, 101):  # over 99 seconds
        clock.seconds += 0.99
        monitor.committed(replace(run, tally={**run.tally, "failures": {"unreachable": n}}))
    told = [record.failures for record in caplog.records if record.message == "attempts failed"]
    assert len(told) == 10
    assert 90 <= sum(found["unreachable"] for found in told) <= 100
    assert sum(record.message == "progress" for record in caplog.records) == 1
