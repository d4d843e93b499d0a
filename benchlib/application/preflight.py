"""What is told of a run before it starts: its prompts, how many, how long, how many tokens."""

from itertools import islice
from statistics import mean
from typing import Final

from benchlib.domain.asking.prompts import PromptBook
from benchlib.domain.asking.work_plan import count_items
from benchlib.domain.records import Question, RunConfig, WorkItem
from benchlib.domain.vocabulary import SCALE_ORDERS, Language, RunStatus, ScaleOrder
from benchlib.infrastructure.storage import datasets, runs, traits
from benchlib.infrastructure.storage.database import Store

CHARACTERS_PER_TOKEN: Final[dict[Language, float]] = {"en": 4.0, "de": 3.0}
"""Tokenizers differ: SmolLM2's, with 49,000 tokens, has 3.6 and 2.4, the chat template included
(measured on 20 of our prompts each); those of larger models have more."""

_SAMPLE: Final = 20


class Preflight:
    """Looks at a run that is not there yet.

    Args:
        store: Where its dataset, its traits and former runs lie.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def prompts(self, config: RunConfig) -> dict[ScaleOrder, Question]:
        """The exact prompt of the first persona and trait, in both scale orders."""
        with self._store.read() as session:
            trait = traits.get_traits(session, config.trait_ids[:1])[0]
        persona = next(iter(datasets.iter_personas(self._store, config.dataset_id)))
        book = _prompt_book(config)
        return {order: book.question(WorkItem(persona, trait, order), 1) for order in SCALE_ORDERS}

    def n_prompts(self, config: RunConfig) -> int:
        """How many prompts are asked, without repeats."""
        with self._store.read() as session:
            n_personas = datasets.get_dataset(session, config.dataset_id).n_personas
        return count_items(n_personas, len(config.trait_ids), config.dual_fraction)

    def prompt_tokens(self, config: RunConfig) -> int:
        """About how many tokens all prompts have, from the length of the first personas' ones.

        A server with a prefix cache computes far fewer: what prompts begin with alike, once.
        """
        with self._store.read() as session:
            asked = traits.get_traits(session, config.trait_ids)
        book = _prompt_book(config)
        personas = islice(datasets.iter_personas(self._store, config.dataset_id), _SAMPLE)
        questions = (
            book.question(WorkItem(persona, asked[place % len(asked)], "in"), 1)
            for place, persona in enumerate(personas)
        )
        length = mean(len(question.system) + len(question.user) for question in questions)
        return round(self.n_prompts(config) * length / CHARACTERS_PER_TOKEN[config.language])

    def seconds(self, config: RunConfig) -> float | None:
        """How long the run takes at the pace of the last one that was like it.

        Returns:
            Seconds; None as long as no run of this engine, model and answer mode was finished.
        """
        n_prompts = self.n_prompts(config)
        if config.simulated_items_per_second is not None:
            return n_prompts / config.simulated_items_per_second
        with self._store.read() as session:
            ended = runs.list_runs(session, statuses=[RunStatus.DONE, RunStatus.PARTIAL])
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


def _prompt_book(config: RunConfig) -> PromptBook:
    return PromptBook(
        language=config.language,
        answer_mode=config.answer_mode,
        system_prompt=config.system_prompt,
    )
