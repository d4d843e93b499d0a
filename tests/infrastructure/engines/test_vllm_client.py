import asyncio
import dataclasses
import json
import math
from collections.abc import Callable, Coroutine
from contextlib import asynccontextmanager
from itertools import product
from typing import Any

import pytest

from benchlib.domain.asking.prompts import PromptBook
from benchlib.domain.errors import EngineChanged, EngineFault, EngineNotReachable, InvalidInput
from benchlib.domain.records import (
    Answer,
    AnswerFailure,
    PersonaRecord,
    Question,
    TraitRecord,
    WorkItem,
)
from benchlib.domain.vocabulary import SCALE_ORDERS, FailureKind
from benchlib.infrastructure.engines.allowed_hosts import normalise_address
from benchlib.infrastructure.engines.backoff import Backoff
from benchlib.infrastructure.engines.connection_test import inspect_engine
from benchlib.infrastructure.engines.server_metrics import fetch_server_metrics, parse_metrics
from benchlib.infrastructure.engines.vllm_client import VllmClient
from tests.fake_vllm import FakeVllm, Fault, fake_vllm_process, logprobs_for, rating_for
from tests.samples import Clock

KEY = "key-4f7a-secret"


def questions(n: int = 12, mode="distribution", **changes) -> list[Question]:
    """Different questions, all of one persona table and trait."""
    book = PromptBook("en", mode)
    trait = TraitRecord(
        id=1,
        case_id="competent",
        adjective={"en": "competent"},
        question={"en": "How {adjective} is this person?"},
        category="competence",
        valence=1,
    )
    pairs = product(range((n + 1) // 2), SCALE_ORDERS)
    return [
        book.question(
            WorkItem(
                PersonaRecord(id=number, uuid=f"p{number}", attributes={"job": f"job {number}"}),
                trait,
                order,
            )
        )._replace(**changes)
        for number, order in pairs
    ][:n]


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 60))


@asynccontextmanager
async def connected(*fakes: FakeVllm, mode="distribution", key=None, model=None, **options):
    """A client that asks again at once where an address failed, unless the options say more."""
    options = {"timeout_seconds": 10, "backoff": Backoff(0.0, 0.0), **options}
    addresses = [fake.address for fake in fakes]
    client = await VllmClient.connect(addresses, key, model, mode, **options)
    try:
        yield client
    finally:
        await client.close()


def check_answered(asked: list[Question], outcomes, source="logprob_token_ids") -> None:
    """All are answered, each with what the fake says to just this prompt."""
    assert len(asked) == len(outcomes)
    for question, outcome in zip(asked, outcomes, strict=True):
        check_answer(question, outcome, source)


def check_answer(question: Question, outcome, source="logprob_token_ids") -> None:
    assert isinstance(outcome, Answer), outcome
    assert outcome.rating_raw == rating_for(question.user)
    if source is None:
        assert outcome.probabilities is None
        return
    weights = [math.exp(value) for value in logprobs_for(question.user)]
    expected = [weight / sum(weights) for weight in weights]
    assert outcome.probabilities == pytest.approx(expected)
    mass = 0.9 if source == "logprob_token_ids" else 1.0
    assert outcome.valid_mass == pytest.approx(mass)


# -- ways of asking -------------------------------------------------------------------------------


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


# -- what goes wrong before a run -----------------------------------------------------------------


def test_everything_that_was_tried_is_listed_with_its_reason():
    async def scenario():
        wrong_key, other_model = FakeVllm(api_key="right"), FakeVllm(model="other", api_key=KEY)
        async with wrong_key, other_model, FakeVllm() as silent, FakeVllm(healthy=False) as sick:
            refused = "http://127.0.0.1:1"
            await silent.stop()
            addresses = [refused, wrong_key.address, other_model.address + "/v1/", sick.address]
            with pytest.raises(EngineNotReachable) as caught:
                await VllmClient.connect(addresses, KEY, "mine", "distribution")
            lines = str(caught.value).splitlines()
            assert lines[0].startswith("No engine can serve this run")
            assert lines[1] == f"- {refused} refused the connection."
            assert lines[2] == (
                f"- {wrong_key.address} does not accept the API key (401); correct the key."
            )
            assert lines[3] == (
                f"- {other_model.address} does not serve the model 'mine'; it serves other."
            )
            assert lines[4].startswith(f"- {sick.address} answered 503")
            assert KEY not in str(caught.value)
            with pytest.raises(EngineNotReachable, match="wants an API key, and none was given"):
                await VllmClient.connect([wrong_key.address], None, None, "distribution")

    run(scenario)


def test_a_server_that_never_answers_is_given_up():
    async def silence(reader, writer):
        await reader.read()
        writer.close()

    async def scenario():
        server = await asyncio.start_server(silence, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            with pytest.raises(EngineNotReachable, match=r"gave no answer within 0\.2 s"):
                await VllmClient.connect(
                    [f"127.0.0.1:{port}"], None, None, "distribution", timeout_seconds=0.2
                )

    run(scenario)


def test_what_does_not_speak_http_is_no_engine():
    async def babble(reader, writer):
        await reader.read(10)
        writer.write(b"SSH-2.0-OpenSSH\r\n\r\n")
        writer.close()

    async def scenario():
        server = await asyncio.start_server(babble, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            with pytest.raises(EngineNotReachable, match="did not answer in HTTP"):
                await VllmClient.connect([f"127.0.0.1:{port}"], None, None, "distribution")

    run(scenario)


def test_chat_that_is_refused_is_told_in_the_servers_words():
    async def scenario():
        faults = Fault("status", times=2, status=400, message="No chat template")
        async with FakeVllm(faults=[faults]) as fake:
            with pytest.raises(EngineNotReachable, match=r"400 to a test question \(No chat templ"):
                await VllmClient.connect([fake.address], None, None, "distribution")

    run(scenario)


def test_a_busy_server_is_given_a_moment_before_a_run():
    async def scenario():
        busy = Fault("status", times=2, status=429, retry_after="0")
        async with FakeVllm(faults=[busy]) as fake, connected(fake) as client:
            assert client.report.answer_mode_used == "distribution"

    run(scenario)


def test_an_empty_list_of_addresses_is_said_to_be_one():
    with pytest.raises(EngineNotReachable, match="no address was given"):
        asyncio.run(VllmClient.connect([], None, None, "distribution"))


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("localhost:8000", "http://localhost:8000"),
        (" http://localhost:8000/v1/ ", "http://localhost:8000"),
        ("https://host.example/engine/v1", "https://host.example/engine"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("http://host.example?x=1#y", "http://host.example"),
    ],
)
def test_addresses_are_taken_as_meant(given, meant):
    assert normalise_address(given) == meant


@pytest.mark.parametrize("given", ["", "ftp://x", "http://", "http://a b", "http://x:99999"])
def test_addresses_that_are_none_are_refused(given):
    with pytest.raises(InvalidInput, match="is not an http address"):
        normalise_address(given)


def test_an_address_with_a_password_is_refused_without_repeating_it():
    with pytest.raises(InvalidInput, match="own field") as caught:
        normalise_address("http://me:hunter2@host:8000")
    assert "hunter2" not in str(caught.value)


def test_a_key_that_cannot_be_sent_is_refused_without_repeating_it():
    with pytest.raises(InvalidInput, match="paste it again") as caught:
        asyncio.run(VllmClient.connect(["localhost:1"], "abc\nX-Evil: 1", None, "text"))
    assert "Evil" not in str(caught.value)


def test_the_key_shows_up_nowhere():
    async def scenario():
        async with FakeVllm(api_key=KEY) as fake, connected(fake, key=KEY) as client:
            asked = questions(3)
            check_answered(asked, await client.ask(asked))
            fake.settings.api_key = "another"
            with pytest.raises(EngineChanged, match="no longer accepts the API key") as caught:
                await client.ask(asked)
            shown = [repr(client), str(client), repr(client.report), repr(client.addresses)]
            shown += [repr(value) for value in vars(client).values()]
            shown += [str(caught.value), repr(caught.value)]
            assert not any(KEY in text for text in shown)

    run(scenario)


def test_a_server_that_repeats_the_key_is_not_quoted_with_it():
    async def scenario():
        async with FakeVllm(api_key=KEY) as fake, connected(fake, key=KEY) as client:
            fake.script(Fault("status", status=429, message=f"{KEY} has no quota"))
            with pytest.raises(EngineFault, match=r"\[key\] has no quota") as caught:
                await client.ask(questions(3))
            assert KEY not in repr(caught.value)

    run(scenario)


# -- what goes wrong during a run -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        (Fault("status", status=429, retry_after="7"), FailureKind.OVERLOADED, "answered 429"),
        (Fault("status", status=503), FailureKind.OVERLOADED, "answered 503"),
        (Fault("status", status=502), FailureKind.SERVER_ERROR, "answered 502"),
        (Fault("status", status=504), FailureKind.TIMEOUT, "answered 504"),
        (Fault("status", status=500, times=2), FailureKind.SERVER_ERROR, "answered 500"),
        (Fault("reset"), FailureKind.UNREACHABLE, "broke off the connection"),
        (Fault("truncated"), FailureKind.SERVER_ERROR, "not complete JSON"),
        (Fault("html"), FailureKind.SERVER_ERROR, "not complete JSON"),
        (Fault("wrong_count"), FailureKind.SERVER_ERROR, "11 answers to 12 questions"),
        (Fault("duplicate"), FailureKind.SERVER_ERROR, "two answers to one question"),
        (Fault("abort"), FailureKind.SERVER_ERROR, "cut an answer short"),
        (Fault("redirect"), FailureKind.SERVER_ERROR, "redirects to another address (307)"),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else None,
)
def test_faults_of_the_transport_blame_no_question(fault, kind, says):
    async def scenario():
        async with FakeVllm() as fake, connected(fake) as client:
            fake.script(fault)
            asked = questions(12)
            with pytest.raises(EngineFault) as caught:
                await client.ask(asked)
            assert caught.value.kind is kind
            assert says in str(caught.value)
            assert fake.address in str(caught.value)
            assert caught.value.retry_after_seconds == (7.0 if fault.retry_after else None)
            assert client.addresses[0].last_problem == str(caught.value)
            check_answered(asked, await client.ask(asked))
            assert client.addresses[0].last_problem is None
            assert client.addresses[0].faults == 1

    run(scenario)


def test_an_answer_that_never_comes_is_a_timeout():
    async def scenario():
        async with FakeVllm() as fake, connected(fake, timeout_seconds=0.5) as client:
            fake.script(Fault("hang"))
            with pytest.raises(EngineFault, match=r"gave no answer within 0\.5 s") as caught:
                await client.ask(questions(3))
            assert caught.value.kind is FailureKind.TIMEOUT

    run(scenario)


def test_a_server_that_is_gone_is_unreachable_until_it_is_back():
    async def scenario():
        async with FakeVllm() as fake, connected(fake) as client:
            await fake.stop()
            for _ in range(3):
                with pytest.raises(EngineFault) as caught:
                    await client.ask(questions(3))
                assert caught.value.kind is FailureKind.UNREACHABLE
            assert not client.addresses[0].usable or client.addresses[0].backoff_seconds == 0
            await fake.start()
            asked = questions(3)
            check_answered(asked, await client.ask(asked))

    run(scenario)


def test_a_retry_after_date_is_read_by_the_servers_clock():
    async def scenario():
        async with FakeVllm() as fake, connected(fake) as client:
            fake.script(Fault("status", status=429, retry_after="Wed, 21 Oct 2065 07:28:00 GMT"))
            with pytest.raises(EngineFault) as caught:
                await client.ask(questions(1))
            assert caught.value.retry_after_seconds == 3600.0  # never longer than an hour
            fake.script(Fault("status", status=429, retry_after="soon"))
            with pytest.raises(EngineFault) as caught:
                await client.ask(questions(1))
            assert caught.value.retry_after_seconds is None

    run(scenario)


def test_choices_out_of_order_find_their_questions():
    async def scenario():
        async with FakeVllm() as fake, connected(fake) as client:
            fake.script(Fault("shuffle"))
            asked = questions(12)
            check_answered(asked, await client.ask(asked))

    run(scenario)


@pytest.mark.parametrize("kind", ["nan", "null", "missing"])
def test_spoiled_logprobs_cost_one_item_only(kind):
    async def scenario():
        async with FakeVllm() as fake, connected(fake) as client:
            fake.script(Fault(kind))
            asked = questions(12)
            spoiled, *rest = await client.ask(asked)
            assert spoiled.kind is FailureKind.UNUSABLE
            check_answered(asked[1:], rest)

    run(scenario)


@pytest.mark.parametrize("status", [400, 500])
@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("bad", [[0], [7], [3, 11], range(12)])
def test_poisoned_questions_are_found_and_the_rest_answered(status, batch, bad):
    async def scenario():
        settings = {"poison_status": status, "batch": batch}
        async with FakeVllm(**settings) as fake, connected(fake) as client:
            asked = questions(12)
            for place in bad:
                asked[place] = asked[place]._replace(user=f"POISON {place}")
            for place, outcome in enumerate(await client.ask(asked)):
                if place in bad:
                    assert outcome.kind is FailureKind.REJECTED
                    assert "This prompt is poisoned" in outcome.message
                else:
                    check_answer(asked[place], outcome)

    run(scenario)


def test_one_poisoned_question_alone_is_rejected():
    async def scenario():
        async with FakeVllm() as fake, connected(fake) as client:
            (outcome,) = await client.ask(questions(1, user="POISON"))
            assert outcome == AnswerFailure(
                FailureKind.REJECTED,
                "The server refuses this question (400): This prompt is poisoned",
            )

    run(scenario)


@pytest.mark.parametrize("batch", [True, False])
def test_one_status_500_in_passing_costs_nothing(batch):
    async def scenario():
        async with FakeVllm(batch=batch) as fake, connected(fake) as client:
            fake.script(Fault("status", status=500))
            asked = questions(12)
            check_answered(asked, await client.ask(asked))

    run(scenario)


@pytest.mark.parametrize(
    "change",
    [{"model": "other"}, {"root": "/models/fake-model-2"}, {"model": "other", "batch": False}],
)
def test_another_model_behind_the_address_stops_the_run(change):
    async def scenario():
        async with FakeVllm() as fake, connected(fake) as client:
            await client.ask(questions(3))
            await fake.stop()
            with pytest.raises(EngineFault):
                await client.ask(questions(3))
            for name, value in change.items():
                setattr(fake.settings, name, value)
            await fake.start()
            with pytest.raises(EngineChanged, match=f"{fake.address} (no longer|now) serves"):
                await client.ask(questions(3))

    run(scenario)


@pytest.mark.parametrize("change", [{"model": "other"}, {"root": "/models/fake-model-2"}])
def test_another_model_is_noticed_even_without_a_fault_before(change):
    async def scenario():
        async with FakeVllm() as fake, connected(fake) as client:
            await client.ask(questions(3))
            for name, value in change.items():
                setattr(fake.settings, name, value)
            with pytest.raises(EngineChanged):
                await client.ask(questions(3))

    run(scenario)


def test_a_reply_in_another_models_name_stops_the_run():
    async def scenario():
        fake = FakeVllm(other_models=["other"])
        async with fake, connected(fake, model="other") as client:
            assert client.report.model_name == "other"
            client._model_answered = "fake-model"
            with pytest.raises(EngineChanged, match="now answers as 'other'"):
                await client.ask(questions(1))

    run(scenario)


@pytest.mark.parametrize("lost", [{"logprobs": False}, {"longest_prompt": 10}])
def test_a_server_that_lost_an_ability_stops_the_run_instead_of_failing_every_item(lost):
    async def scenario():
        async with FakeVllm() as fake, connected(fake) as client:
            for name, value in lost.items():
                setattr(fake.settings, name, value)
            with pytest.raises(EngineChanged, match="does not answer the test question"):
                await client.ask(questions(4))

    run(scenario)


def test_closing_ends_calls_in_flight():
    async def scenario():
        async with FakeVllm() as fake:
            client = await VllmClient.connect([fake.address], None, None, "distribution")
            fake.script(Fault("hang", times=2))
            calls = [asyncio.ensure_future(client.ask(questions(3))) for _ in range(2)]
            while fake.in_flight < 2:
                await asyncio.sleep(0)
            await client.close()
            for outcome in await asyncio.gather(*calls, return_exceptions=True):
                assert isinstance(outcome, EngineFault)
            with pytest.raises(EngineFault, match="was closed"):
                await client.ask(questions(1))

    run(scenario)


# -- several addresses ----------------------------------------------------------------------------


def test_work_is_shared_among_addresses():
    async def scenario():
        async with FakeVllm() as one, FakeVllm() as two, connected(one, two) as client:
            assert client.report.addresses == (one.address, two.address)
            assert client.concurrency == 8
            before = one.n_items, two.n_items
            asked = questions(12)
            for outcomes in await asyncio.gather(*(client.ask(asked) for _ in range(8))):
                check_answered(asked, outcomes)
            assert one.n_items - before[0] == two.n_items - before[1] == 48

    run(scenario)


def test_the_loss_of_one_address_loses_nothing():
    async def scenario():
        async with FakeVllm() as one, FakeVllm() as two, connected(one, two) as client:
            one.script(Fault("hang", times=3))
            asked = questions(12)
            calls = [asyncio.ensure_future(client.ask(asked)) for _ in range(6)]
            while one.in_flight < 3:
                await asyncio.sleep(0)
            await one.stop()
            for outcomes in await asyncio.gather(*calls):
                check_answered(asked, outcomes)
            check_answered(asked, await client.ask(asked))
            lost, kept = client.addresses
            assert lost.faults >= 3
            assert lost.last_problem is not None
            assert kept.usable
            assert kept.faults == 0
            await one.start()
            before = one.n_items
            await asyncio.gather(*(client.ask(asked) for _ in range(4)))
            assert one.n_items > before
            assert client.addresses[0].last_problem is None

    run(scenario)


def test_back_offs_grow_and_several_losses_at_once_count_as_one():
    clock = Clock()

    async def scenario():
        timing = {"backoff": Backoff(100.0, 350.0), "clock": clock.monotonic}
        async with FakeVllm() as fake, connected(fake, **timing) as client:
            fake.script(Fault("reset", times=3))
            calls = [client.ask(questions(2)) for _ in range(3)]
            await asyncio.gather(*calls, return_exceptions=True)
            (state,) = client.addresses
            assert state.faults == 3
            assert not state.usable
            assert state.backoff_seconds == 100
            assert client.concurrency == 4
            fake.script(Fault("reset"))
            with pytest.raises(EngineFault):
                await client.ask(questions(2))  # an only address is asked all the same
            assert client.addresses[0].backoff_seconds == 100
            waits = []
            for _ in range(3):
                clock.seconds += 350
                fake.script(Fault("reset"))
                with pytest.raises(EngineFault):
                    await client.ask(questions(2))
                waits.append(client.addresses[0].backoff_seconds)
            assert waits == [200, 350, 350]
            await client.ask(questions(2))
            assert client.addresses[0].usable

    run(scenario)


def test_only_if_all_addresses_fail_the_caller_hears_of_it():
    async def scenario():
        async with FakeVllm() as one, FakeVllm() as two, connected(one, two) as client:
            for fake, seconds in ((one, "3"), (two, "5")):
                fake.script(Fault("status", status=429, retry_after=seconds))
            with pytest.raises(EngineFault) as caught:
                await client.ask(questions(2))
            assert caught.value.kind is FailureKind.OVERLOADED
            assert caught.value.retry_after_seconds == 3.0
            assert one.address in str(caught.value)
            assert two.address in str(caught.value)

    run(scenario)


def test_an_address_that_comes_late_is_used_once_it_fits():
    async def scenario():
        late = FakeVllm()
        await late.start()
        await late.stop()
        async with FakeVllm() as fake, connected(fake, late) as client:
            assert client.report.addresses == (fake.address, late.address)
            assert any(
                note == f"{late.address} refused the connection. It is used once it answers."
                for note in client.report.notes
            )
            late.settings.model = "other"
            await late.start()
            asked = questions(4)
            for outcomes in await asyncio.gather(*(client.ask(asked) for _ in range(4))):
                check_answered(asked, outcomes)
            assert late.n_items == 0
            assert "no longer serves" in client.addresses[1].last_problem
            late.settings.model = "fake-model"
            await asyncio.gather(*(client.ask(asked) for _ in range(4)))
            assert late.n_items > 4
            await late.stop()

    run(scenario)


def test_addresses_that_cannot_be_asked_alike_are_left_out():
    async def scenario():
        other, lesser = FakeVllm(model="other"), FakeVllm(logprob_token_ids=False)
        fake = FakeVllm()
        started = connected(fake, other, lesser, model="fake-model")
        async with fake, other, lesser, started as client:
            assert client.report.addresses == (fake.address,)
            assert sum("left out of this run" in note for note in client.report.notes) == 2

    run(scenario)


def test_one_address_can_be_asked_on_purpose():
    async def scenario():
        async with FakeVllm() as one, FakeVllm() as two, connected(one, two) as client:
            before = one.n_items
            asked = questions(4)
            check_answered(asked, await client.ask_at(1, asked))
            assert one.n_items == before

    run(scenario)


# -- the form and the engine panel ----------------------------------------------------------------


def test_inspecting_an_engine_tells_what_it_can_do():
    async def scenario():
        async with FakeVllm(api_key=KEY) as fake:
            found = await inspect_engine(fake.address + "/v1", api_key=KEY)
            assert found == {
                "address": fake.address,
                "ok": True,
                "error": None,
                "engine_version": "0.32.0",
                "models": ["fake-model"],
                "supports": {"batch": True, "distribution": True, "structured": True},
                "notes": [],
            }
            fake.settings.batch = fake.settings.logprobs = fake.settings.regex = False
            fake.settings.json = fake.settings.response_format = False
            found = await inspect_engine(fake.address, api_key=KEY)
            assert found["supports"] == {"batch": False, "distribution": False, "structured": False}
            assert found["notes"]

    run(scenario)


def test_inspecting_what_is_no_engine_gives_a_sentence():
    async def scenario():
        async with FakeVllm(api_key=KEY) as fake:
            for address, key, model, says in [
                ("http://127.0.0.1:1", None, None, "refused the connection."),
                (fake.address, None, None, "wants an API key"),
                (fake.address, "wrong", None, "does not accept the API key"),
                (fake.address, KEY, "mine", "does not serve the model 'mine'"),
                ("nowhere.invalid", None, None, "cannot be resolved"),
                ("ftp://x", None, None, "is not an http address"),
                ("http://a:hunter2@x", None, None, "own field"),
            ]:
                found = await inspect_engine(address, api_key=key, model_name=model)
                assert not found["ok"]
                assert says in found["error"]
                assert found["error"].endswith(".")
                assert "hunter2" not in repr(found)
                assert KEY not in repr(found)

    run(scenario)


def test_engine_metrics_are_summed_over_engines():
    async def scenario():
        async with FakeVllm() as fake, connected(fake) as client:
            await client.ask(questions(10))
            metrics = await fetch_server_metrics(fake.address)
            assert metrics.generation_tokens == fake.n_items
            assert metrics.prefix_cache_hit_rate == pytest.approx(0.58)
            fake.settings.metrics = False
            metrics = await fetch_server_metrics(fake.address)
            assert all(value is None for value in dataclasses.asdict(metrics).values())
            assert metrics.prefix_cache_hit_rate is None
        with pytest.raises(EngineFault, match="refused the connection"):
            await fetch_server_metrics(fake.address)

    run(scenario)


def test_metrics_lines_that_are_not_understood_are_passed_over():
    metrics = parse_metrics(
        "# HELP vllm:num_requests_running Number\n"
        'vllm:num_requests_running{engine="0",model_name="a } b"} 3.0\n'
        'vllm:num_requests_running{engine="1"} 4 1395066363000\n'
        "vllm:num_requests_waiting NaN\n"
        "vllm:num_preemptions_total many\n"
        "vllm:unknown 1\n"
        "python_info 1\n\n"
        "vllm:prompt_tokens_total 1.5e3\n"
    )
    assert metrics.requests_running == 7
    assert metrics.requests_waiting is None
    assert metrics.preemptions is None
    assert metrics.prompt_tokens == 1500


# -- the fake itself ------------------------------------------------------------------------------


def test_the_fake_also_runs_in_a_process_of_its_own_and_takes_orders():
    import httpx

    with fake_vllm_process("--model", "far", "--set", "batch=false") as address:

        async def scenario():
            client = await VllmClient.connect([address], None, None, "distribution")
            assert client.report.model_name == "far"
            assert client.report.route == "single"
            order = {"faults": [{"kind": "status", "status": 503}], "settings": {"record": True}}
            state = httpx.post(f"{address}/fake/script", json=order).json()
            assert state["faults_left"] == 1
            with pytest.raises(EngineFault):
                await client.ask(questions(1))
            asked = questions(2)
            check_answered(asked, await client.ask(asked))
            assert httpx.get(f"{address}/fake/state").json()["prompts"] == 2
            await client.close()

        run(scenario)
