"""Frozen records that cross layers and threads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from benchlib.domain.vocabulary import FailureKind, Language, ScaleOrder, Valence


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
        probabilities: p1..p5, renormalised over the valid digits; None where the engine gives no
            log-probabilities.
        valid_mass: Probability of all valid digits together before renormalising, 0..1.
        raw_answer: The text as it came.
        latency_ms: Time from sending the request that carried it to its answer.
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
    """An attempt that gave no rating for this one item (`rejected` or `unusable`)."""

    kind: FailureKind
    message: str
    raw_text: str = ""


@dataclass(frozen=True, slots=True)
class EngineReport:
    """What a probe found out about an engine; goes into the run's manifest.

    Attributes:
        kind: "vllm", "openai-compatible" or "simulated".
        addresses: Base URLs in use (without credentials); empty for the simulated rater.
        model_name: The model as the server names it.
        model_revision: Root, path or revision the server reports, if any.
        engine_version: As `/version` reports, if any.
        answer_mode: What was asked for ("distribution", ...).
        answer_mode_used: What will be done, which is the next best where a capability is missing.
        route: "batch" or "single".
        logprobs_source: "logprob_token_ids", "choice", "simulated" or None.
        max_model_len: Longest prompt plus answer in tokens, if the server tells.
        notes: Sentences for the user: what is missing and what is done instead.
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
