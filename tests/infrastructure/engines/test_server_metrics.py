"""Readings of engines: never waited for, shared, and told as rates of the last minute."""

import asyncio
import threading

import pytest

from benchlib.domain.errors import EngineFault
from benchlib.domain.vocabulary import FailureKind
from benchlib.infrastructure.engines.server_metrics import EngineMonitor, ServerMetrics
from tests.fake_vllm import fake_vllm_process
from tests.samples import Clock

A, B = "http://a:1", "http://b:2"


class Engines:
    """Answers of addresses; an exception is raised. Counts who was asked."""

    def __init__(self, **answers):
        self.answers = {A: answers.get("a"), B: answers.get("b")}
        self.asked = []

    async def fetch(self, address):
        self.asked.append(address)
        answer = self.answers[address]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def clock():
    return Clock()


def watch(engines, clock):
    """A watch that reads at once, in this thread."""
    return EngineMonitor(engines.fetch, asyncio.run, clock.monotonic)


def reported(**counters):
    return ServerMetrics(requests_running=4.0, requests_waiting=1.0, **counters)


def test_speeds_are_differences_over_time_and_hits_those_of_the_window(clock):
    engines = Engines(
        a=reported(
            prompt_tokens=1_000,
            generation_tokens=10,
            prefix_cache_queries=1_000,
            prefix_cache_hits=900,
        )
    )
    watching = watch(engines, clock)
    (first,) = watching.look([A])
    assert (first["state"], first["requests_running"], first["requests_waiting"]) == (
        "reported",
        4,
        1,
    )
    assert (first["prompt_tokens_per_s"], first["generation_tokens_per_s"]) == (None, None)
    assert first["prefix_cache_hit_rate"] == 0.9  # since the engine's start
    clock.seconds += 10
    engines.answers[A] = reported(
        prompt_tokens=3_000,
        generation_tokens=30,
        prefix_cache_queries=3_000,
        prefix_cache_hits=1_900,
    )
    (second,) = watching.look([A])
    assert second["prompt_tokens_per_s"] == 200  # 2,000 in 10 s
    assert second["generation_tokens_per_s"] == 2
    assert second["prefix_cache_hit_rate"] == 0.5  # 1,000 of 2,000
    clock.seconds += 55  # the first reading is out of the window
    (third,) = watching.look([A])
    assert third["prompt_tokens_per_s"] == 0
    assert third["prefix_cache_hit_rate"] == 1_900 / 3_000


def test_an_engine_that_was_started_anew_begins_anew(clock):
    engines = Engines(a=reported(prompt_tokens=1_000))
    watching = watch(engines, clock)
    watching.look([A])
    clock.seconds += 10
    engines.answers[A] = reported(prompt_tokens=50)
    assert watching.look([A])[0]["prompt_tokens_per_s"] is None
    clock.seconds += 10
    engines.answers[A] = reported(prompt_tokens=150)
    assert watching.look([A])[0]["prompt_tokens_per_s"] == 10


def test_whoever_looks_shares_what_was_read_a_moment_ago(clock):
    engines = Engines(a=reported(), b=reported())
    watching = watch(engines, clock)
    for _ in range(50):
        watching.look([A, B])
    clock.seconds += 2.9
    watching.look([A])
    assert engines.asked == [A, B]
    clock.seconds += 0.2
    watching.look([A])
    assert engines.asked == [A, B, A]


def test_an_engine_without_figures_and_one_that_is_away_are_told_apart(clock):
    engines = Engines(a=ServerMetrics(), b=EngineFault(FailureKind.UNREACHABLE, "refused"))
    watching = watch(engines, clock)
    assert [reading["state"] for reading in watching.look([A, B])] == ["nothing", "silent"]
    engines.answers[B] = reported()
    clock.seconds += 3
    assert [reading["state"] for reading in watching.look([A, B])] == ["nothing", "reported"]


def test_nobody_waits_for_an_engine_that_hangs():
    release, asked = threading.Event(), []

    async def hang(address):
        asked.append(address)
        await asyncio.to_thread(release.wait)
        return reported()

    watching = EngineMonitor(hang)
    try:
        for _ in range(20):
            assert [reading["state"] for reading in watching.look([A, B])] == ["asking", "asking"]
    finally:
        release.set()
        for thread in threading.enumerate():
            if thread.name == "engine-metrics":
                thread.join()
    assert sorted(asked) == [A, B]
    assert [reading["state"] for reading in watching.look([A, B])] == ["reported", "reported"]


def test_servers_are_read_over_http(clock):
    with fake_vllm_process() as address, fake_vllm_process("--set", "metrics=false") as mute:
        watching = EngineMonitor(start=asyncio.run, clock=clock.monotonic)
        readings = watching.look([address, mute, "http://127.0.0.1:9"])
    assert [reading["state"] for reading in readings] == ["reported", "nothing", "silent"]
    assert readings[0]["requests_running"] == 0
