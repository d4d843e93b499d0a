"""How many personas and traits a run needs to see an effect, or to rule one out."""

from functools import lru_cache
from typing import Final, TypedDict

from benchlib.domain.errors import InvalidInput
from benchlib.domain.stats.welch import DEFAULT_ALPHA, DEFAULT_SESOI
from benchlib.domain.stats.welch_power import (
    Contrast,
    compute_detectable_delta,
    compute_half_width,
    compute_n_for_delta,
    compute_n_for_half_width,
    compute_n_for_tost,
    compute_planned_score_sd,
    compute_tost_power,
    compute_welch_power,
)

DEFAULT_POWER: Final = 0.8
DEFAULT_SD_PERSONA: Final = 0.25
"""Spread of personas beyond groups and traits, rating points; take it from an earlier run."""

DEFAULT_SD_PERSONA_TRAIT: Final = 0.0
"""Spread of persona x trait, rating points; at 0 all of it counts as noise of single answers."""

DEFAULT_SD_RESIDUAL: Final = 0.8
"""Spread of single answers, rating points."""


class RunPlan(TypedDict):
    """What a planned comparison of two groups can see; deltas in rating points.

    `mde` and `power_at_delta` are for one test, `mde_corrected` and `power_corrected` for a lone
    effect after the correction over all `n_tests` of the run. `half_width` is the one to expect of
    the 95 % interval. `n_per_group_*` are for two equal groups and one test. None = a group below
    two personas, beyond ten million personas, or undefined.
    """

    n_base: int
    n_cat: int
    n_traits: int
    n_questions: int
    n_tests: int
    sd_persona_score: float
    mde: float | None
    mde_corrected: float | None
    power_at_delta: float | None
    power_corrected: float | None
    power_equivalence: float | None
    half_width: float | None
    n_per_group_delta: int | None
    n_per_group_equivalence: int | None
    n_per_group_half_width: int | None


def compute_run_plan(
    n_base: int,
    n_cat: int,
    n_traits: int,
    *,
    dual_fraction: float = 0.0,
    sd_persona: float = DEFAULT_SD_PERSONA,
    sd_persona_trait: float = DEFAULT_SD_PERSONA_TRAIT,
    sd_residual: float = DEFAULT_SD_RESIDUAL,
    n_tests: int = 1,
    delta: float = DEFAULT_SESOI,
    margin: float = DEFAULT_SESOI,
    half_width: float = DEFAULT_SESOI,
    alpha: float = DEFAULT_ALPHA,
    power: float = DEFAULT_POWER,
) -> RunPlan:
    """Compute what a run of this size can detect between two groups with Welch's test.

    Args:
        n_base: Personas in the baseline, >= 0.
        n_cat: Personas in the category, >= 0.
        n_traits: Traits with a valence.
        dual_fraction: Share of questions asked in both orders.
        sd_persona: See `compute_planned_score_sd`.
        sd_persona_trait: See `compute_planned_score_sd`.
        sd_residual: See `compute_planned_score_sd`.
        n_tests: Deltas that the run corrects together: attributes x categories x trait sets.
        delta: The difference to detect.
        margin: The largest difference that counts as none.
        half_width: Half-width of the 95 % interval to be reached.
        alpha: Level of the tests.
        power: Requested power.

    Raises:
        InvalidInput: An argument is out of range.
    """
    sd = compute_planned_score_sd(
        n_traits, dual_fraction, sd_persona, sd_persona_trait, sd_residual
    )
    for_delta, for_equivalence, for_half_width = _group_sizes(
        sd, delta, margin, half_width, alpha, power
    )
    plan: RunPlan = {
        "n_base": n_base,
        "n_cat": n_cat,
        "n_traits": n_traits,
        "n_questions": round((n_base + n_cat) * n_traits * (1 + dual_fraction)),
        "n_tests": n_tests,
        "sd_persona_score": sd,
        "mde": None,
        "mde_corrected": None,
        "power_at_delta": None,
        "power_corrected": None,
        "power_equivalence": None,
        "half_width": None,
        "n_per_group_delta": for_delta,
        "n_per_group_equivalence": for_equivalence,
        "n_per_group_half_width": for_half_width,
    }
    if min(n_base, n_cat) < 2:
        return plan
    if sd == 0:
        plan["mde"] = plan["mde_corrected"] = plan["half_width"] = 0.0
        return plan
    groups = Contrast(n_base, n_cat, sd, sd)
    plan["mde"] = compute_detectable_delta(groups, alpha, power)
    plan["mde_corrected"] = compute_detectable_delta(groups, alpha, power, n_tests)
    plan["power_at_delta"] = compute_welch_power(delta, groups, alpha)
    plan["power_corrected"] = compute_welch_power(delta, groups, alpha, n_tests)
    plan["power_equivalence"] = compute_tost_power(margin, groups, alpha=alpha)
    plan["half_width"] = compute_half_width(groups)
    return plan


@lru_cache(maxsize=256)  # the same for every pair of groups of a plan
def _group_sizes(
    sd: float, delta: float, margin: float, half_width: float, alpha: float, power: float
) -> tuple[int | None, int | None, int | None]:
    """Personas per group for the delta, for equivalence and for the half-width."""
    if not alpha < power < 1:
        raise InvalidInput("The requested power must lie between alpha and 1.")
    if min(margin, half_width) <= 0:
        raise InvalidInput("The smallest effect of interest and the half-width must be above 0.")
    if sd == 0:
        return (2 if delta else None), 2, 2
    return (
        compute_n_for_delta(delta, sd, alpha, power),
        compute_n_for_tost(margin, sd, alpha, power),
        compute_n_for_half_width(half_width, sd),
    )
