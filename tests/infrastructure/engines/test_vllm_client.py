"""What goes wrong during a run."""

import asyncio

import pytest

from benchlib.domain.errors import EngineChanged, EngineFault
from benchlib.domain.records import (
    AnswerFailure,
)
from benchlib.domain.vocabulary import FailureKind
from benchlib.infrastructure.engines.vllm_client import VllmClient
from tests.fake_vllm import FakeVllm, Fault, fake_vllm_process
from tests.infrastructure.engines.asking import (
    check_answer,
    check_answered,
    connected,
    questions,
    run,
)


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
