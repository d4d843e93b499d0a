"""The dashboard's own service against real vLLM: from the form's fields to stored ratings."""

import asyncio
import threading

import pytest

from benchlib import bootstrap
from benchlib.application.commands import start_benchmark
from benchlib.domain.results import AnswerFilter
from benchlib.settings import Settings
from tests.real_vllm.test_real_vllm_client import ask_directly
from tests.samples import add_dataset


@pytest.fixture
def dashboard(tmp_path):
    parts = bootstrap.build(Settings(data_dir=tmp_path))
    yield parts
    bootstrap.close(parts)


def rate(parts, server, **fields):
    """Launch a run of 10 personas on 6 traits and wait for its end; its id."""
    ended = threading.Event()
    parts.worker.after_run = lambda _run_id: ended.set()
    command = start_benchmark(
        dataset_id=add_dataset(parts.store, 10, name="ten"),
        trait_ids=[trait.id for trait in parts.datasets.list_traits()[:6]],
        model_name=server.model_name,
        vllm_base_url=server.base_url,
        **fields,
    )
    run_id = parts.service.start_benchmark(command)
    assert ended.wait(600)
    return run_id


def test_a_run_in_distribution_mode_stores_what_the_model_says(dashboard, vllm_server):
    service = dashboard.service
    run_id = rate(dashboard, vllm_server, dual_fraction=0.2)
    run = service.get_run(run_id)
    assert (run["status"], run["n_results"], run["failed"], run["error"]) == ("done", 72, 0, None)
    assert not run["simulated"]
    engine = run["manifest"]["engine"]
    assert (engine["kind"], engine["model_name"]) == ("vllm", vllm_server.model_name)
    assert engine["engine_version"]
    assert engine["model_revision"]
    assert engine["logprobs_source"] == "logprob_token_ids"
    answers = service.list_answers(run_id, AnswerFilter(), limit=100)
    assert len(answers) == 72
    for answer in answers:
        assert answer.rating_raw in (1, 2, 3, 4, 5)
        assert sum(answer.probabilities) == pytest.approx(1, abs=1e-8)
        assert answer.probabilities[answer.rating_raw - 1] == max(answer.probabilities)
        assert 0 < answer.valid_mass <= 1
    for answer in answers[::24]:
        question = service.get_prompt(run_id, answer)
        weights = asyncio.run(ask_directly(vllm_server, question))
        direct = [weight / sum(weights) for weight in weights]
        # float32 sums differ in their last bits with what else is in the engine's batch
        assert answer.probabilities == pytest.approx(direct, abs=2e-3)
    assert service.get_metrics(run_id)["n"] == 72


def test_a_run_with_rationales_keeps_them_whole(dashboard, vllm_server):
    service = dashboard.service
    run_id = rate(
        dashboard, vllm_server, include_rationale=True, max_new_tokens=96, dual_fraction=0.0
    )
    run = service.get_run(run_id)
    assert (run["status"], run["n_results"], run["failed"]) == ("done", 60, 0)
    answers = service.list_answers(run_id, AnswerFilter(), limit=100)
    assert len(answers) == 60
    assert all(answer.rating_raw in (1, 2, 3, 4, 5) for answer in answers)
    assert all(answer.raw_answer.startswith('{"rationale"') for answer in answers)
    assert all(answer.probabilities is None for answer in answers)
