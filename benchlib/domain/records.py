"""Frozen records that cross layers and threads.

One question and what becomes of it, from the plan to the store:

====================  =============================================================
`WorkItem`            what to ask: persona, trait, scale order
`Question`            the same with its prompt and the number of the attempt
`Answer`              a reply that holds a rating
`AnswerFailure`       a reply that holds none, or a refusal of this one question
`StoredAnswer`        an answer as the store returns it: a *result* in SQL
`StoredFailure`       a failed attempt as the store returns it
====================  =============================================================

A *rating* is the number in an answer: `rating_raw` is the digit the model gave,
`rating_pre_valence` has the scale order undone, `rating` is aligned with the trait's valence too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple

from benchlib.domain.vocabulary import (
    AnswerMode,
    EngineKind,
    FailureKind,
    Language,
    RunStatus,
    ScaleMode,
    ScaleOrder,
    SimulatedPreset,
    Valence,
)

# --- What a run is about ---


@dataclass(frozen=True, slots=True)
class PersonaRecord:
    """One persona of a dataset.

    Attributes:
        id: Key in the store.
        uuid: Stable identifier, also across stores; seeds the persona's share of randomness.
        attributes: Categorical attributes (gender -> female, ...), in the order of import. Includes
            `age_group` where an age is known.
        age: Years, if known.
        name: Given name for the prompt, if any.
        appearance: Free text for the prompt, if any.
        biography: Free text for the prompt, if any.
    """

    id: int
    uuid: str
    attributes: Mapping[str, str]
    age: int | None = None
    name: str | None = None
    appearance: str | None = None
    biography: str | None = None


@dataclass(frozen=True, slots=True)
class TraitRecord:
    """One version of a trait; editing a trait makes a new version with a new id.

    Attributes:
        id: Key of this version in the store.
        case_id: Stable name over versions ("competent").
        adjective: Wording per language.
        question: Template per language; `{adjective}` stands for the wording.
        category: Trait category (competence, warmth, ...).
        valence: +1 favourable, -1 unfavourable, 0 neutral.
    """

    id: int
    case_id: str
    adjective: Mapping[Language, str]
    question: Mapping[Language, str]
    category: str
    valence: Valence
    active: bool = True
    version: int = 1


@dataclass(frozen=True, slots=True)
class DatasetRecord:
    """A fixed list of personas.

    Attributes:
        kind: pool, balanced, factorial, counterfactual, reality or imported.
        parameters: How it was made (seed, factors, file name, ...); enough to make it again.
        content_hash: SHA-256 over its personas in order; part of a run's manifest.
    """

    id: int
    name: str
    kind: str
    note: str
    parameters: Mapping[str, Any]
    n_personas: int
    content_hash: str
    created_at: datetime


# --- What is asked, and what comes back ---


class WorkItem(NamedTuple):
    """One question to ask: this persona, this trait, this scale order."""

    persona: PersonaRecord
    trait: TraitRecord
    scale_order: ScaleOrder


class Question(NamedTuple):
    """A work item with its rendered prompt.

    `attempt` counts from 1; from the second on, the prompt is stricter.
    """

    item: WorkItem
    system: str
    user: str
    attempt: int = 1


class Answer(NamedTuple):
    """A valid rating as the model gave it.

    Attributes:
        rating_raw: The digit answered, 1..5, before any reversal.
        probabilities: p1..p5, renormalised over the valid digits; None if the engine gives no
            log-probabilities.
        valid_mass: Total probability of the valid digits before renormalising, 0..1.
        raw_answer: The text of the reply, unchanged.
        latency_ms: Time from sending its request to the reply.
        prompt_tokens: Tokens of the prompt, if the server counts per item.
        completion_tokens: Tokens generated, if the server counts per item.
    """

    rating_raw: int
    probabilities: tuple[float, float, float, float, float] | None = None
    valid_mass: float | None = None
    raw_answer: str = ""
    latency_ms: int = 0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class AnswerFailure(NamedTuple):
    """An attempt that gave no rating for this one question (`rejected` or `unusable`)."""

    kind: FailureKind
    message: str
    raw_text: str = ""


# --- Engines ---


@dataclass(frozen=True, slots=True)
class EngineReport:
    """What probing an engine showed; part of the run's manifest.

    Attributes:
        kind: "vllm", "openai-compatible" or "simulated".
        addresses: Base URLs in use (without credentials); empty for the simulated rater.
        model_name: The model as the server names it.
        model_revision: Root, path or revision the server reports, if any.
        engine_version: As `/version` reports, if any.
        answer_mode: The mode that was requested ("distribution", ...).
        answer_mode_used: The mode in use: the next best if the server has no support for it.
        route: "batch" or "single".
        logprobs_source: "logprob_token_ids", "choice", "simulated" or None.
        max_model_len: Longest prompt plus answer in tokens, if the server reports it.
        notes: Sentences for the user: what is missing, and what is done instead.
    """

    kind: str
    addresses: tuple[str, ...]
    model_name: str
    model_revision: str | None
    engine_version: str | None
    answer_mode: str
    answer_mode_used: str
    route: str
    logprobs_source: str | None
    max_model_len: int | None = None
    notes: tuple[str, ...] = field(default=())


# --- Runs ---


@dataclass(frozen=True, slots=True)
class RunConfig:
    """Everything a person chose for a run, stored with it; never an API key.

    Attributes:
        llm: Which engine rates.
        model_name: As the server names it.
        vllm_base_url: One address or a comma-separated list; None = from the environment.
        trait_ids: Trait versions asked, in this order.
        dual_fraction: Share of (persona, trait) pairs asked in both scale orders, 0..1.
        answer_mode: How the rating is requested.
        temperature: 0 = the most likely answer.
        max_new_tokens: Longest answer in `rating`, `rationale` and `text` modes.
        max_attempts: Attempts per question before it is given up.
        max_concurrency: Most requests in flight at each address of the engine; the API and the
            store call it `batch_size`.
        attrgen_run_id: Accepted from clients of the predecessor; stored, never read.
        simulated_items_per_second: Speed of the simulated rater; None = as fast as it can.
        simulated_fault_rate: Share of its attempts that give no usable answer, 0..1.
        simulated_preset: Which rater is simulated, and so what is planted.
    """

    dataset_id: int
    model_name: str
    llm: EngineKind
    trait_ids: tuple[int, ...]
    vllm_base_url: str | None = None
    language: Language = "en"
    scale_mode: ScaleMode = "random50"
    dual_fraction: float = 0.2
    answer_mode: AnswerMode = "distribution"
    system_prompt: str | None = None
    temperature: float = 0.0
    seed: int = 0
    max_new_tokens: int = 256
    max_attempts: int = 3
    max_concurrency: int = 32
    attrgen_run_id: int | None = None
    simulated_items_per_second: float | None = None
    simulated_fault_rate: float = 0.0
    simulated_preset: SimulatedPreset = "usual"

    @property
    def include_rationale(self) -> bool:
        """Whether answers come with a rationale."""
        return self.answer_mode == "rationale"


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run, as it was when it was read from the store.

    Attributes:
        manifest: What the engine reported and what was frozen; empty until the run first started.
        total: Questions planned.
        done: Questions answered.
        failed: Questions given up in the last execution.
        tally: Counts so far: {"in": [n1..n5], "rev": [n1..n5], "failures": {kind: attempts}}.
        data_version: Grows with every change of the run's results.
        activity: What its worker is doing, as a sentence; None if that needs no mention.
        seconds_active: Time spent executing, over all resumes.
    """

    id: int
    model_name: str
    dataset_id: int
    dataset_name: str
    dataset_kind: str
    status: RunStatus
    config: RunConfig
    manifest: Mapping[str, Any]
    total: int
    done: int
    failed: int
    tally: Mapping[str, Any]
    data_version: int
    owner: str | None
    heartbeat: int
    cancel_requested: bool
    activity: str | None
    error: str | None
    note: str
    tags: tuple[str, ...]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    seconds_active: float

    @property
    def simulated(self) -> bool:
        """Whether the ratings are made up by the simulated rater."""
        return self.config.llm == "simulated"


# --- Answers and failed attempts as the store returns them ---


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """One answer with all its details.

    Attributes:
        probabilities: p1..p5 of the raw digits, or None.
        valid_mass: Total probability of the valid digits before renormalising, or None.
    """

    persona_id: int
    persona_uuid: str
    trait_id: int
    case_id: str
    trait_category: str
    scale_order: ScaleOrder
    rating_raw: int
    probabilities: tuple[float, ...] | None
    valid_mass: float | None
    raw_answer: str
    attempt: int
    latency_ms: int
    prompt_tokens: int | None
    completion_tokens: int | None
    answered_at: datetime


@dataclass(frozen=True, slots=True)
class StoredFailure:
    """One failed attempt, as stored."""

    kind: str
    persona_uuid: str | None
    case_id: str | None
    scale_order: ScaleOrder | None
    attempt: int
    n_items: int
    final: bool
    message: str
    raw_snippet: str
    prompt_snippet: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class AnswerFilter:
    """Which answers, failed attempts or missing questions to show; empty or None = all.

    Attributes:
        rating_raw: For answers only.
        attributes: Values the persona must have.
        kind: For failed attempts only.
    """

    case_ids: tuple[str, ...] = ()
    rating_raw: int | None = None
    scale_order: ScaleOrder | None = None
    persona_uuid: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    kind: str | None = None

    def asks_for(self, item: WorkItem) -> bool:
        """Whether a question matches."""
        return (
            (not self.case_ids or item.trait.case_id in self.case_ids)
            and self.scale_order in (None, item.scale_order)
            and self.persona_uuid in (None, item.persona.uuid)
            and all(item.persona.attributes.get(n) == v for n, v in self.attributes.items())
        )


EVERYTHING: Final = AnswerFilter()
