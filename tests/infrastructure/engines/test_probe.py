"""Ways of asking, found by the probe and used by the client."""

import json

import pytest

from benchlib.domain.errors import EngineNotReachable
from benchlib.domain.records import (
    Answer,
)
from benchlib.domain.vocabulary import FailureKind
from benchlib.infrastructure.engines.vllm_client import VllmClient
from tests.fake_vllm import FakeVllm
from tests.infrastructure.engines.asking import check_answered, connected, questions, run


@pytest.mark.parametrize("batch", [True, False])
def test_distribution_by_token_ids(batch):
    async def scenario():
        async with FakeVllm(batch=batch) as fake, connected(fake) as client:
            report = client.report
            assert report.kind == "vllm"
            assert report.engine_version == "0.32.0"
            assert report.model_name == "fake-model"
            assert report.model_revision == "/models/fake-model"
            assert report.max_model_len == 4096
            assert report.answer_mode_used == "distribution"
            assert report.logprobs_source == "logprob_token_ids"
            assert report.route == ("batch" if batch else "single")
            assert any("one by one" in note for note in report.notes) is not batch
            before = fake.n_items
            asked = questions(12)
            check_answered(asked, await client.ask(asked))
            assert fake.n_items - before == 12
            if batch:
                assert fake.counts["/v1/chat/completions/batch"] <= 4
            assert await client.ask([]) == []

    run(scenario)


def test_a_token_that_only_looks_like_a_digit_is_not_taken_for_it():
    async def scenario():
        async with FakeVllm(prefix_token=True) as fake, connected(fake) as client:
            assert client.report.logprobs_source == "logprob_token_ids"
            assert client.plan.fields["return_tokens_as_token_ids"] is True
            asked = questions()
            check_answered(asked, await client.ask(asked))

    run(scenario)


@pytest.mark.parametrize("lacks", ["tokenize", "logprob_token_ids"])
def test_distribution_by_choice_where_token_ids_are_not_reported(lacks):
    async def scenario():
        async with FakeVllm(**{lacks: False}) as fake, connected(fake) as client:
            assert client.report.answer_mode_used == "distribution"
            assert client.report.logprobs_source == "choice"
            assert any("enforced instead" in note for note in client.report.notes)
            asked = questions()
            check_answered(asked, await client.ask(asked), "choice")

    run(scenario)


def test_a_batch_route_that_knows_less_gives_way_to_the_single_one():
    async def scenario():
        async with FakeVllm(refuses_batch_fields=True) as fake, connected(fake) as client:
            assert client.report.route == "single"
            assert client.report.logprobs_source == "logprob_token_ids"
            asked = questions(5)
            check_answered(asked, await client.ask(asked))

    run(scenario)


def test_without_logprobs_a_json_rating_is_next_best():
    async def scenario():
        async with FakeVllm(logprobs=False) as fake, connected(fake) as client:
            assert client.report.answer_mode == "distribution"
            assert client.report.answer_mode_used == "rating"
            assert client.report.logprobs_source is None
            assert any("without a distribution" in note for note in client.report.notes)
            asked = questions(mode="rating")
            check_answered(asked, await client.ask(asked), None)

    run(scenario)


@pytest.mark.parametrize(
    ("lacks", "field"),
    [
        ([], "structured_outputs"),
        (["regex"], "structured_outputs"),
        (["regex", "json"], "response_format"),
    ],
)
@pytest.mark.parametrize("mode", ["rating", "rationale"])
def test_json_answers_are_enforced_in_the_best_way_there_is(lacks, field, mode):
    async def scenario():
        switched_off = dict.fromkeys(lacks, False)
        async with FakeVllm(**switched_off) as fake, connected(fake, mode=mode) as client:
            assert client.report.answer_mode_used == mode
            assert client.plan.enforced
            assert field in client.plan.fields
            assert client.report.notes == ()
            asked = questions(mode=mode)
            outcomes = await client.ask(asked)
            check_answered(asked, outcomes, None)
            assert ("rationale" in json.loads(outcomes[0].raw_answer)) is (mode == "rationale")

    run(scenario)


@pytest.mark.parametrize("mode", ["distribution", "rating", "rationale", "text"])
def test_a_server_that_ignores_every_extension_is_read_from_text(mode):
    async def scenario():
        reduced = FakeVllm(
            version=None,
            owned_by="someone",
            root=None,
            max_model_len=None,
            tokenize=False,
            batch=False,
            logprobs=False,
            choice=False,
            regex=False,
            json=False,
            response_format=False,
            metrics=False,
        )
        async with reduced as fake, connected(fake, mode=mode) as client:
            assert client.report.kind == "openai-compatible"
            assert client.report.engine_version is None
            assert client.report.answer_mode_used == (
                "rationale" if mode == "rationale" else "text"
            )
            assert not client.plan.enforced
            assert any("one by one" in note for note in client.report.notes)
            if mode != "text":
                assert any("free text" in note for note in client.report.notes)
            asked = questions(5, mode=client.report.answer_mode_used)
            check_answered(asked, await client.ask(asked), None)

    run(scenario)


def test_a_server_without_a_model_list_needs_the_models_name():
    async def scenario():
        async with FakeVllm(models=False) as fake:
            with pytest.raises(EngineNotReachable, match="name the model"):
                await VllmClient.connect([fake.address], None, None, "distribution")
            async with connected(fake, model="fake-model") as client:
                asked = questions(3)
                check_answered(asked, await client.ask(asked))

    run(scenario)


def test_a_template_without_system_role_gets_it_in_front_of_the_question():
    async def scenario():
        async with FakeVllm(system_role=False, record=True) as fake, connected(fake) as client:
            assert any("no system prompt" in note for note in client.report.notes)
            asked = questions(2)
            outcomes = await client.ask(asked)
            assert all(isinstance(outcome, Answer) for outcome in outcomes)
            (message,) = fake.seen[-1][1]["messages"][0]
            assert message == {"role": "user", "content": f"{asked[0].system}\n\n{asked[0].user}"}

    run(scenario)


def test_a_thinking_model_is_asked_to_answer_at_once():
    async def scenario():
        async with FakeVllm(thinks=True) as fake, connected(fake) as client:
            assert client.plan.fields["chat_template_kwargs"] == {"enable_thinking": False}
            assert any("thinking was switched off" in note for note in client.report.notes)
            asked = questions(3)
            check_answered(asked, await client.ask(asked))

    run(scenario)


def test_a_model_that_hardly_answers_with_digits_is_reported():
    async def scenario():
        async with FakeVllm(valid_mass=0.004) as fake, connected(fake) as client:
            assert any("only 0.4% of its probability" in note for note in client.report.notes)

    run(scenario)


def test_a_temperature_without_effect_is_reported():
    async def scenario():
        async with FakeVllm() as fake, connected(fake, temperature=0.7) as client:
            assert any("before temperature" in note for note in client.report.notes)
            assert client.plan.fields["temperature"] == 0.7

    run(scenario)


def test_an_answer_cut_off_is_unusable_and_says_so():
    async def scenario():
        plain = {"regex": False, "json": False, "response_format": False, "logprobs": False}
        async with FakeVllm(**plain) as fake, connected(fake, mode="text", max_new_tokens=2) as c:
            fake.settings.thinks = True
            (outcome,) = await c.ask(questions(1, mode="text"))
            assert outcome.kind is FailureKind.UNUSABLE
            assert outcome.message.endswith("It was cut off at 2 tokens.")

    run(scenario)


def test_what_is_sent_is_chat_messages_for_the_servers_own_template():
    async def scenario():
        async with FakeVllm(record=True) as fake, connected(fake) as client:
            asked = questions(2, system="Be a cook.")
            await client.ask(asked)
            path, body = fake.seen[-1]
            assert path == "/v1/chat/completions/batch"
            assert body["model"] == "fake-model"
            assert body["temperature"] == 0.0
            assert body["messages"][1] == [
                {"role": "system", "content": "Be a cook."},
                {"role": "user", "content": asked[1].user},
            ]
            no_system = [question._replace(system="") for question in asked]
            await client.ask(no_system)
            assert fake.seen[-1][1]["messages"][0] == [{"role": "user", "content": asked[0].user}]

    run(scenario)


def test_tokens_are_told_per_item_only_where_the_server_counts_so():
    async def scenario():
        async with FakeVllm() as fake, connected(fake) as client:
            (alone,) = await client.ask(questions(1))
            together = await client.ask(questions(2))
            assert (alone.prompt_tokens, alone.completion_tokens) == (170, 1)
            assert all(outcome.prompt_tokens is None for outcome in together)
            (state,) = client.addresses
            assert state.prompt_tokens == 3 * 170
            assert state.completion_tokens == 3
            assert state.items_answered == 3

    run(scenario)
