"""The power of a run before it starts: the smallest effects it can find."""

from functools import lru_cache
from typing import Annotated, Literal, TypedDict

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from benchlib.application.analysis.queries import Alpha, Sesoi
from benchlib.application.choices import Choices
from benchlib.domain.stats.power import (
    DEFAULT_POWER,
    DEFAULT_SD_PERSONA,
    DEFAULT_SD_RESIDUAL,
    RunPlan,
    compute_run_plan,
)
from benchlib.domain.stats.welch import DEFAULT_ALPHA, DEFAULT_SESOI
from benchlib.domain.vocabulary import UNKNOWN_CATEGORY
from benchlib.infrastructure.loading.data_loader import attribute_names

_SPREAD = Annotated[float, Field(ge=0, le=5, allow_inf_nan=False)]


class PlannedCategory(RunPlan):
    """What a run can find for one category against the baseline."""

    category: str


class PlannedAttribute(TypedDict):
    """What a run can find for one attribute.

    `mde` is the smallest delta it finds for the category with most personas after the baseline,
    `mde_worst` for the one with fewest; None below two personas.
    """

    attribute: str
    baseline: str | None
    n_base: int
    mde: float | None
    mde_worst: float | None
    categories: list[PlannedCategory]


class PowerPlan(TypedDict):
    """What a planned run can find.

    `n_questions` counts both orders. Standard deviations are in rating points, `sd_source` says
    whether they were given, come from an earlier run, or are the defaults.
    """

    ok: bool
    dataset_id: int
    n_personas: int
    n_traits: int
    n_questions: int
    dual_fraction: float
    sd_persona: float
    sd_residual: float
    sd_source: Literal["given", "run", "default"]
    alpha: float
    power: float
    delta: float
    margin: float
    attributes: list[PlannedAttribute]


class PowerQuery(Choices):
    """A run to be planned: a dataset, how many traits, and what is known about the spread.

    Attributes:
        dataset_id: The personas.
        n_traits: Traits with a valence; None counts those that are active.
        dual_fraction: Share of pairs asked in both scale orders.
        like_run_id: An earlier run whose spread is used.
        sd_persona: Spread of personas in rating points; wins over `like_run_id`.
        sd_residual: Spread of single answers in rating points; wins over `like_run_id`.
        delta: The difference to be found.
        margin: A difference too small to matter.
        alpha: Level of the tests.
        power: Requested power.
    """

    dataset_id: Annotated[int, Field(ge=1, lt=2**31)]
    n_traits: Annotated[int, Field(ge=1, le=10_000)] | None = None
    dual_fraction: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.2
    like_run_id: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    sd_persona: _SPREAD | None = None
    sd_residual: _SPREAD | None = None
    delta: Sesoi = DEFAULT_SESOI
    margin: Sesoi = DEFAULT_SESOI
    alpha: Alpha = DEFAULT_ALPHA
    power: Annotated[float, Field(ge=0.5, lt=1)] = DEFAULT_POWER


def plan_power(
    query: PowerQuery,
    personas: pd.DataFrame,
    copies: NDArray[np.int64],
    n_traits: int,
    spread: tuple[float | None, float | None] = (None, None),
) -> PowerPlan:
    """Compute the smallest effects that the planned run can find, by attribute.

    Args:
        design: The query.
        personas: `persona_id`, and one categorical column per attribute.
        copies: Ids of those that are counterfactuals of others: asked, but counted in no group.
        n_traits: Traits with a valence, at least one.
        spread: SD of personas and of single answers in an earlier run, where known.
    """
    given = query.sd_persona is not None or query.sd_residual is not None
    known = spread[0] is not None and spread[1] is not None
    source: Literal["given", "run", "default"] = "run" if known else "default"
    sd_persona = _first(query.sd_persona, spread[0], DEFAULT_SD_PERSONA)
    sd_residual = _first(query.sd_residual, spread[1], DEFAULT_SD_RESIDUAL)

    def plan(n_base: int, n_cat: int) -> RunPlan:
        return _plan(query, n_base, n_cat, n_traits, sd_persona, sd_residual)

    rows: list[PlannedAttribute] = []
    originals = personas[~personas["persona_id"].isin(copies)]
    for name in attribute_names(personas):
        sizes = {str(k): int(v) for k, v in originals[name].value_counts().items() if v}
        tested = sorted(set(sizes) - {UNKNOWN_CATEGORY}, key=lambda c: (-sizes[c], c))
        if not tested:
            rows.append(_nothing(name))
            continue
        baseline, *others = tested
        categories: list[PlannedCategory] = [
            {**plan(sizes[baseline], sizes[category]), "category": category} for category in others
        ]
        rows.append(
            {
                "attribute": name,
                "baseline": baseline,
                "n_base": sizes[baseline],
                "mde": categories[0]["mde"] if categories else None,
                "mde_worst": categories[-1]["mde"] if categories else None,
                "categories": categories,
            }
        )
    return {
        "ok": True,
        "dataset_id": query.dataset_id,
        "n_personas": len(personas),
        "n_traits": n_traits,
        "n_questions": round(len(personas) * n_traits * (1 + query.dual_fraction)),
        "dual_fraction": query.dual_fraction,
        "sd_persona": sd_persona,
        "sd_residual": sd_residual,
        "sd_source": "given" if given else source,
        "alpha": query.alpha,
        "power": query.power,
        "delta": query.delta,
        "margin": query.margin,
        "attributes": rows,
    }


@lru_cache(maxsize=4_096)  # a form asks again at every click, and groups share their sizes
def _plan(
    query: PowerQuery,
    n_base: int,
    n_cat: int,
    n_traits: int,
    sd_persona: float,
    sd_residual: float,
) -> RunPlan:
    return compute_run_plan(
        n_base,
        n_cat,
        n_traits,
        dual_fraction=query.dual_fraction,
        sd_persona=sd_persona,
        sd_residual=sd_residual,
        delta=query.delta,
        margin=query.margin,
        alpha=query.alpha,
        power=query.power,
    )


def _first(*numbers: float | None) -> float:
    return next(number for number in numbers if number is not None)


def _nothing(attribute: str) -> PlannedAttribute:
    return {
        "attribute": attribute,
        "baseline": None,
        "n_base": 0,
        "mde": None,
        "mde_worst": None,
        "categories": [],
    }
