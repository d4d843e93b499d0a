"""Power and precision of the tests that a run will be judged by.

The group sizes of a bias benchmark are lopsided: 300 against 5 has Welch's 4 degrees of freedom,
not the 303 of a pooled t test, which promises .80 power where .57 is delivered.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy

from benchlib.domain.arrays import FloatArray
from benchlib.domain.errors import InvalidInput
from benchlib.domain.stats.effect_size import noncentrality_of_t
from benchlib.domain.stats.welch import CONFIDENCE, DEFAULT_ALPHA, t_quantile

LARGEST_GROUP: Final = 10_000_000

_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(200)


@dataclass(frozen=True, slots=True)
class Contrast:
    """Two groups as planned.

    Attributes:
        n_base: Personas in the baseline, at least 2.
        n_cat: Personas in the category, at least 2.
        sd_base: Standard deviation of the baseline's persona scores, rating points > 0.
        sd_cat: The same for the category.
    """

    n_base: int
    n_cat: int
    sd_base: float
    sd_cat: float

    def __post_init__(self) -> None:
        if min(self.n_base, self.n_cat) < 2:
            raise InvalidInput("A test needs at least two personas in each group.")
        if not (self.sd_base > 0 and self.sd_cat > 0 and np.isfinite(self.sd_base + self.sd_cat)):
            raise InvalidInput("The standard deviations of the plan must be above 0.")

    @property
    def se(self) -> float:
        """Standard error of the delta, rating points."""
        return float(np.hypot(self.sd_base / self.n_base**0.5, self.sd_cat / self.n_cat**0.5))

    @property
    def df(self) -> float:
        """Welch's degrees of freedom at the true standard deviations."""
        parts = self.sd_base**2 / self.n_base, self.sd_cat**2 / self.n_cat
        spread = parts[0] ** 2 / (self.n_base - 1) + parts[1] ** 2 / (self.n_cat - 1)
        return float(sum(parts) ** 2 / spread)


def compute_planned_score_sd(
    n_traits: int,
    dual_fraction: float,
    sd_persona: float,
    sd_persona_trait: float,
    sd_residual: float,
) -> float:
    """Standard deviation of persona scores within a group.

    sqrt(s_p^2 + (s_pt^2 + s_e^2 (1 - f / 2)) / T). A question asked in both orders halves its own
    answer noise; what a persona is to a trait stays the same in both orders.

    Args:
        n_traits: Traits with a valence, T >= 1.
        dual_fraction: Share f of questions asked in both orders, 0..1.
        sd_persona: Spread of personas over all traits, rating points >= 0.
        sd_persona_trait: Spread of persona x trait, rating points >= 0.
        sd_residual: Spread of single answers to the same question, rating points >= 0.

    Raises:
        InvalidInput: An argument is out of range.
    """
    if n_traits < 1 or not 0 <= dual_fraction <= 1:
        raise InvalidInput("A plan needs at least one trait, and a dual fraction within 0..1.")
    spreads = (sd_persona, sd_persona_trait, sd_residual)
    if min(spreads) < 0 or not np.isfinite(sum(spreads)):
        raise InvalidInput("A standard deviation of the plan is negative or not a number.")
    noise = sd_persona_trait**2 + sd_residual**2 * (1 - dual_fraction / 2)
    return float(np.sqrt(sd_persona**2 + noise / n_traits))


def compute_welch_power(
    delta: float, contrast: Contrast, alpha: float = DEFAULT_ALPHA, n_tests: int = 1
) -> float:
    """Probability that Welch's test finds a true delta after correction.

    Noncentral t with Welch's degrees of freedom. Among `n_tests` it is the power of a lone effect,
    at alpha / n_tests: the least that Benjamini-Hochberg gives it. A power of .80 for one test
    is about .5 among 10 and .15 among 400.

    Args:
        delta: Rating points; its sign does not matter.
        contrast: The two groups.
        alpha: Level, 0..0.5.
        n_tests: Tests of the family, >= 1.

    Raises:
        InvalidInput: The level or the family is out of range.
    """
    level = _level(alpha, n_tests)
    shift = abs(delta) / contrast.se
    limit = float(t_quantile(contrast.df, 1 - level))
    above = 1 - _nct_cdf(contrast.df, shift, limit)
    return min(1.0, above + _nct_cdf(contrast.df, shift, -limit))


def compute_detectable_delta(
    contrast: Contrast, alpha: float = DEFAULT_ALPHA, power: float = 0.8, n_tests: int = 1
) -> float:
    """Smallest delta that Welch's test finds with the wanted power after correction.

    Returns:
        Rating points > 0.

    Raises:
        InvalidInput: The level, the power or the family is out of range.
    """
    level = _level(alpha, n_tests)
    if not level < power < 1:
        raise InvalidInput("The wanted power must lie between alpha and 1.")
    limit = t_quantile(contrast.df, 1 - level)
    start = float(noncentrality_of_t(1 - power, np.asarray(contrast.df), limit)) * contrast.se
    high = 2 * max(start, contrast.se)
    while compute_welch_power(high, contrast, alpha, n_tests) < power:
        high *= 2
    return float(
        scipy.optimize.brentq(
            lambda delta: compute_welch_power(delta, contrast, alpha, n_tests) - power,
            0.0,
            high,
            xtol=1e-10 * high,
        )
    )


def compute_tost_power(
    margin: float, contrast: Contrast, delta: float = 0.0, alpha: float = DEFAULT_ALPHA
) -> float:
    """Probability that groups are found equivalent (two one-sided Welch tests).

    Integrates over the estimated standard error, chi-square with Welch's df: given it, the delta
    must fall at least t standard errors inside the margin. Exact for equal variances and sizes.

    Args:
        margin: Smallest effect of interest, rating points > 0.
        contrast: The two groups.
        delta: True delta.
        alpha: Level of each one-sided test.

    Returns:
        0..1; 0 where the estimated error can never be small enough.

    Raises:
        InvalidInput: The margin or the level is out of range.
    """
    if not margin > 0:
        raise InvalidInput("The smallest effect of interest must be above 0.")
    level = _level(alpha, 1)
    chance, weight = (_NODES + 1) / 2, _NODE_WEIGHTS / 2
    ratio: FloatArray = np.sqrt(scipy.stats.chi2.ppf(chance, contrast.df) / contrast.df)
    reach = float(t_quantile(contrast.df, 1 - 2 * level)) * ratio
    upper = scipy.special.ndtr((margin - delta) / contrast.se - reach)
    lower = scipy.special.ndtr((-margin - delta) / contrast.se + reach)
    return float(weight @ np.maximum(0.0, upper - lower))


def compute_half_width(contrast: Contrast, confidence: float = CONFIDENCE) -> float:
    """Half-width to expect of the interval of a delta: t(Welch's df) standard errors.

    Returns:
        Rating points > 0.
    """
    return float(t_quantile(contrast.df, confidence)) * contrast.se


def compute_n_for_delta(
    delta: float, sd: float, alpha: float = DEFAULT_ALPHA, power: float = 0.8
) -> int | None:
    """Personas per group, two equal groups, to find a delta in one test.

    Returns:
        At least 2; None for a delta of 0, or beyond ten million.

    Raises:
        InvalidInput: The level or the standard deviation is out of range.
    """
    if delta == 0:
        return None
    return _smallest(lambda n: compute_welch_power(delta, Contrast(n, n, sd, sd), alpha) >= power)


def compute_n_for_tost(
    margin: float, sd: float, alpha: float = DEFAULT_ALPHA, power: float = 0.8
) -> int | None:
    """Personas per group, two equal groups, to show that there is no difference.

    Returns:
        At least 2; None beyond ten million.

    Raises:
        InvalidInput: The margin, the level or the standard deviation is out of range.
    """
    return _smallest(
        lambda n: compute_tost_power(margin, Contrast(n, n, sd, sd), 0, alpha) >= power
    )


def compute_n_for_half_width(half_width: float, sd: float) -> int | None:
    """Personas per group, two equal groups, for a 95 % interval of the delta of this half-width.

    Returns:
        At least 2; None beyond ten million.

    Raises:
        InvalidInput: The half-width or the standard deviation is not above 0.
    """
    if not half_width > 0:
        raise InvalidInput("The wanted half-width must be above 0.")
    return _smallest(lambda n: compute_half_width(Contrast(n, n, sd, sd)) <= half_width)


def _smallest(enough: Callable[[int], bool]) -> int | None:
    """The smallest group size from which on `enough` holds."""
    high = 2
    while not enough(high):
        high *= 2
        if high > LARGEST_GROUP:
            return None
    low = max(2, high // 2)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return high


def _nct_cdf(df: float, shift: float, t: float) -> float:
    """Noncentral t; where it is too far out to be computed it is 0 or 1."""
    found = float(scipy.special.nctdtr(df, shift, t))
    return found if np.isfinite(found) else float(t > shift)


def _level(alpha: float, n_tests: int) -> float:
    if not 0 < alpha < 0.5:
        raise InvalidInput("alpha must lie between 0 and 0.5.")
    if n_tests < 1:
        raise InvalidInput("A family has at least one test.")
    return alpha / n_tests
