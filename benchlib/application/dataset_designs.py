"""Datasets by design: one class per design, and the personas that it selects or creates."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd
from sqlmodel import Session

from benchlib.domain.errors import InvalidInput
from benchlib.domain.material.personas import PersonaDraft, content_uuid
from benchlib.domain.material.sampling import (
    balanced_positions,
    counterfactual_drafts,
    factorial_drafts,
    pool_positions,
    reality_positions,
)
from benchlib.domain.material.text_tables import clean_text, shorten
from benchlib.domain.vocabulary import UNKNOWN_CATEGORY
from benchlib.infrastructure.storage import datasets


@dataclass(frozen=True, slots=True)
class PoolDesign:
    """All matching personas of some datasets, each once.

    Attributes:
        where: Attribute -> categories to include; empty = all.
    """

    dataset_ids: tuple[int, ...]
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BalancedDesign:
    """The same number of personas for each category of an attribute.

    Attributes:
        per_category: None = as many as the smallest category has.
    """

    dataset_ids: tuple[int, ...]
    attribute: str
    per_category: int | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class FactorialDesign:
    """New personas: attributes crossed, or a balanced fraction of the crossing.

    Attributes:
        factors: Attribute -> categories.
        n_personas: None = the full crossing.
        youngest: No age below this, where `age_group` is a factor.
    """

    factors: Mapping[str, tuple[str, ...]]
    n_personas: int | None = None
    youngest: int = 18
    seed: int = 0


@dataclass(frozen=True, slots=True)
class CounterfactualDesign:
    """Personas and their copies with one attribute changed.

    Attributes:
        categories: The categories to switch between.
        n_sources: Number of sources, the same for each category; None = all personas.
        every: Whether each source gets a copy for every other category, or one copy.
        keep_texts: Keep name, appearance and biography, which may reveal the attribute.
    """

    dataset_ids: tuple[int, ...]
    attribute: str
    categories: tuple[str, ...]
    n_sources: int | None = None
    every: bool = False
    keep_texts: bool = False
    seed: int = 0


@dataclass(frozen=True, slots=True)
class RealityDesign:
    """Personas whose attributes have the given shares.

    Attributes:
        shares: Attribute -> category -> share, 0..1.
    """

    dataset_ids: tuple[int, ...]
    shares: Mapping[str, Mapping[str, float]]
    n_personas: int
    seed: int = 0


Design = PoolDesign | BalancedDesign | FactorialDesign | CounterfactualDesign | RealityDesign

_KINDS: Final[Mapping[type[Any], str]] = {
    PoolDesign: "pool",
    BalancedDesign: "balanced",
    FactorialDesign: "factorial",
    CounterfactualDesign: "counterfactual",
    RealityDesign: "reality",
}


def parse_factors(text: str) -> dict[str, tuple[str, ...]]:
    """Read factors from lines such as `gender: female, male`; empty lines are skipped.

    Raises:
        InvalidInput: A line has another form, or an attribute occurs twice.
    """
    factors: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        name, colon, rest = line.partition(":")
        name = clean_text(name)
        categories = tuple(filter(None, map(clean_text, rest.split(","))))
        if not (name and colon and categories):
            raise InvalidInput(
                f"Line {number} names no categories; write it like gender: female, male."
            )
        if name in factors:
            raise InvalidInput(f"Line {number} names {shorten(name)} again; put it on one line.")
        factors[name] = categories
    return factors


def design_kind(design: Design) -> str:
    """The kind of dataset that the design creates."""
    return _KINDS[type(design)]


def design_parameters(session: Session, design: Design) -> dict[str, Any]:
    """The design and the content of its sources: enough to create the dataset again."""
    parameters = asdict(design)
    if not isinstance(design, FactorialDesign):
        parameters["content_hashes"] = [
            datasets.get_dataset(session, dataset_id).content_hash
            for dataset_id in design.dataset_ids
        ]
    return parameters


def design_personas(session: Session, design: Design) -> list[PersonaDraft]:
    """The personas of a design; always the same for the same source datasets.

    Raises:
        InvalidInput: The design is impossible; the message says what is possible.
        NotFound: One of its datasets does not exist.
    """
    match design:
        case FactorialDesign():
            rng = np.random.default_rng(_seed(design.seed))
            return factorial_drafts(
                design.factors, rng, design.n_personas, youngest=design.youngest
            )
        case PoolDesign():
            pool = _pool(session, design.dataset_ids)
            chosen = pool_positions(pool, design.where)
            if not len(chosen):
                raise InvalidInput("No persona matches; choose more categories.")
            return _drafts(session, pool, chosen)
        case BalancedDesign():
            rng = np.random.default_rng(_seed(design.seed))
            pool = _pool(session, design.dataset_ids)
            chosen = balanced_positions(pool, design.attribute, rng, design.per_category)
            return _drafts(session, pool, chosen)
        case RealityDesign():
            rng = np.random.default_rng(_seed(design.seed))
            pool = _pool(session, design.dataset_ids)
            chosen = reality_positions(pool, design.shares, design.n_personas, rng)
            return _drafts(session, pool, chosen)
        case CounterfactualDesign():
            return _counterfactual(session, design)


def _counterfactual(session: Session, design: CounterfactualDesign) -> list[PersonaDraft]:
    rng = np.random.default_rng(_seed(design.seed))
    pool = _pool(session, design.dataset_ids)
    pool = pool.iloc[pool_positions(pool, {design.attribute: design.categories})]
    chosen: Sequence[int] = range(len(pool))
    if design.n_sources is not None:
        per_category, rest = divmod(design.n_sources, max(1, len(design.categories)))
        if rest:
            raise InvalidInput(
                f"{design.n_sources} sources cannot be the same number of each of "
                f"{len(design.categories)} categories; ask for {design.n_sources - rest} or "
                f"{design.n_sources - rest + len(design.categories)}."
            )
        chosen = balanced_positions(pool, design.attribute, rng, per_category).tolist()
    sources = _drafts(session, pool, chosen)
    if not design.keep_texts:
        sources = _without_texts(sources)
    return counterfactual_drafts(
        sources, design.attribute, design.categories, rng, every=design.every
    )


def _without_texts(drafts: Sequence[PersonaDraft]) -> list[PersonaDraft]:
    """Drop the texts; a persona that had any gets a new uuid, because it is another persona."""
    seen: dict[str, int] = {}
    silent = []
    for draft in drafts:
        if draft.name or draft.appearance or draft.biography:
            draft = draft._replace(name=None, appearance=None, biography=None)
            draft = draft._replace(uuid=content_uuid(draft, seen))
        silent.append(draft)
    return silent


def _pool(session: Session, dataset_ids: Sequence[int]) -> pd.DataFrame:
    """The personas of some datasets, copies excluded, each once; missing values are Unknown."""
    if not dataset_ids:
        raise InvalidInput("Choose at least one dataset to take personas from.")
    frames = []
    for dataset_id in dict.fromkeys(dataset_ids):
        copies = datasets.load_links(session, dataset_id)["persona_id"]
        frame = datasets.load_personas(session, dataset_id)
        frame = frame[~frame["persona_id"].isin(copies)]
        attributes = [name for name in frame if name not in ("persona_id", "uuid", "age")]
        frames.append(frame.astype(dict.fromkeys(attributes, "str")))
    pool = pd.concat(frames, ignore_index=True).drop_duplicates("persona_id", ignore_index=True)
    attributes = [name for name in pool if name not in ("persona_id", "uuid", "age")]
    return pool.fillna(dict.fromkeys(attributes, UNKNOWN_CATEGORY))


def _drafts(
    session: Session, pool: pd.DataFrame, positions: Sequence[int] | np.ndarray[Any, Any]
) -> list[PersonaDraft]:
    ids = pool["persona_id"].to_numpy()[np.asarray(positions, dtype=np.int64)].tolist()
    return [
        PersonaDraft(p.uuid, p.attributes, p.age, p.name, p.appearance, p.biography)
        for p in datasets.get_personas(session, ids)
    ]


def _seed(seed: int) -> int:
    if not 0 <= seed < 2**63:
        raise InvalidInput("The seed must be a whole number, 0 or greater.")
    return seed
