"""The client and the dashboard's own service against real vLLM on the CPU, with SmolLM2-135M."""

import asyncio
import math
import os
import signal
import threading
import time
from collections import Counter
from itertools import product

import aiohttp
import pytest

from benchlib import bootstrap
from benchlib.application.commands import StartBenchmark
from benchlib.domain.asking.prompts import PromptBook
from benchlib.domain.records import (
    Answer,
    AnswerFailure,
    AnswerFilter,
    PersonaRecord,
    TraitRecord,
    WorkItem,
)
from benchlib.domain.vocabulary import SCALE_ORDERS, FailureKind
from benchlib.infrastructure.engines.connection_test import inspect_engine
from benchlib.infrastructure.engines.server_metrics import fetch_server_metrics
from benchlib.infrastructure.engines.vllm_client import VllmClient
from benchlib.infrastructure.engines.vllm_server import VllmServer
from benchlib.settings import Settings
from tests.samples import add_dataset

PERSONAS = [
    PersonaRecord(
        id=number,
        uuid=f"p{number}",
        attributes={"gender": gender, "origin": origin, "occupation": job},
        age=age,
    )
    for number, ((gender, origin), (job, age)) in enumerate(
        product(
            [("female", "Turkey"), ("male", "Germany")],
            [("nurse", 34), ("engineer", 61), ("student", 22)],
        )
    )
]
TRAITS = [
    TraitRecord(
        id=number,
        case_id=english,
        adjective={"en": english, "de": german},
        question={
            "en": "How {adjective} is this person?",
            "de": "Wie {adjective} ist diese Person?",
        },
        category="any",
        valence=1,
    )
    for number, (english, german) in enumerate(
        [
            ("competent", "kompetent"),
            ("lazy", "faul"),
            ("honest", "ehrlich"),
            ("cold", "kalt"),
            ("warm", "herzlich"),
        ]
    )
]
ITEMS = [
    WorkItem(persona, trait, order)
    for persona in PERSONAS
    for trait in TRAITS
    for order in SCALE_ORDERS
]
"""60 items: 6 personas, 5 traits, both orders."""


async def rate(server, mode, *, language="en", items=ITEMS, **options):
    """Probe the server and ask all items, a few requests in flight; the client's report, too."""
    client = await VllmClient.connect(
        [server.base_url], None, server.model_name, mode, timeout_seconds=600, **options
    )
    try:
        book = PromptBook(language, client.report.answer_mode_used)
        asked = [book.question(item) for item in items]
        batches = [asked[start : start + 16] for start in range(0, len(asked), 16)]
        outcomes = await asyncio.gather(*(client.ask(batch) for batch in batches))
        return client.report, asked, [outcome for batch in outcomes for outcome in batch]
    finally:
        await client.close()


def check_all_rated(outcomes) -> None:
    kinds = Counter(type(outcome).__name__ for outcome in outcomes)
    assert kinds == {"Answer": len(outcomes)}, [
        outcome for outcome in outcomes if isinstance(outcome, AnswerFailure)
    ]
    assert all(outcome.rating_raw in (1, 2, 3, 4, 5) for outcome in outcomes)


async def ask_directly(server, question) -> list[float]:
    """The distribution by a request that shares no code with the client."""
    async with aiohttp.ClientSession(server.base_url) as session:
        ids = []
        for digit in "12345":
            body = {"prompt": digit, "add_special_tokens": False}
            async with session.post("/tokenize", json=body) as reply:
                ids += (await reply.json())["tokens"]
        assert len(ids) == 5
        body = {
            "model": server.model_name,
            "messages": [
                {"role": "system", "content": question.system},
                {"role": "user", "content": question.user},
            ],
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": True,
            "logprob_token_ids": ids,
        }
        async with session.post("/v1/chat/completions", json=body) as reply:
            (choice,) = (await reply.json())["choices"]
    entries = choice["logprobs"]["content"][0]["top_logprobs"]
    found = {entry["token"]: entry["logprob"] for entry in entries}
    return [math.exp(found[digit]) for digit in "12345"]


@pytest.mark.parametrize(("language", "n_items"), [("en", 30), ("de", 20)])
def test_every_item_gets_a_distribution(vllm_server, language, n_items):
    report, asked, outcomes = asyncio.run(
        rate(vllm_server, "distribution", language=language, items=ITEMS[:n_items])
    )
    assert report.kind == "vllm"
    assert report.engine_version.startswith("0.")
    assert report.model_name == vllm_server.model_name == "smollm2"
    assert report.max_model_len == 4096
    assert report.answer_mode_used == "distribution"
    assert report.logprobs_source == "logprob_token_ids"
    assert report.route == "batch"
    check_all_rated(outcomes)
    for outcome in outcomes:
        assert sum(outcome.probabilities) == pytest.approx(1)
        assert outcome.probabilities[outcome.rating_raw - 1] == max(outcome.probabilities)
        assert 0.02 < outcome.valid_mass <= 1
    assert len({outcome.probabilities for outcome in outcomes}) > n_items * 2 / 3  # prompts matter
    for place in (0, n_items // 2, n_items - 1):
        weights = asyncio.run(ask_directly(vllm_server, asked[place]))
        direct = [weight / sum(weights) for weight in weights]
        # Not to all digits: what is computed together changes the last bits of a float32.
        assert outcomes[place].probabilities == pytest.approx(direct, abs=2e-3)
        assert outcomes[place].valid_mass == pytest.approx(sum(weights), abs=2e-3)


def test_every_item_gets_a_rationale_and_a_rating(vllm_server):
    report, _, outcomes = asyncio.run(
        rate(vllm_server, "rationale", items=ITEMS[:20], max_new_tokens=96)
    )
    assert report.answer_mode_used == "rationale"
    assert report.notes == ()
    check_all_rated(outcomes)
    assert all('"rationale": "' in outcome.raw_answer for outcome in outcomes)


def test_every_item_gets_a_structured_rating_in_german(vllm_server):
    report, _, outcomes = asyncio.run(
        rate(vllm_server, "rating", language="de", items=ITEMS[:20], max_new_tokens=24)
    )
    assert report.answer_mode_used == "rating"
    check_all_rated(outcomes)


def test_a_prompt_too_long_is_rejected_alone(vllm_server):
    long = PERSONAS[0].__class__(id=99, uuid="long", attributes={}, biography="word " * 6000)
    items = [*ITEMS[:5], WorkItem(long, TRAITS[0], "in"), *ITEMS[5:8]]
    _, _, outcomes = asyncio.run(rate(vllm_server, "distribution", items=items))
    rejected = outcomes.pop(5)
    assert rejected.kind is FailureKind.REJECTED
    assert "maximum context length" in rejected.message
    assert all(isinstance(outcome, Answer) for outcome in outcomes)


def test_the_form_learns_what_the_server_can_do(vllm_server):
    found = asyncio.run(inspect_engine(vllm_server.base_url, timeout_seconds=120))
    assert found["error"] is None
    assert found["models"] == ["smollm2"]
    assert found["supports"] == {"batch": True, "distribution": True, "structured": True}


def test_the_engine_panel_gets_its_figures(vllm_server):
    asyncio.run(rate(vllm_server, "distribution", items=ITEMS[:20]))
    metrics = asyncio.run(fetch_server_metrics(vllm_server.base_url))
    assert metrics.requests_running == 0
    assert metrics.requests_waiting == 0
    assert metrics.prompt_tokens > 1000
    assert metrics.generation_tokens >= 20
    assert metrics.preemptions is not None
    assert 0.2 < metrics.prefix_cache_hit_rate < 1


@pytest.fixture
def dashboard(tmp_path):
    parts = bootstrap.build(Settings(data_dir=tmp_path))
    yield parts
    bootstrap.close(parts)


def launch(parts, server, **fields):
    """Launch a run of 10 personas on 6 traits and wait for its end; its id."""
    ended = threading.Event()
    parts.worker.after_run = lambda _run_id: ended.set()
    command = StartBenchmark.of(
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
    run_id = launch(dashboard, vllm_server, dual_fraction=0.2)
    run = service.get_run(run_id)
    assert (run["status"], run["n_results"], run["failed"], run["error"]) == ("done", 72, 0, None)
    assert not run["simulated"]
    engine = run["manifest"]["engine"]
    assert (engine["kind"], engine["model_name"]) == ("vllm", vllm_server.model_name)
    assert engine["engine_version"]
    assert engine["model_revision"]
    assert engine["logprobs_source"] == "logprob_token_ids"
    answers = service.runs.list_answers(run_id, AnswerFilter(), limit=100)
    assert len(answers) == 72
    for answer in answers:
        assert answer.rating_raw in (1, 2, 3, 4, 5)
        assert sum(answer.probabilities) == pytest.approx(1, abs=1e-8)
        assert answer.probabilities[answer.rating_raw - 1] == max(answer.probabilities)
        assert 0 < answer.valid_mass <= 1
    for answer in answers[::24]:
        question = service.runs.get_prompt(run_id, answer)
        weights = asyncio.run(ask_directly(vllm_server, question))
        direct = [weight / sum(weights) for weight in weights]
        # float32 sums differ in their last bits with what else is in the engine's batch
        assert answer.probabilities == pytest.approx(direct, abs=2e-3)
    assert service.get_metrics(run_id)["n"] == 72


def test_a_run_with_rationales_keeps_them_whole(dashboard, vllm_server):
    service = dashboard.service
    run_id = launch(
        dashboard, vllm_server, include_rationale=True, max_new_tokens=96, dual_fraction=0.0
    )
    run = service.get_run(run_id)
    assert (run["status"], run["n_results"], run["failed"]) == ("done", 60, 0)
    answers = service.runs.list_answers(run_id, AnswerFilter(), limit=100)
    assert len(answers) == 60
    assert all(answer.rating_raw in (1, 2, 3, 4, 5) for answer in answers)
    assert all(answer.raw_answer.startswith('{"rationale"') for answer in answers)
    assert all(answer.probabilities is None for answer in answers)


def test_a_run_waits_for_a_killed_server_and_ends_complete(
    dashboard, vllm_environment, vllm_server, tmp_path
):
    """The last test of the file: it kills the server that the others share."""
    service = dashboard.service
    ended = threading.Event()
    dashboard.worker.after_run = lambda _run_id: ended.set()
    run_id = service.start_benchmark(
        StartBenchmark.of(
            dataset_id=add_dataset(dashboard.store, 12, name="twelve"),
            trait_ids=[trait.id for trait in dashboard.datasets.list_traits()[:10]],
            model_name=vllm_server.model_name,
            vllm_base_url=vllm_server.base_url,
            dual_fraction=0.0,
            batch_size=2,
        )
    )
    wait_until(lambda: service.bench_status(run_id)["done"] > 0)
    os.killpg(vllm_server.process_group, signal.SIGKILL)
    before = service.bench_status(run_id)["done"]
    assert before < 120
    wait_until(
        lambda: (service.bench_status(run_id)["activity"] or "").startswith(
            "Waiting for the engine"
        )
    )
    assert not ended.is_set()
    again = VllmServer.start(
        str(vllm_environment.model),
        python_executable=str(vllm_environment.python),
        extra_args=["--max-model-len", "4096"],
        port=vllm_server.port,
        log_folder=tmp_path,
    )
    with again:
        again.wait_until_ready(600)
        assert ended.wait(600)
    run = service.get_run(run_id)
    assert (run["status"], run["n_results"], run["failed"]) == ("done", 120, 0)
    answers = service.runs.list_answers(run_id, AnswerFilter(), limit=1_000)
    assert len({(answer.persona_uuid, answer.case_id) for answer in answers}) == 120
    assert run["tally"]["failures"]["unreachable"] > 0


def wait_until(condition, seconds=120):
    """Another process's progress can only be polled."""
    last = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < last
        time.sleep(0.02)
