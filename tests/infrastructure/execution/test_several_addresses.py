"""Whole runs against engines that differ in speed or take only so much at a time."""

from dataclasses import replace

import pytest

from benchlib.infrastructure.engines import vllm_client
from benchlib.infrastructure.execution.executor import create_client, execute_benchmark_run
from benchlib.infrastructure.storage import results
from tests.fake_vllm import FakeVllm
from tests.infrastructure.execution.test_run_faults import Served
from tests.samples import add_run, claim, get_run, worksite
from tests.scripted_client import ScriptedClient

PLANNED = 2_400  # 400 personas x 4 traits, half of the pairs in both orders


@pytest.fixture
def serve():
    """Gives `serve(**settings) -> FakeVllm`, listening."""
    opened = []

    def start(**settings):
        opened.append(Served(FakeVllm(**settings)))
        return opened[-1].fake

    yield start
    for served in opened:
        served.close()


def execute(store, *fakes, **changes):
    """A complete run at these addresses; returns it and its client."""
    clients = []

    async def make_client(*chosen):
        clients.append(await create_client(*chosen))
        return clients[-1]

    addresses = ",".join(fake.address for fake in fakes)
    run_id = add_run(
        store,
        400,
        4,
        vllm_base_url=addresses,
        model_name="fake-model",
        max_concurrency=16,
        **changes,
    )
    claim(store)
    site = replace(worksite(store, ScriptedClient()), make_client=make_client)
    assert execute_benchmark_run(site, run_id) == "done"
    run = get_run(store, run_id)
    with store.read() as session:
        assert results.count_results(session, run_id) == run.done == run.total == PLANNED
    return run, clients[0]


def test_a_slow_address_does_not_hold_back_a_fast_one(store, serve):
    slow, fast = serve(latency_seconds=1.5), serve()
    run, client = execute(store, slow, fast)
    assert slow.n_items + fast.n_items >= PLANNED
    assert fast.n_items > 0.9 * PLANNED
    assert (run.failed, client.addresses[0].faults) == (0, 0)


def test_an_engine_that_refuses_gets_less_at_a_time(store, serve):
    fake = serve(queue_full_above=2, latency_seconds=0.01)
    run, client = execute(store, fake)
    assert run.tally["failures"].keys() == {"overloaded"}
    assert client.capacity <= 2


def test_an_engine_whose_requests_wait_gets_less_at_a_time(store, serve, monkeypatch):
    monkeypatch.setattr(vllm_client, "_LOOK_SECONDS", 0.05)
    fake = serve(latency_seconds=0.02, slots=1)
    _, client = execute(store, fake)
    assert fake.max_in_flight >= 4
    assert client.capacity <= 3
