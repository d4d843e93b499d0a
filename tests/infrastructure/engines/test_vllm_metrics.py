"""Reading a vLLM server's own metrics."""

import dataclasses

import pytest

from benchlib.domain.errors import EngineFault
from benchlib.infrastructure.engines.server_metrics import fetch_server_metrics, parse_metrics
from tests.fake_vllm import FakeVllm
from tests.infrastructure.engines.asking import connected, questions, run


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
