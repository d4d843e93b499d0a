"""A run before it starts: its prompts, how many, how many tokens, how long."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import mean
from typing import Final

from benchlib.domain.asking.prompts import PromptBook
from benchlib.domain.asking.work_plan import count_items
from benchlib.domain.records import (
    PersonaRecord,
    Question,
    RunConfig,
    RunRecord,
    TraitRecord,
    WorkItem,
)
from benchlib.domain.vocabulary import SCALE_ORDERS, Language, RunStatus, ScaleOrder
from benchlib.infrastructure.storage import datasets, runs, traits
from benchlib.infrastructure.storage.database import Store

CHARACTERS_PER_TOKEN: Final[dict[Language, float]] = {"en": 4.0, "de": 3.0}
"""Tokenizers differ: SmolLM2's, with 49,000 tokens, has 3.6 and 2.4, the chat template included
(measured on 20 of our prompts each); those of larger models have more."""

_SAMPLE: Final = 20


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A run that has not been started.

    Attributes:
        config: Its configuration, validated against the store.
        n_prompts: How many prompts it asks, without repeats.
        prompt_tokens: About how many tokens these have, from the length of the first personas'
            prompts; None for the simulated rater, which reads none. A server with a prefix cache
            computes far fewer: what prompts have in common at their beginning, once.
        seconds: How long it takes at the speed of the last run like it; None if no run of this
            engine, model and answer mode has finished.
        prompts: The exact prompt of the first persona and trait, in both scale orders.
    """

    config: RunConfig
    n_prompts: int
    prompt_tokens: int | None
    seconds: float | None
    prompts: dict[ScaleOrder, Question]


def describe_planned_run(store: Store, config: RunConfig) -> PlannedRun:
    """Describe the run that a configuration would start."""
    with store.read() as session:
        n_personas = datasets.get_dataset(session, config.dataset_id).n_personas
        asked = traits.get_traits(session, config.trait_ids)
        ended = runs.list_runs(session, statuses=[RunStatus.DONE, RunStatus.PARTIAL])
    personas = list(islice(datasets.iter_personas(store, config.dataset_id), _SAMPLE))
    n_prompts = count_items(n_personas, len(asked), config.dual_fraction)
    book = PromptBook(
        language=config.language,
        answer_mode=config.answer_mode,
        system_prompt=config.system_prompt,
    )
    tokens = None
    if config.llm == "vllm":
        length = _mean_prompt_length(book, personas, asked)
        tokens = round(n_prompts * length / CHARACTERS_PER_TOKEN[config.language])
    return PlannedRun(
        config=config,
        n_prompts=n_prompts,
        prompt_tokens=tokens,
        seconds=_seconds(config, n_prompts, ended),
        prompts={
            order: book.question(WorkItem(personas[0], asked[0], order), 1)
            for order in SCALE_ORDERS
        },
    )


def _mean_prompt_length(
    book: PromptBook, personas: Sequence[PersonaRecord], asked: Sequence[TraitRecord]
) -> float:
    """Characters of a prompt, the system prompt included."""
    questions = [
        book.question(WorkItem(persona, asked[place % len(asked)], "in"), 1)
        for place, persona in enumerate(personas)
    ]
    return mean(len(question.system) + len(question.user) for question in questions)


def _seconds(config: RunConfig, n_prompts: int, ended: Sequence[RunRecord]) -> float | None:
    if config.simulated_items_per_second is not None:
        return n_prompts / config.simulated_items_per_second
    for run in ended:
        alike = (
            run.config.llm == config.llm
            and run.config.model_name == config.model_name
            and run.config.answer_mode == config.answer_mode
            and run.config.simulated_items_per_second is None
        )
        if alike and run.done and run.seconds_active:
            return n_prompts * run.seconds_active / run.done
    return None
