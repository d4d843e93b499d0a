"""Several addresses of one client."""

import asyncio

import pytest

from benchlib.domain.errors import EngineFault
from benchlib.domain.vocabulary import FailureKind
from benchlib.infrastructure.engines.backoff import Backoff
from tests.fake_vllm import FakeVllm, Fault
from tests.infrastructure.engines.asking import check_answered, connected, questions, run
from tests.samples import Clock


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
