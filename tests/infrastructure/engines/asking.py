"""Questions for a client of fake servers, and checks of its answers."""

import asyncio
import math
from collections.abc import Callable, Coroutine
from contextlib import asynccontextmanager
from itertools import product
from typing import Any

import pytest

from benchlib.domain.asking.prompts import PromptBook
from benchlib.domain.records import (
    Answer,
    PersonaRecord,
    Question,
    TraitRecord,
    WorkItem,
)
from benchlib.domain.vocabulary import SCALE_ORDERS
from benchlib.infrastructure.engines.backoff import Backoff
from benchlib.infrastructure.engines.vllm_client import VllmClient
from tests.fake_answers import logprobs_for, rating_for
from tests.fake_vllm import FakeVllm

KEY = "key-4f7a-secret"


def questions(n: int = 12, mode="distribution", **changes) -> list[Question]:
    """Different questions, all of one persona table and trait."""
    book = PromptBook("en", mode)
    trait = TraitRecord(
        id=1,
        case_id="competent",
        adjective={"en": "competent"},
        question={"en": "How {adjective} is this person?"},
        category="competence",
        valence=1,
    )
    pairs = product(range((n + 1) // 2), SCALE_ORDERS)
    return [
        book.question(
            WorkItem(
                PersonaRecord(id=number, uuid=f"p{number}", attributes={"job": f"job {number}"}),
                trait,
                order,
            )
        )._replace(**changes)
        for number, order in pairs
    ][:n]


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 60))


@asynccontextmanager
async def connected(*fakes: FakeVllm, mode="distribution", key=None, model=None, **options):
    """A client that asks again at once where an address failed, unless the options say more."""
    options = {"timeout_seconds": 10, "backoff": Backoff(0.0, 0.0), **options}
    addresses = [fake.address for fake in fakes]
    client = await VllmClient.connect(addresses, key, model, mode, **options)
    try:
        yield client
    finally:
        await client.close()


def check_answered(asked: list[Question], outcomes, source="logprob_token_ids") -> None:
    """All are answered, each with what the fake says to just this prompt."""
    assert len(asked) == len(outcomes)
    for question, outcome in zip(asked, outcomes, strict=True):
        check_answer(question, outcome, source)


def check_answer(question: Question, outcome, source="logprob_token_ids") -> None:
    assert isinstance(outcome, Answer), outcome
    assert outcome.rating_raw == rating_for(question.user)
    if source is None:
        assert outcome.probabilities is None
        return
    weights = [math.exp(value) for value in logprobs_for(question.user)]
    expected = [weight / sum(weights) for weight in weights]
    assert outcome.probabilities == pytest.approx(expected)
    mass = 0.9 if source == "logprob_token_ids" else 1.0
    assert outcome.valid_mass == pytest.approx(mass)
