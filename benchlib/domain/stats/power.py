"""How many personas and traits a run needs to see an effect, or to rule one out."""

from typing import TypedDict

import numpy as np
import scipy

from benchlib.domain.errors import InvalidInput
from benchlib.domain.stats.welch import DEFAULT_ALPHA, DEFAULT_SESOI, t_quantile

DEFAULT_POWER = 0.8
DEFAULT_SD_PERSONA = 0.25
"""Spread of personas beyond groups and traits, rating points; take it from an earlier run."""

DEFAULT_SD_RESIDUAL = 0.8
"""Spread of single answers, rating points."""

_LARGEST_N = 10_000_000


class RunPlan(TypedDict):
    """What a planned comparison of two groups can see; deltas in rating points.

    `n_per_group_*` are for two equal groups; None = beyond ten million, or undefined.
    """

    n_base: int
    n_cat: int
    n_traits: int
    n_questions: int
    sd_persona_score: float
    mde: float | None
    power_at_delta: float | None
    power_equivalence: float | None
    n_per_group_delta: int | None
    n_per_group_equivalence: int | None


def compute_persona_score_sd(
    n_traits: int,
    dual_fraction: float = 0.0,
    sd_persona: float = DEFAULT_SD_PERSONA,
    sd_residual: float = DEFAULT_SD_RESIDUAL,
) -> float:
    """Standard deviation of persona scores within a group.

    sqrt(sd_persona^2 + sd_residual^2 / (T (1 + f))): more traits average out the noise of answers,
    never the spread of personas.

    Args:
        n_traits: Traits with a valence, T >= 1.
        dual_fraction: Share f of traits asked in both orders, 0..1.
        sd_persona: Rating points, >= 0.
        sd_residual: Rating points, >= 0.

    Raises:
        InvalidInput: An argument is out of range.
    """
    if n_traits < 1:
        raise InvalidInput("A run needs at least one trait.")
    if not 0 <= dual_fraction <= 1:
        raise InvalidInput("The dual fraction lies outside 0..1.")
    if min(sd_persona, sd_residual) < 0 or not np.isfinite(sd_persona + sd_residual):
        raise InvalidInput("A standard deviation of the plan is negative or not a number.")
    return float(np.sqrt(sd_persona**2 + sd_residual**2 / (n_traits * (1 + dual_fraction))))


def compute_mde(
    n_base: int,
    n_cat: int,
    sd: float,
    alpha: float = DEFAULT_ALPHA,
    power: float = DEFAULT_POWER,
) -> float | None:
    """Smallest delta that a two-sided test detects with the requested power.

    Inverts `compute_power`, as TTestIndPower.solve_power of statsmodels.

    Args:
        n_base: Personas in the baseline.
        n_cat: Personas in the category.
        sd: Standard deviation of persona scores, rating points.
        alpha: Level of the test.
        power: Requested probability of detecting it, above alpha and below 1.

    Returns:
        Rating points > 0; None below two personas in a group; 0 if sd is 0.

    Raises:
        InvalidInput: alpha or power is out of range.
    """
    _check_levels(alpha, power)
    if min(n_base, n_cat) < 2:
        return None
    if sd == 0:
        return 0.0
    highest = 1.0
    while _exact_power(highest, n_base, n_cat, alpha) < power:
        highest *= 2
    effect = scipy.optimize.brentq(
        lambda size: _exact_power(size, n_base, n_cat, alpha) - power, 0.0, highest, xtol=1e-12
    )
    return float(effect) * sd


def compute_power(
    delta: float, n_base: int, n_cat: int, sd: float, alpha: float = DEFAULT_ALPHA
) -> float | None:
    """Probability that a two-sided test detects a true delta.

    From the noncentral t distribution, as TTestIndPower of statsmodels, which however gives NaN
    where power is next to 1.

    Args:
        delta: Rating points; its sign does not matter.
        n_base: Personas in the baseline.
        n_cat: Personas in the category.
        sd: Standard deviation of persona scores, rating points.
        alpha: Level of the test.

    Returns:
        alpha..1; None below two personas in a group or if sd is 0.

    Raises:
        InvalidInput: alpha is out of range.
    """
    _check_levels(alpha, 0.5)
    if min(n_base, n_cat) < 2 or sd == 0:
        return None
    return _exact_power(abs(delta) / sd, n_base, n_cat, alpha)


def compute_equivalence_power(
    margin: float, n_base: int, n_cat: int, sd: float, alpha: float = DEFAULT_ALPHA
) -> float | None:
    """Probability that groups without any difference are found equivalent (TOST).

    2 Phi(margin / se - t) - 1 with the quantile t(1 - alpha); 0 where that is negative.

    Args:
        margin: Smallest effect size of interest, rating points > 0.
        n_base: Personas in the baseline.
        n_cat: Personas in the category.
        sd: Standard deviation of persona scores, rating points.
        alpha: Level of each one-sided test.

    Returns:
        0..1; None below two personas in a group or if sd is 0.

    Raises:
        InvalidInput: alpha or the margin is out of range.
    """
    _check_levels(alpha, 0.5)
    _check_margin(margin)
    if min(n_base, n_cat) < 2 or sd == 0:
        return None
    se = sd * np.sqrt(1 / n_base + 1 / n_cat)
    reach = margin / se - float(t_quantile(n_base + n_cat - 2, 1 - 2 * alpha))
    return float(max(0.0, 2 * scipy.special.ndtr(reach) - 1))


def compute_n_for_delta(
    delta: float, sd: float, alpha: float = DEFAULT_ALPHA, power: float = DEFAULT_POWER
) -> int | None:
    """Personas per group, two equal groups, to find a delta.

    Returns:
        The smallest number with that power, at least 2; None for a delta of 0, or beyond ten
        million.

    Raises:
        InvalidInput: alpha or power is out of range.
    """
    _check_levels(alpha, power)
    if delta == 0 or abs(delta) * np.sqrt(_LARGEST_N) < sd:
        return None
    if sd == 0:
        return 2
    # A normal approximation, always a little too small, then the exact power.
    reach = float(scipy.special.ndtri(1 - alpha / 2) + scipy.special.ndtri(power))
    n = max(2, int(2 * (reach * sd / delta) ** 2))
    while n <= _LARGEST_N and (compute_power(delta, n, n, sd, alpha) or 0.0) < power:
        n += 1
    return n if n <= _LARGEST_N else None


def compute_n_for_equivalence(
    margin: float, sd: float, alpha: float = DEFAULT_ALPHA, power: float = DEFAULT_POWER
) -> int | None:
    """Personas per group, two equal groups, to show that there is no difference.

    n = 2 (z(1 - alpha) + z((1 + power) / 2))^2 sd^2 / margin^2, for a true delta of 0.

    Returns:
        At least 2; None beyond ten million.

    Raises:
        InvalidInput: alpha, power or the margin is out of range.
    """
    _check_levels(alpha, power)
    _check_margin(margin)
    reach = float(scipy.special.ndtri(1 - alpha) + scipy.special.ndtri((1 + power) / 2))
    n = 2 * (reach * sd / margin) ** 2
    return max(2, int(np.ceil(n))) if n <= _LARGEST_N else None


def compute_run_plan(
    n_base: int,
    n_cat: int,
    n_traits: int,
    *,
    dual_fraction: float = 0.0,
    sd_persona: float = DEFAULT_SD_PERSONA,
    sd_residual: float = DEFAULT_SD_RESIDUAL,
    delta: float = DEFAULT_SESOI,
    margin: float = DEFAULT_SESOI,
    alpha: float = DEFAULT_ALPHA,
    power: float = DEFAULT_POWER,
) -> RunPlan:
    """Compute what a run of this size can detect between two groups.

    Args:
        n_base: Personas in the baseline, >= 0.
        n_cat: Personas in the category, >= 0.
        n_traits: Traits with a valence.
        dual_fraction: Share of traits asked in both orders.
        sd_persona: See `compute_persona_score_sd`.
        sd_residual: See `compute_persona_score_sd`.
        delta: The difference to detect.
        margin: The largest difference that counts as none.
        alpha: Level of the tests.
        power: Requested power.

    Raises:
        InvalidInput: An argument is out of range.
    """
    sd = compute_persona_score_sd(n_traits, dual_fraction, sd_persona, sd_residual)
    return {
        "n_base": n_base,
        "n_cat": n_cat,
        "n_traits": n_traits,
        "n_questions": round((n_base + n_cat) * n_traits * (1 + dual_fraction)),
        "sd_persona_score": sd,
        "mde": compute_mde(n_base, n_cat, sd, alpha, power),
        "power_at_delta": compute_power(delta, n_base, n_cat, sd, alpha),
        "power_equivalence": compute_equivalence_power(margin, n_base, n_cat, sd, alpha),
        "n_per_group_delta": compute_n_for_delta(delta, sd, alpha, power),
        "n_per_group_equivalence": compute_n_for_equivalence(margin, sd, alpha, power),
    }


def _exact_power(effect: float, n_base: int, n_cat: int, alpha: float) -> float:
    """Power for a standardised effect >= 0."""
    df = n_base + n_cat - 2
    shift = effect / np.sqrt(1 / n_base + 1 / n_cat)
    limit = float(t_quantile(df, 1 - alpha))
    above = 1 - float(scipy.special.nctdtr(df, shift, limit))
    below = float(scipy.special.nctdtr(df, shift, -limit))
    # Far out both tails may come as NaN; then one is 1 and the other 0.
    return (1.0 if np.isnan(above) else above) + (0.0 if np.isnan(below) else below)


def _check_levels(alpha: float, power: float) -> None:
    if not 0 < alpha < 0.5:
        raise InvalidInput("alpha must lie between 0 and 0.5.")
    if not alpha < power < 1:
        raise InvalidInput("The requested power must lie between alpha and 1.")


def _check_margin(margin: float) -> None:
    if not margin > 0:
        raise InvalidInput("The smallest effect of interest must be above 0.")
