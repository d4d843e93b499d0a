"""The client against real vLLM on the CPU, with SmolLM2-135M-Instruct."""

import asyncio
import math
from collections import Counter
from itertools import product

import aiohttp
import pytest

from benchlib.domain.prompts import PromptBook
from benchlib.domain.results import Answer, AnswerFailure, PersonaRecord, TraitRecord, WorkItem
from benchlib.domain.vocabulary import SCALE_ORDERS, FailureKind
from benchlib.infrastructure.execution.engine_inspection import inspect_engine
from benchlib.infrastructure.execution.engine_metrics import fetch_engine_metrics
from benchlib.infrastructure.execution.vllm_client import VllmClient

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


@pytest.mark.parametrize("language", ["en", "de"])
def test_every_item_gets_a_distribution(vllm_server, language):
    report, asked, outcomes = asyncio.run(rate(vllm_server, "distribution", language=language))
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
    assert len({outcome.probabilities for outcome in outcomes}) > 40  # the prompts matter
    for place in (0, 31, 59):
        weights = asyncio.run(ask_directly(vllm_server, asked[place]))
        direct = [weight / sum(weights) for weight in weights]
        # Not to all digits: what is computed together changes the last bits of a float32.
        assert outcomes[place].probabilities == pytest.approx(direct, abs=2e-3)
        assert outcomes[place].valid_mass == pytest.approx(sum(weights), abs=2e-3)


def test_every_item_gets_a_rationale_and_a_rating(vllm_server):
    report, _, outcomes = asyncio.run(rate(vllm_server, "rationale", max_new_tokens=96))
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
    assert found.problem is None
    assert found.kind == "vllm"
    assert [model.name for model in found.models] == ["smollm2"]
    assert found.takes_batches
    assert found.gives_distributions
    assert found.keeps_formats


def test_the_engine_panel_gets_its_figures(vllm_server):
    asyncio.run(rate(vllm_server, "distribution", items=ITEMS[:20]))
    metrics = asyncio.run(fetch_engine_metrics(vllm_server.base_url))
    assert metrics.requests_running == 0
    assert metrics.requests_waiting == 0
    assert metrics.prompt_tokens > 1000
    assert metrics.generation_tokens >= 20
    assert metrics.preemptions is not None
    assert 0.2 < metrics.prefix_cache_hit_rate < 1
