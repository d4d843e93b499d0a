import json

from sqlalchemy import text

from benchlib.domain.records import Answer, AnswerFilter
from benchlib.infrastructure.execution.executor import execute_benchmark_run
from benchlib.infrastructure.storage import results, runs
from tests.samples import add_run, claim, get_run, worker_context
from tests.scripted_client import ScriptedClient, rate

RAW = ['"3"', "3\\", "{3,NULL}", "NULL", "", "'3'", "3\n", "drei, ä", 'because "x" \\ {y}, ' * 3]


def test_answers_come_back_as_they_were_whatever_they_hold(any_store):
    """300 in one commit or a few: every size of statement, texts short and long."""
    run_id = add_run(any_store, 50, 4, max_concurrency=64)
    claim(any_store)

    def raw(question):
        return RAW[(question.item.persona.id * 4 + question.item.trait.id) % len(RAW)]

    client = ScriptedClient(lambda question: Answer(rate(question), raw_answer=raw(question)))
    assert execute_benchmark_run(worker_context(any_store, client), run_id) == "done"
    asked = {
        (question.item.persona.id, question.item.trait.id, question.item.scale_order): question
        for question in client.asked
    }
    with any_store.read() as session:
        kept = results.list_answers(session, run_id, AnswerFilter(), limit=1_000)
    assert len(kept) == len(asked) == 300
    for answer in kept:
        question = asked[answer.persona_id, answer.trait_id, answer.scale_order]
        assert (answer.raw_answer, answer.rating_raw) == (raw(question), rate(question))


def test_a_configuration_is_stored_under_the_names_it_always_had(store):
    run_id = add_run(store, max_concurrency=7)
    with store.read() as session:
        text_now = (
            session.connection().execute(text("SELECT config FROM benchmarkrun")).scalar_one()
        )
    stored = json.loads(text_now)
    assert stored["batch_size"] == 7
    assert "max_concurrency" not in stored
    assert get_run(store, run_id).config == runs.config_from_json(stored)
    assert (
        runs.config_to_json(runs.config_from_json(stored)) | {"trait_ids": stored["trait_ids"]}
        == stored
    )
