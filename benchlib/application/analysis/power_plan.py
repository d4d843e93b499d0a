"""What a run could find out, before it is started."""

from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from benchlib.application.analysis.panel_payloads import PlannedAttribute, PlannedCategory, Planning
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


class RunDesign(BaseModel):
    """A run to be planned: a dataset, how many traits, and what is known of the spread.

    Attributes:
        dataset_id: The personas.
        n_traits: Traits with a valence; None counts those that are active.
        dual_fraction: Share of pairs asked in both scale orders.
        like_run_id: An earlier run whose spread is taken over.
        sd_persona: Spread of personas in rating points; wins over `like_run_id`.
        sd_residual: Spread of single answers in rating points; wins over `like_run_id`.
        delta: The difference one hopes to find.
        margin: The difference one would call none.
        alpha: Level of the tests.
        power: Wanted power.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset_id: Annotated[int, Field(ge=1, lt=2**31)]
    n_traits: Annotated[int, Field(ge=1, le=10_000)] | None = None
    dual_fraction: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.2
    like_run_id: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    sd_persona: _SPREAD | None = None
    sd_residual: _SPREAD | None = None
    delta: Annotated[float, Field(gt=0, le=4)] = DEFAULT_SESOI
    margin: Annotated[float, Field(gt=0, le=4)] = DEFAULT_SESOI
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = DEFAULT_ALPHA
    power: Annotated[float, Field(ge=0.5, lt=1)] = DEFAULT_POWER


def plan_run(
    design: RunDesign,
    personas: pd.DataFrame,
    copies: NDArray[np.int64],
    n_traits: int,
    spread: tuple[float | None, float | None] = (None, None),
) -> Planning:
    """Compute what the design can see of every attribute.

    Args:
        design: The design.
        personas: `persona_id`, and one categorical column per attribute.
        copies: Ids of those that are counterfactuals of others: asked, but no group grows by them.
        n_traits: Traits with a valence, at least one.
        spread: SD of personas and of single answers in an earlier run, where known.
    """
    given = design.sd_persona is not None or design.sd_residual is not None
    known = spread[0] is not None and spread[1] is not None
    source: Literal["given", "run", "default"] = "run" if known else "default"
    sd_persona = _first(design.sd_persona, spread[0], DEFAULT_SD_PERSONA)
    sd_residual = _first(design.sd_residual, spread[1], DEFAULT_SD_RESIDUAL)

    def plan(n_base: int, n_cat: int) -> RunPlan:
        return _plan(design, n_base, n_cat, n_traits, sd_persona, sd_residual)

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
        "dataset_id": design.dataset_id,
        "n_personas": len(personas),
        "n_traits": n_traits,
        "n_questions": round(len(personas) * n_traits * (1 + design.dual_fraction)),
        "dual_fraction": design.dual_fraction,
        "sd_persona": sd_persona,
        "sd_residual": sd_residual,
        "sd_source": "given" if given else source,
        "alpha": design.alpha,
        "power": design.power,
        "delta": design.delta,
        "margin": design.margin,
        "attributes": rows,
    }


@lru_cache(maxsize=4_096)  # a form asks again at every click, and groups share their sizes
def _plan(
    design: RunDesign,
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
        dual_fraction=design.dual_fraction,
        sd_persona=sd_persona,
        sd_residual=sd_residual,
        delta=design.delta,
        margin=design.margin,
        alpha=design.alpha,
        power=design.power,
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
