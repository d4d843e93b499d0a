"""The engine's own figures on the Progress page of a running run."""

import asyncio

import httpx
import pytest

from benchlib.infrastructure.engines.server_metrics import EngineMonitor
from tests.fake_vllm import fake_vllm_process
from tests.pages.conftest import NOBODY, settled
from tests.samples import Clock, claim


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def running(make_house, clock):
    """Gives `running(address, **settings) -> House` with run 1 in execution elsewhere.

    Engines are read at once instead of in the background.
    """

    def make(address, **settings):
        house = make_house(**settings).fill()
        house.service.engines._monitor = EngineMonitor(start=asyncio.run, clock=clock.monotonic)
        house.queue(llm="vllm", model_name="fake-model", vllm_base_url=address)
        claim(house.store, "elsewhere")
        return house

    return make


def engines(at):
    (found,) = [frame.value for frame in at.dataframe if "Prefix cache hits" in frame.value]
    return found.to_dict("records")


def ask(address, n_items):
    body = {"model": "fake-model", "messages": [[{"role": "user", "content": "x"}]] * n_items}
    httpx.post(f"{address}/v1/chat/completions/batch", json=body).raise_for_status()


def test_every_address_is_shown_with_what_it_says(running, open_page, clock):
    with fake_vllm_process() as first, fake_vllm_process("--set", "metrics=false") as mute:
        running(f"{first},{mute},{NOBODY}")
        at = open_page("progress", run=1)
        before = engines(at)
        ask(first, 20)
        clock.seconds += 10
        after = engines(settled(at.run()))
    assert [row["Address"] for row in before] == [first, mute, NOBODY]
    assert [row["State"] for row in before] == ["reporting", "reports nothing", "does not answer"]
    assert before[0] == {
        "Address": first,
        "State": "reporting",
        "Running": "0",
        "Waiting": "0",
        "Prompt tokens": "–",
        "Generated tokens": "–",
        "Prefix cache hits": "–",
    }
    assert after[0] == {
        **before[0],
        "Prompt tokens": "340 /s",  # the fake counts 170 for each of 20 items, in 10 s
        "Generated tokens": "2 /s",
        "Prefix cache hits": "58%",
    }
    assert set(list(after[1].values())[2:]) == {"–"}


def test_hosts_that_are_not_allowed_are_not_asked(running, make_house, open_page):
    """Another process, with other settings, may have begun the run."""
    running("http://10.1.2.3:8000", engine_hosts="*")
    house = make_house()
    asked = []
    house.service.engines._monitor = EngineMonitor(asked.append, asyncio.run)
    (row,) = engines(open_page("progress", run=1))
    assert row["State"] == "not asked: its host is not allowed"
    assert asked == []


def test_queued_and_ended_runs_show_no_engine(house, open_page):
    for run_id in (house.finished(), house.queue(llm="vllm", model_name="m")):
        at = open_page("progress", run=run_id)
        assert not [frame for frame in at.dataframe if "Prefix cache hits" in frame.value]
        assert house.service.engines.get_stats(run_id) == []


def test_a_running_run_of_the_simulated_rater_shows_no_engine(house, open_page):
    run_id = house.queue()
    claim(house.store, "elsewhere")
    assert house.service.get_run(run_id)["status"] == "running"
    at = open_page("progress", run=run_id)
    assert not [frame for frame in at.dataframe if "Prefix cache hits" in frame.value]
