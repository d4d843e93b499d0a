"""Whole runs against engines that differ in speed or take only so much at a time."""

from dataclasses import replace

import pytest

from benchlib.infrastructure.engines.vllm_client import VllmClient
from benchlib.infrastructure.execution.executor import execute_benchmark_run
from benchlib.infrastructure.storage import results
from tests.fake_vllm import FakeVllm
from tests.infrastructure.execution.test_run_faults import Served
from tests.samples import add_run, claim, get_run, worker_context
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


class Watched:
    """A client whose first and least `concurrency` are kept; `act` is called before it is asked."""

    def __init__(self, client, act):
        self._client = client
        self._act = act
        self.first = self.least = client.concurrency

    def __getattr__(self, name):
        return getattr(self._client, name)

    async def ask(self, questions):
        self._act()
        outcomes = await self._client.ask(questions)
        self.least = min(self.least, self._client.concurrency)
        return outcomes


def execute(store, *fakes, act=lambda: None, **options):
    """A complete run at these addresses; returns it and its client."""
    clients = []

    async def make_client(*_):
        addresses = [fake.address for fake in fakes]
        options.setdefault("max_concurrency", 16)
        client = await VllmClient.connect(addresses, None, "fake-model", "distribution", **options)
        clients.append(Watched(client, act))
        return clients[-1]

    run_id = add_run(store, 400, 4, model_name="fake-model", max_concurrency=16)
    claim(store)
    context = replace(worker_context(store, ScriptedClient()), make_client=make_client)
    assert execute_benchmark_run(context, run_id) == "done"
    run = get_run(store, run_id)
    with store.read() as session:
        assert results.count_results(session, run_id) == run.done == run.total == PLANNED
    return run, clients[0]


def test_a_slow_address_does_not_hold_back_a_fast_one(store, serve):
    slow, fast = serve(), serve()
    most = 0.9 * PLANNED

    def hold():  # from the first question on, until the other has answered nearly all
        slow.settings.holds = lambda: fast.n_items < most

    run, client = execute(store, slow, fast, act=hold)
    assert slow.n_items + fast.n_items >= PLANNED
    assert fast.n_items >= most
    assert (run.failed, client.addresses[0].faults) == (0, 0)


def test_an_engine_that_refuses_gets_less_at_a_time(store, serve):
    fake = serve(queue_full_above=2, latency_seconds=0.01)
    run, client = execute(store, fake)
    assert run.tally["failures"].keys() == {"overloaded"}
    assert client.first == 4
    assert client.least <= 2


def test_an_engine_whose_requests_wait_gets_less_at_a_time(store, serve):
    fake = serve(latency_seconds=0.02, slots=1)
    _, client = execute(store, fake, queue_check_seconds=0.0)
    assert client.first == 4
    assert client.least <= 3
