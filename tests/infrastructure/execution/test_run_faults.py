"""Whole runs against a fake vLLM server that fails in every way a script can say.

The rating of the fake is a function of the prompt, so that an answer given to the wrong question
is found out.
"""

import asyncio
import threading
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from benchlib.application.benchmark_service import BenchmarkService
from benchlib.domain.material.personas import PersonaDraft
from benchlib.domain.records import AnswerFilter
from benchlib.domain.run_state import RESUMABLE
from benchlib.infrastructure.engines.backoff import Backoff
from benchlib.infrastructure.execution.executor import create_client, execute_benchmark_run
from benchlib.infrastructure.execution.timing import Timing
from benchlib.infrastructure.storage import datasets, runs
from benchlib.settings import Settings
from tests.fake_answers import Fault, rating_for
from tests.fake_vllm import FakeVllm
from tests.samples import (
    HANGS_SECONDS,
    Clock,
    WaitingSeen,
    add_run,
    claim,
    get_run,
    worker_context,
)
from tests.scripted_client import ScriptedClient

PLANNED = 36  # 6 personas x 4 traits, half of the 24 pairs in both orders
NOW = datetime(2026, 1, 2, tzinfo=UTC)


class Served:
    """A fake server in a thread of its own, to be changed in the middle of a run."""

    def __init__(self, fake):
        self.fake = fake
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.start()

    def start(self):
        asyncio.run_coroutine_threadsafe(self.fake.start(), self._loop).result(10)

    def stop(self):
        asyncio.run_coroutine_threadsafe(self.fake.stop(), self._loop).result(10)

    def close(self):
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def serve():
    """Gives `serve(**settings) -> Served`."""
    opened = []

    def start(**settings):
        opened.append(Served(FakeVllm(**settings)))
        return opened[-1]

    yield start
    for served in opened:
        served.close()


SHORT = Timing(request_backoff=Backoff(0.01, 0.02))
OUTAGE = Timing(request_backoff=Backoff(0.5, 15.0))


class Watched:
    """A client that does something before one of its requests."""

    def __init__(self, client, at, act):
        self._client = client
        self._left = at
        self._act = act

    def __getattr__(self, name):
        return getattr(self._client, name)

    async def ask(self, questions):
        self._left -= 1
        if self._left == 0:
            self._act()
        return await self._client.ask(questions)


def execute(store, run_id, *, at=1, act=lambda: None, clock=None, context=None, **settings):
    """Claim and execute; `act` happens before the request number `at`, after the probe.

    `context` replaces parts of the WorkerContext.
    """

    async def make_client(config, api_key, chosen):
        return Watched(await create_client(config, api_key, chosen), at, act)

    assert claim(store) == run_id
    parts = {"make_client": make_client, "timing": SHORT, **(context or {})}
    usual = worker_context(store, ScriptedClient(), clock=clock, **settings)
    return execute_benchmark_run(replace(usual, **parts), run_id)


def queue(store, *served, **changes):
    address = ",".join(one.fake.address for one in served)
    return add_run(store, vllm_base_url=address, model_name="fake-model", **changes)


def requeue(store, run_id):
    with store.write() as session:
        runs.requeue(session, run_id, None)


def check_answers(store, run_id, tmp_path):
    """Every planned key once, each with the rating of its own prompt; returns the run."""
    service = BenchmarkService(store, None, Settings(data_dir=tmp_path))
    answers = service.runs.list_answers(run_id, AnswerFilter(), limit=1_000)
    keys = {(a.persona_uuid, a.case_id, a.scale_order) for a in answers}
    run = get_run(store, run_id)
    assert len(keys) == len(answers) == run.done
    assert run.done + run.failed <= run.total == PLANNED
    for answer in answers:
        assert answer.rating_raw == rating_for(service.runs.get_prompt(run_id, answer).user)
    return run


def outage(clock, meanwhile=lambda _seconds: None):
    """Parts of a WorkerContext whose waiting moves the clock instead.

    The first wait lasts until the store says that the run waits for the engine. Each calls
    `meanwhile` with the seconds waited so far.
    """
    monitor, began = WaitingSeen(), clock.seconds

    async def wait(_stopping, seconds):
        await asyncio.to_thread(monitor.stored.wait, HANGS_SECONDS)
        clock.seconds += seconds
        meanwhile(clock.seconds - began)

    return {"monitor": monitor, "timing": OUTAGE, "wait": wait}


FAULTS = {
    "429": (Fault("status", 3, status=429, retry_after="0"), "overloaded"),
    "500": (Fault("status", 3, status=500), "server_error"),
    "503": (Fault("status", 3, status=503), "overloaded"),
    "reset in the middle of a body": (Fault("reset", 3), "unreachable"),
    "never answers": (Fault("hang", 2), "timeout"),
    "truncated JSON": (Fault("truncated", 3), "server_error"),
    "wrong number of choices": (Fault("wrong_count", 3), "server_error"),
    "two choices of one number": (Fault("duplicate", 3), "server_error"),
    "page instead of JSON": (Fault("html", 3), "server_error"),
    "redirect": (Fault("redirect", 2), "server_error"),
    "choices out of order": (Fault("shuffle", 2), None),
    "NaN": (Fault("nan", 3), "unusable"),
    "null": (Fault("null", 2), "unusable"),
    "missing log-probabilities": (Fault("missing", 3), "unusable"),
    "aborted": (Fault("abort", 3), None),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_run_outlives_a_fault(store, tmp_path, serve, name):
    fault, kind = FAULTS[name]
    served = serve()
    run_id = queue(store, served)
    patience = 2 if fault.kind == "hang" else 30
    status = execute(
        store, run_id, at=2, act=lambda: served.fake.script(fault), request_timeout_seconds=patience
    )
    run = check_answers(store, run_id, tmp_path)
    assert (status, run.done, run.failed) == ("done", PLANNED, 0)
    assert not served.fake.faults  # all of them have happened
    if kind is not None:
        assert run.tally["failures"].get(kind, 0) > 0, run.tally["failures"]


def test_one_poisoned_item_fails_alone(store, tmp_path, serve):
    served = serve()
    run_id = queue(store, served, n_personas=5)
    drafts = [
        PersonaDraft(f"p-{i}", {"gender": "female"}, name="POISON" if i == 3 else f"name {i}")
        for i in range(6)
    ]
    with store.write() as session:
        dataset_id = datasets.add_dataset(
            session, "one is poisoned", "imported", drafts, parameters={}, now=NOW
        )
        old = runs.get_run(session, run_id).config
        run_id = runs.add_run(session, replace(old, dataset_id=dataset_id), PLANNED, NOW)
        runs.request_cancel(session, run_id - 1, NOW)
    assert execute(store, run_id) == "partial"
    run = check_answers(store, run_id, tmp_path)
    service = BenchmarkService(store, None, Settings(data_dir=tmp_path))
    poisoned = [f for f in service.runs.list_failures(run_id) if f.final]
    assert {f.persona_uuid for f in poisoned} == {"p-3"}
    assert len(poisoned) == run.failed == PLANNED - run.done


def test_a_server_replaced_by_another_model_stops_the_run(store, tmp_path, serve):
    served = serve()
    run_id = queue(store, served)

    def replace_model():
        served.fake.settings.model = "another-model"

    assert execute(store, run_id, at=4, act=replace_model) == "failed"
    run = get_run(store, run_id)
    assert "fake-model" in run.error
    assert run.status in RESUMABLE
    before = run.done
    assert 0 < before < PLANNED
    requeue(store, run_id)
    assert execute(store, run_id) == "failed"  # still the wrong one
    assert get_run(store, run_id).done == before
    served.fake.settings.model = "fake-model"
    requeue(store, run_id)
    assert execute(store, run_id) == "done"
    assert check_answers(store, run_id, tmp_path).done == PLANNED


def test_another_revision_under_the_same_name_stops_the_run(store, tmp_path, serve):
    served = serve()
    run_id = queue(store, served)
    clock = Clock()

    def come_back(_seconds):
        if not served.fake.address_is_open:
            served.fake.settings.root = "/models/another"
            served.start()
            served.fake.address_is_open = True

    def go_away():
        served.stop()
        served.fake.address_is_open = False

    waiting = outage(clock, come_back)
    assert execute(store, run_id, at=4, act=go_away, clock=clock, context=waiting) == "failed"
    run = get_run(store, run_id)
    assert "/models/another" in run.error
    assert run.status in RESUMABLE
    check_answers(store, run_id, tmp_path)


def test_a_server_down_for_five_minutes_is_waited_for_in_sight(store, tmp_path, serve):
    served = serve()
    run_id = queue(store, served)
    clock = Clock()
    shown, back = [], []

    def come_back(seconds):
        shown.append(get_run(store, run_id).activity)
        if seconds > 300 and not back:
            back.append(seconds)
            served.fake.settings.latency_seconds = 0.05  # and it is slower now
            served.start()

    waiting = outage(clock, come_back)
    assert execute(store, run_id, at=4, act=served.stop, clock=clock, context=waiting) == "done"
    assert back
    assert shown[0].startswith("Waiting for the engine")
    run = check_answers(store, run_id, tmp_path)
    assert run.done == PLANNED
    assert run.activity is None
    assert run.tally["failures"]["unreachable"] > 3


def test_a_server_that_stays_down_ends_the_run_resumable(store, tmp_path, serve):
    served = serve()
    run_id = queue(store, served)
    clock = Clock()
    status = execute(
        store,
        run_id,
        at=4,
        act=served.stop,
        clock=clock,
        context=outage(clock),
        engine_patience_seconds=60,
    )
    assert status == "failed"
    run = get_run(store, run_id)
    assert "resume the run" in run.error
    done = run.done
    served.start()
    requeue(store, run_id)
    assert execute(store, run_id) == "done"
    assert check_answers(store, run_id, tmp_path).done == PLANNED > done > 0


def test_of_two_servers_one_may_be_lost(store, tmp_path, serve):
    first, second = serve(), serve()
    run_id = queue(store, first, second)
    assert execute(store, run_id, at=6, act=second.stop) == "done"
    assert check_answers(store, run_id, tmp_path).done == PLANNED
    assert first.fake.n_items > 0
    assert first.fake.n_items + second.fake.n_items >= PLANNED
