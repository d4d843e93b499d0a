"""The power of a run before it starts: the smallest effects it can find."""

from functools import lru_cache
from typing import Annotated, Literal, NamedTuple, TypedDict

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from benchlib.application.analysis.queries import Alpha, Sesoi
from benchlib.application.choices import Choices
from benchlib.domain.analysis.order_effects import OrderEffectMetrics
from benchlib.domain.analysis.variance_components import VarianceComponents, compute_answer_noise
from benchlib.domain.stats.power import (
    DEFAULT_POWER,
    DEFAULT_SD_PERSONA,
    DEFAULT_SD_PERSONA_TRAIT,
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
    `mde_worst` for the one with fewest; `mde_corrected` and `mde_corrected_worst` likewise after
    the correction over all tests of the run, and `half_width`, `half_width_worst` for the 95 %
    interval to expect. None below two personas.
    """

    attribute: str
    baseline: str | None
    n_base: int
    mde: float | None
    mde_worst: float | None
    mde_corrected: float | None
    mde_corrected_worst: float | None
    half_width: float | None
    half_width_worst: float | None
    categories: list[PlannedCategory]


class PowerPlan(TypedDict):
    """What a planned run can find.

    `n_questions` counts both orders. `n_tests` deltas are corrected together: categories with two
    personas or more against their baselines, in each of `n_trait_sets` trait sets. Standard
    deviations are in rating points, `sd_source` says whether they were given, come from an earlier
    run, or are the defaults. `target_half_width` is what `n_per_group_half_width` is for.
    """

    ok: bool
    dataset_id: int
    n_personas: int
    n_traits: int
    n_questions: int
    n_trait_sets: int
    n_tests: int
    dual_fraction: float
    sd_persona: float
    sd_persona_trait: float
    sd_residual: float
    sd_source: Literal["given", "run", "default"]
    alpha: float
    power: float
    delta: float
    margin: float
    target_half_width: float
    attributes: list[PlannedAttribute]


class PowerQuery(Choices):
    """A run to be planned: a dataset, how many traits, and what is known about the spread.

    Attributes:
        dataset_id: The personas.
        n_traits: Traits with a valence; None counts those that are active.
        n_trait_categories: Trait categories with such a trait; None counts those that are active.
        dual_fraction: Share of pairs asked in both scale orders.
        like_run_id: An earlier run whose spread is used.
        sd_persona: Spread of personas in rating points; wins over `like_run_id`.
        sd_persona_trait: Spread of persona x trait in rating points; wins over `like_run_id`.
        sd_residual: Spread of single answers in rating points; wins over `like_run_id`.
        delta: The difference to be found.
        margin: A difference too small to matter.
        target_half_width: Half-width of a 95 % interval that is precise enough, in rating points.
        alpha: Level of the tests.
        power: Requested power.
    """

    dataset_id: Annotated[int, Field(ge=1, lt=2**31)]
    n_traits: Annotated[int, Field(ge=1, le=10_000)] | None = None
    n_trait_categories: Annotated[int, Field(ge=1, le=10_000)] | None = None
    dual_fraction: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.2
    like_run_id: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    sd_persona: _SPREAD | None = None
    sd_persona_trait: _SPREAD | None = None
    sd_residual: _SPREAD | None = None
    delta: Sesoi = DEFAULT_SESOI
    margin: Sesoi = DEFAULT_SESOI
    target_half_width: Sesoi = DEFAULT_SESOI
    alpha: Alpha = DEFAULT_ALPHA
    power: Annotated[float, Field(ge=0.5, lt=1)] = DEFAULT_POWER


class Spread(NamedTuple):
    """Standard deviations in an earlier run, rating points; None = unknown."""

    persona: float | None = None
    persona_trait: float | None = None
    residual: float | None = None


def spread_of_run(components: VarianceComponents, order: OrderEffectMetrics) -> Spread:
    """Read the spread of a run; cells that average both orders do not count as single answers."""
    var_persona = components["var_persona"]
    noise = compute_answer_noise(components, order["by_case"], order["n_pairs"], order["obe"]["sd"])
    if var_persona is None or noise is None:
        return Spread()
    return Spread(var_persona**0.5, noise[0] ** 0.5, noise[1] ** 0.5)


def plan_power(
    query: PowerQuery,
    personas: pd.DataFrame,
    copies: NDArray[np.int64],
    n_traits: int,
    n_trait_categories: int,
    spread: Spread,
) -> PowerPlan:
    """Compute the smallest effects that the planned run can find, by attribute.

    Args:
        query: The plan.
        personas: `persona_id`, and one categorical column per attribute.
        copies: Ids of those that are counterfactuals of others: asked, but counted in no group.
        n_traits: Traits with a valence, at least one.
        n_trait_categories: Trait categories with such a trait, at least one.
        spread: That of an earlier run, where known.
    """
    wanted = Spread(query.sd_persona, query.sd_persona_trait, query.sd_residual)
    source: Literal["given", "run", "default"] = "default" if spread.persona is None else "run"
    assumed = _Assumed(
        n_traits,
        _first(wanted.persona, spread.persona, DEFAULT_SD_PERSONA),
        _first(wanted.persona_trait, spread.persona_trait, DEFAULT_SD_PERSONA_TRAIT),
        _first(wanted.residual, spread.residual, DEFAULT_SD_RESIDUAL),
    )
    originals = personas[~personas["persona_id"].isin(copies)]
    groups = {name: _sizes(originals[name]) for name in attribute_names(personas)}
    n_trait_sets = 1 if n_trait_categories == 1 else 1 + n_trait_categories
    # groups are in order of size, so a category of two has a baseline of two
    n_deltas = sum(n > 1 for sizes in groups.values() for _, n in sizes[1:])
    n_tests = max(1, n_deltas * n_trait_sets)
    return {
        "ok": True,
        "dataset_id": query.dataset_id,
        "n_personas": len(personas),
        "n_traits": n_traits,
        "n_questions": round(len(personas) * n_traits * (1 + query.dual_fraction)),
        "n_trait_sets": n_trait_sets,
        "n_tests": n_tests,
        "dual_fraction": query.dual_fraction,
        "sd_persona": assumed.sd_persona,
        "sd_persona_trait": assumed.sd_persona_trait,
        "sd_residual": assumed.sd_residual,
        "sd_source": source if wanted == Spread() else "given",
        "alpha": query.alpha,
        "power": query.power,
        "delta": query.delta,
        "margin": query.margin,
        "target_half_width": query.target_half_width,
        "attributes": [
            _attribute(query, name, sizes, assumed, n_tests) for name, sizes in groups.items()
        ],
    }


class _Assumed(NamedTuple):
    n_traits: int
    sd_persona: float
    sd_persona_trait: float
    sd_residual: float


def _sizes(column: pd.Series) -> list[tuple[str, int]]:
    """Categories that are tested, with their personas; the baseline first, the smallest last."""
    sizes = {str(category): int(n) for category, n in column.value_counts().items() if n}
    sizes.pop(UNKNOWN_CATEGORY, None)
    return sorted(sizes.items(), key=lambda item: (-item[1], item[0]))


def _attribute(
    query: PowerQuery,
    name: str,
    sizes: list[tuple[str, int]],
    assumed: _Assumed,
    n_tests: int,
) -> PlannedAttribute:
    baseline, n_base = sizes[0] if sizes else (None, 0)
    categories: list[PlannedCategory] = [
        {**_plan(query, n_base, n, assumed, n_tests), "category": category}
        for category, n in sizes[1:]
    ]
    planned: PlannedAttribute = {
        "attribute": name,
        "baseline": baseline,
        "n_base": n_base,
        "mde": None,
        "mde_worst": None,
        "mde_corrected": None,
        "mde_corrected_worst": None,
        "half_width": None,
        "half_width_worst": None,
        "categories": categories,
    }
    if categories:
        largest, smallest = categories[0], categories[-1]
        planned["mde"] = largest["mde"]
        planned["mde_worst"] = smallest["mde"]
        planned["mde_corrected"] = largest["mde_corrected"]
        planned["mde_corrected_worst"] = smallest["mde_corrected"]
        planned["half_width"] = largest["half_width"]
        planned["half_width_worst"] = smallest["half_width"]
    return planned


@lru_cache(maxsize=4_096)  # a form asks again at every click, and groups share their sizes
def _plan(query: PowerQuery, n_base: int, n_cat: int, assumed: _Assumed, n_tests: int) -> RunPlan:
    return compute_run_plan(
        n_base,
        n_cat,
        assumed.n_traits,
        dual_fraction=query.dual_fraction,
        sd_persona=assumed.sd_persona,
        sd_persona_trait=assumed.sd_persona_trait,
        sd_residual=assumed.sd_residual,
        n_tests=n_tests,
        delta=query.delta,
        margin=query.margin,
        half_width=query.target_half_width,
        alpha=query.alpha,
        power=query.power,
    )


def _first(*numbers: float | None) -> float:
    return next(number for number in numbers if number is not None)
