import asyncio
import threading
from collections import Counter
from dataclasses import replace

import pytest
from sqlalchemy import text

from benchlib.domain.errors import EngineChanged, EngineFault, EngineNotReachable
from benchlib.domain.records import Answer, AnswerFailure, AnswerFilter
from benchlib.domain.vocabulary import FailureKind
from benchlib.infrastructure.execution import executor
from benchlib.infrastructure.execution.executor import execute_benchmark_run
from benchlib.infrastructure.execution.progress_tracker import get_completed_keys, update_progress
from benchlib.infrastructure.storage import results, runs
from tests.samples import (
    HANGS_SECONDS,
    Clock,
    WaitingSeen,
    add_run,
    claim,
    get_run,
    worker_context,
)
from tests.scripted_client import REPORT, ScriptedClient, rate, unusable

BOUND = executor.UNSTORED_SHARE * 2 * 4  # 2 requests in flight with 4 questions each
PLANNED = 36  # 6 personas x 4 traits, half of the 24 pairs in both orders


def execute(store, client, run_id, **options):
    return execute_benchmark_run(worker_context(store, client, **options), run_id)


def stored(store, run_id):
    with store.read() as session:
        rows = session.connection().execute(
            text(
                "SELECT persona_id, trait_id, scale_order, rating_raw FROM benchmarkresult "
                "WHERE run_id = :run"
            ),
            {"run": run_id},
        )
        return [tuple(row) for row in rows]


def test_a_run_asks_every_key_once_and_stores_what_was_answered(any_store):
    run_id = add_run(any_store)
    client = ScriptedClient()
    assert claim(any_store) == run_id
    assert execute(any_store, client, run_id) == "done"
    rows = stored(any_store, run_id)
    assert len(rows) == len({row[:3] for row in rows}) == len(client.asked) == PLANNED
    assert all(rating == 1 + (persona + trait) % 5 for persona, trait, _, rating in rows)
    run = get_run(any_store, run_id)
    assert (run.status, run.done, run.failed, run.total) == ("done", PLANNED, 0, PLANNED)
    assert (run.owner, run.error, run.activity) == (None, None, None)
    assert sum(run.tally["in"]) + sum(run.tally["rev"]) == PLANNED
    assert len(run.tally["latest"]) == 8
    assert client.closed


def test_distribution_and_details_come_back_as_they_were_answered(any_store):
    shares = (0.1, 0.2, 0.4, 0.2, 0.1)
    answer = Answer(3, shares, 0.97, "3", 12, 170, 1)
    run_id = add_run(any_store, 1, 1, dual_fraction=0)
    claim(any_store)
    execute(any_store, ScriptedClient(lambda _: answer), run_id)
    with any_store.read() as session:
        (kept,) = results.list_answers(session, run_id, AnswerFilter(), limit=10)
    assert kept.probabilities == pytest.approx(shares, abs=1e-9)
    assert kept.valid_mass == pytest.approx(0.97, abs=1e-9)
    assert (kept.rating_raw, kept.raw_answer, kept.latency_ms) == (3, "3", 12)
    assert (kept.prompt_tokens, kept.completion_tokens, kept.attempt) == (170, 1, 1)
    assert kept.answered_at.utcoffset().total_seconds() == 0


def test_a_long_answer_is_kept_whole_and_its_nul_does_not_break_the_store(any_store):
    run_id = add_run(any_store, 1, 1, dual_fraction=0)
    claim(any_store)
    execute(any_store, ScriptedClient(lambda _: Answer(3, raw_answer="because\x00 " * 300)), run_id)
    with any_store.read() as session:
        (kept,) = results.list_answers(session, run_id, AnswerFilter(), limit=10)
    assert kept.raw_answer == "because� " * 300


def test_the_manifest_says_what_was_used(store):
    run_id = add_run(store)
    claim(store)
    execute(store, ScriptedClient(), run_id)
    manifest = get_run(store, run_id).manifest
    assert manifest["engine"]["model_name"] == "scripted"
    assert manifest["engine"]["model_revision"] == "1"
    assert len(manifest["prompt"]["hash"]) == len(manifest["trait_hash"]) == 64
    assert len(manifest["persona_hash"]) == 64
    assert (manifest["seed"], manifest["n_personas"]) == (3, 6)
    (execution,) = manifest["executions"]
    assert execution["git_commit"] == "abc"
    assert "persona by persona" in manifest["order_of_work"]
    assert (execution["request_items"], execution["requests_in_flight"]) == (4, 2)


def test_work_in_flight_is_bounded(store):
    run_id = add_run(store, 20, 4)
    claim(store)
    client = ScriptedClient(batch_size=2)
    execute(store, client, run_id)
    assert client.most_in_flight == 2  # max_concurrency of the run


def test_asking_goes_on_during_a_commit_but_what_is_not_stored_is_bounded(store, monkeypatch):
    run_id = add_run(store, 40, 4)
    claim(store)
    n_stored = 0
    unstored = []
    asked_on = threading.Event()
    write = executor._Execution._write

    def script(question):
        unstored.append(len(client.asked) - n_stored)
        if len(client.asked) >= n_stored + BOUND:
            asked_on.set()
        return Answer(rate(question))

    def slow_write(execution, batch):
        nonlocal n_stored
        if batch.rated and not n_stored:
            assert asked_on.wait(HANGS_SECONDS)
        cancel = write(execution, batch)
        n_stored += len(batch.rated)
        return cancel

    monkeypatch.setattr(executor._Execution, "_write", slow_write)
    client = ScriptedClient(script, batch_size=4)
    assert execute(store, client, run_id) == "done"
    assert max(unstored) == BOUND
    assert get_run(store, run_id).done == len(client.asked) == 240


def test_unusable_answers_are_asked_again_more_strictly_then_given_up(any_store):
    def script(question):
        if question.item.trait.case_id == "trait-0":
            return unusable()
        if question.item.trait.case_id == "trait-1" and question.attempt == 1:
            return unusable("hm")
        return Answer(rate(question))

    run_id = add_run(any_store, max_attempts=3)
    claim(any_store)
    client = ScriptedClient(script)
    assert execute(any_store, client, run_id) == "partial"
    run = get_run(any_store, run_id)
    hopeless = sum(q.item.trait.case_id == "trait-0" and q.attempt == 1 for q in client.asked)
    second_try = sum(q.item.trait.case_id == "trait-1" and q.attempt == 2 for q in client.asked)
    assert run.failed == hopeless
    assert run.done == PLANNED - hopeless
    assert run.tally["failures"] == {"unusable": 3 * hopeless + second_try}
    with any_store.read() as session:
        failures = results.list_failures(session, run_id, limit=1000)
        answers = results.list_answers(session, run_id, AnswerFilter(("trait-1",)), limit=100)
    assert len(failures) == 3 * hopeless + second_try
    assert Counter(f.attempt for f in failures if f.final) == {3: hopeless}
    assert {f.raw_snippet for f in failures if f.case_id == "trait-1"} == {"hm"}
    assert all("trait0" in f.prompt_snippet for f in failures if f.case_id == "trait-0")
    assert {answer.attempt for answer in answers} == {2}
    stricter = {q.user for q in client.asked if q.attempt == 2}
    assert not stricter & {q.user for q in client.asked if q.attempt == 1}


def test_a_rejected_item_is_not_asked_again(store):
    def script(question):
        if question.item.persona.uuid == "persona-2":
            return AnswerFailure(FailureKind.REJECTED, "The prompt is too long.")
        return Answer(rate(question))

    run_id = add_run(store)
    claim(store)
    client = ScriptedClient(script)
    assert execute(store, client, run_id) == "partial"
    assert len(client.asked) == PLANNED
    assert get_run(store, run_id).tally["failures"] == {"rejected": 6}  # 4 traits, 2 dual


def test_a_fault_of_the_transport_is_waited_out_and_costs_no_item(store):
    faults = iter([EngineFault(FailureKind.OVERLOADED, "Busy.", 0.01)])
    monitor = WaitingSeen()
    waits, shown = [], []

    async def wait(_stopping, seconds):
        await asyncio.to_thread(monitor.stored.wait, HANGS_SECONDS)
        waits.append(seconds)
        shown.append(get_run(store, run_id).activity)

    run_id = add_run(store, max_concurrency=1)
    claim(store)
    client = ScriptedClient(lambda question: next(faults, None) or Answer(rate(question)))
    context = replace(worker_context(store, client), monitor=monitor, wait=wait)
    assert execute_benchmark_run(context, run_id) == "done"
    assert len(waits) == 1
    assert 0.5 * 0.75 <= waits[0] <= 0.5 * 1.25  # more than the server asks for
    assert shown[0].startswith("Waiting for the engine: Busy. Next try in ")
    assert len(stored(store, run_id)) == PLANNED
    assert get_run(store, run_id).tally["failures"] == {"overloaded": 1}
    with store.read() as session:
        failures = results.list_failures(session, run_id, limit=10)
    assert [(f.persona_uuid, f.n_items) for f in failures] == [(None, 4)]


def test_an_engine_away_for_too_long_fails_the_run_which_stays_resumable(store):
    clock = Clock()

    def script(_question):
        clock.seconds += 100
        return EngineFault(FailureKind.UNREACHABLE, "Refused.", 0.001)

    run_id = add_run(store)
    claim(store)
    status = execute(
        store, ScriptedClient(script), run_id, clock=clock, engine_patience_seconds=150
    )
    assert status == "failed"
    assert "No answer from the engine for" in get_run(store, run_id).error
    with store.write() as session:
        runs.requeue(session, run_id)
    claim(store)
    assert execute(store, ScriptedClient(), run_id) == "done"
    assert len(stored(store, run_id)) == PLANNED


def test_an_engine_that_cannot_be_reached_at_all_fails_with_its_sentence(store):
    async def nobody(*_):
        raise EngineNotReachable("Nobody answers at http://x.")

    run_id = add_run(store)
    claim(store)
    client = ScriptedClient()
    client.factory = nobody
    assert execute(store, client, run_id) == "failed"
    assert get_run(store, run_id).error == "Nobody answers at http://x."


def test_another_model_behind_the_address_stops_the_run(store):
    count = iter(range(100))

    def script(question):
        if next(count) > 8:
            return EngineChanged("The server now serves b, the run began with a.")
        return Answer(rate(question))

    run_id = add_run(store)
    claim(store)
    assert execute(store, ScriptedClient(script), run_id) == "failed"
    run = get_run(store, run_id)
    assert run.error == "The server now serves b, the run began with a."
    assert run.done == len(stored(store, run_id)) > 0


def stop_after(context_box, n):
    """Answer n questions, then ask the process to end."""
    count = iter(range(1, 10_000))

    def script(question):
        if next(count) == n:
            context_box[0].stop.set()
        return Answer(rate(question))

    return script


@pytest.mark.parametrize("n", [1, 7, 20])
def test_a_stopped_run_is_interrupted_and_resumes_with_only_what_is_missing(any_store, n):
    run_id = add_run(any_store)
    claim(any_store)
    box = []
    first = ScriptedClient(stop_after(box, n))
    box.append(worker_context(any_store, first))
    assert execute_benchmark_run(box[0], run_id) == "interrupted"
    before = get_run(any_store, run_id)
    assert before.error == "The dashboard was stopped; resume to go on."
    assert n <= before.done == len(stored(any_store, run_id)) < PLANNED
    assert before.done == sum(before.tally["in"]) + sum(before.tally["rev"])
    with any_store.write() as session:
        runs.requeue(session, run_id)
    claim(any_store, "other")
    second = ScriptedClient()
    assert execute(any_store, second, run_id, owner="other") == "done"
    assert len(second.asked) == PLANNED - before.done
    run = get_run(any_store, run_id)
    assert run.done == run.total == PLANNED
    assert sum(run.tally["in"]) + sum(run.tally["rev"]) == PLANNED
    assert len(run.manifest["executions"]) == 2


def test_cancel_keeps_what_is_rated(any_store):
    run_id = add_run(any_store, 20, 4)
    claim(any_store)

    def script(question):
        if len(client.asked) == 8:
            with any_store.write() as session:
                runs.request_cancel(session, run_id, Clock().now())
        return Answer(rate(question))

    client = ScriptedClient(script)
    assert execute(any_store, client, run_id) == "cancelled"
    run = get_run(any_store, run_id)
    assert 0 < run.done == len(stored(any_store, run_id)) < run.total
    assert not run.cancel_requested


def test_a_worker_whose_run_was_taken_over_writes_nothing_more(any_store):
    run_id = add_run(any_store)
    claim(any_store)
    rows_then = []

    def script(question):
        if len(client.asked) == 8 and not rows_then:
            with any_store.write() as session:
                session.connection().execute(text("UPDATE benchmarkrun SET owner = 'thief'"))
            rows_then.append(len(stored(any_store, run_id)))
        return Answer(rate(question))

    client = ScriptedClient(script)
    assert execute(any_store, client, run_id) == "interrupted"
    assert len(stored(any_store, run_id)) == rows_then[0]
    run = get_run(any_store, run_id)
    assert (run.owner, run.status) == ("thief", "running")


def test_a_resumed_run_refuses_another_model_revision(store):
    run_id = add_run(store)
    claim(store)
    box = []
    client = ScriptedClient(stop_after(box, 5))
    box.append(worker_context(store, client))
    execute_benchmark_run(box[0], run_id)
    with store.write() as session:
        runs.requeue(session, run_id)
    claim(store)
    other = ScriptedClient(report=replace(REPORT, model_revision="2"))
    assert execute(store, other, run_id) == "failed"
    assert "began with model revision 1, now it is 2" in get_run(store, run_id).error
    assert other.asked == []


def test_progress_never_tells_of_more_than_is_stored(store):
    run_id = add_run(store)
    claim(store)
    told = []

    def script(question):
        with store.read() as session:  # one state of the store: commits go on meanwhile
            run = runs.get_run(session, run_id)
            told.append((run.done, results.count_results(session, run_id)))
        return Answer(rate(question))

    execute(store, ScriptedClient(script), run_id)
    assert all(done == rows for done, rows in told)
    assert told[-1][0] > 0
    assert update_progress(store, run_id, 0)["pct"] == 100


def test_only_one_of_many_claims_gets_the_run(any_store):
    run_id = add_run(any_store)
    claims = []
    ready = threading.Barrier(6)

    def take(owner):
        ready.wait()
        claims.append(claim(any_store, owner))

    threads = [threading.Thread(target=take, args=(str(n),)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claims, key=str) == [run_id, None, None, None, None, None]


def test_completed_keys_are_those_stored(any_store):
    run_id = add_run(any_store)
    claim(any_store)
    execute(any_store, ScriptedClient(), run_id)
    keys = get_completed_keys(any_store, run_id)
    expected = sorted((p << 21) | (t << 1) | o for p, t, o, _ in stored(any_store, run_id))
    assert keys.packed.tolist() == expected


@pytest.mark.parametrize(("how", "status"), [("stop", "interrupted"), ("cancel", "cancelled")])
def test_a_run_can_be_stopped_while_the_engine_is_being_probed(store, how, status):
    run_id = add_run(store)
    claim(store)
    client = ScriptedClient()

    async def endless(*_):
        if how == "stop":
            context.stop.set()
        else:
            with store.write() as session:
                runs.request_cancel(session, run_id, Clock().now())
            clock.seconds += 100  # time for the heartbeat, which reads the request
        await asyncio.Event().wait()

    client.factory = endless
    clock = Clock()
    context = worker_context(store, client, clock=clock)
    assert execute_benchmark_run(context, run_id) == status
    assert get_run(store, run_id).status == status
