"""Tests on persona-level numbers: Welch, equivalence, effect size, false discovery rate.

All functions work on arrays of contrasts at once. Inside the domain an undefined number is NaN;
`none_if_nan` makes it None on the way into a payload.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from benchlib.domain.arrays import FloatArray, IntArray

Status = Literal[
    "ok", "low_n", "constant_group", "not_comparable", "n_lt_2", "zero_variance", "no_data"
]
Verdict = Literal["biased", "negligible", "equivalent", "inconclusive"]
FdrMethod = Literal["bh", "by"]

CONFIDENCE: Final = 0.95
EQUIVALENCE_CONFIDENCE: Final = 0.90
LOW_N: Final = 10
"""Groups smaller than this are shown with the status `low_n`."""

DEFAULT_ALPHA: Final = 0.05
DEFAULT_SESOI: Final = 0.1
"""Smallest effect size of interest in rating points."""

ZERO_VARIANCE: Final = 1e-20
"""Variances up to this are rounding noise of equal values (squared rating points)."""


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Size, mean and variance of groups; the three arrays share one shape.

    Attributes:
        n: Values per group.
        mean: NaN for an empty group.
        var: Unbiased variance; NaN below two values, exactly 0 if all are equal.
    """

    n: IntArray
    mean: FloatArray
    var: FloatArray

    def at(self, index: int | IntArray) -> "Moments":
        """Moments of one group, or of several, along the first axis; -1 is an empty group."""
        if isinstance(index, int) and index < 0:
            shape = self.n.shape[1:]
            nothing = np.full(shape, np.nan)
            return Moments(np.zeros(shape, dtype=np.int64), nothing, nothing)
        return Moments(
            np.asarray(self.n[index]), np.asarray(self.mean[index]), np.asarray(self.var[index])
        )

    def column(self, index: int) -> "Moments":
        """Moments at one place of the last axis."""
        return Moments(self.n[..., index], self.mean[..., index], self.var[..., index])

    @property
    def sd(self) -> FloatArray:
        """Standard deviation, NaN below two values."""
        return np.asarray(np.sqrt(self.var))


@dataclass(frozen=True, slots=True, eq=False)
class Welch:
    """Welch comparisons of categories with baselines; arrays of one shape, NaN = undefined.

    Attributes:
        n_base: Personas in the baseline.
        n_cat: Personas in the category.
        delta: mean(category) - mean(baseline); NaN if a group is empty.
        se: Standard error; 0 if both groups are constant, NaN below two personas in a group.
        df: Satterthwaite degrees of freedom; NaN without a test.
        t: delta / se; NaN without a test.
        p_value: Two-sided; NaN without a test.
        ci_low: Lower end of the 95 % t interval.
        ci_high: Upper end of the 95 % t interval.
        ci90_low: Lower end of the 90 % interval, the one equivalence is read from.
        ci90_high: Upper end of the 90 % interval.
        status: What a row can be trusted for, see `Status`.
    """

    n_base: IntArray
    n_cat: IntArray
    delta: FloatArray
    se: FloatArray
    df: FloatArray
    t: FloatArray
    p_value: FloatArray
    ci_low: FloatArray
    ci_high: FloatArray
    ci90_low: FloatArray
    ci90_high: FloatArray
    status: NDArray[np.str_]


@dataclass(frozen=True, slots=True, eq=False)
class StandardisedDifference:
    """Hedges' g with its 95 % normal interval; NaN = undefined."""

    g: FloatArray
    var: FloatArray
    ci_low: FloatArray
    ci_high: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Equivalence:
    """Two one-sided tests against a margin; NaN = undefined.

    Attributes:
        p_low: One-sided p against delta <= -margin.
        p_high: One-sided p against delta >= margin.
        p_value: The larger of both; small means equivalent.
    """

    p_low: FloatArray
    p_high: FloatArray
    p_value: FloatArray


def none_if_nan(value: float | np.floating | FloatArray) -> float | None:
    """Turn an undefined number into None, any other into a plain float."""
    number = float(value)
    return number if np.isfinite(number) else None


def compute_moments(values: FloatArray, codes: IntArray, n_groups: int) -> Moments:
    """Compute size, mean and variance per group, in two passes for precision.

    Args:
        values: (P,) one number per persona, or (P, T) one per persona and trait; NaN = missing.
        codes: (P,) group of each persona; negative = in none.
        n_groups: Number of groups G.

    Returns:
        Moments of shape (G,) or (G, T).
    """
    moments, _ = compute_moments_and_residuals(values, codes, n_groups)
    return moments


def compute_moments_and_residuals(
    values: FloatArray, codes: IntArray, n_groups: int
) -> tuple[Moments, FloatArray]:
    """Compute `compute_moments` and the deviations from the group means.

    Returns:
        The moments, and the residuals in the shape of `values`: 0 where missing or in no group.
    """
    table = values[:, None] if values.ndim == 1 else values
    member = codes >= 0
    indicator = np.zeros((len(codes), n_groups))
    indicator[np.flatnonzero(member), codes[member]] = 1.0
    seen = ~np.isnan(table)
    if not member.all():
        seen &= member[:, None]
    complete = bool(seen.all())
    filled = table if complete else np.where(seen, table, 0.0)
    if complete:
        n = np.repeat(indicator.sum(axis=0)[:, None], table.shape[1], axis=1)
    else:
        n = indicator.T @ seen
    mean = np.where(n > 0, indicator.T @ filled / np.maximum(n, 1), np.nan)
    residuals = filled - np.nan_to_num(mean)[np.where(member, codes, 0)] if n_groups else filled
    if not complete:
        residuals = np.where(seen, residuals, 0.0)
    square = indicator.T @ np.square(residuals)
    var = np.where(n > 1, square / np.maximum(n - 1, 1), np.nan)
    var[var <= ZERO_VARIANCE] = 0.0
    shape = (n_groups, *values.shape[1:])
    moments = Moments(n.astype(np.int64).reshape(shape), mean.reshape(shape), var.reshape(shape))
    return moments, residuals.reshape(values.shape)


def moments_of(values: ArrayLike) -> Moments:
    """Compute the moments of one group (arrays of shape ()); NaN values are left out."""
    flat = np.asarray(values, dtype=np.float64).ravel()
    return compute_moments(flat, np.zeros(len(flat), dtype=np.int64), 1).at(0)


def compute_welch(base: Moments, cat: Moments) -> Welch:
    """Compare categories with their baselines by Welch's t (category minus baseline).

    On persona scores of a balanced run this equals the group test of a mixed model with crossed
    random personas and traits, and the HC2 regression on persona means.

    Args:
        base: Moments of the baselines.
        cat: Moments of the categories, broadcastable against `base`.

    Returns:
        Estimates in rating points. Two constant groups have se 0 and no test; a group of one has a
        delta only; an empty group has nothing.
    """
    shape = np.broadcast_shapes(base.n.shape, cat.n.shape)
    n_base, n_cat = np.broadcast_to(base.n, shape), np.broadcast_to(cat.n, shape)
    delta = np.asarray(cat.mean - base.mean)
    part_base, part_cat = base.var / np.maximum(base.n, 1), cat.var / np.maximum(cat.n, 1)
    se = np.asarray(np.sqrt(part_base + part_cat))
    testable = se > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = part_base**2 / (base.n - 1) + part_cat**2 / (cat.n - 1)
        df = np.where(testable, (part_base + part_cat) ** 2 / spread, np.nan)
        t = np.where(testable, delta / se, np.nan)
    reach, reach90 = se * t_quantile(df, CONFIDENCE), se * t_quantile(df, EQUIVALENCE_CONFIDENCE)
    smallest = np.minimum(n_base, n_cat)
    status = np.select(
        [smallest == 0, smallest < 2, se == 0, smallest < LOW_N],
        ["no_data", "n_lt_2", "zero_variance", "low_n"],
        default="ok",
    )
    return Welch(
        n_base=n_base,
        n_cat=n_cat,
        delta=delta,
        se=se,
        df=df,
        t=t,
        p_value=t_two_sided(t, df),
        ci_low=delta - reach,
        ci_high=delta + reach,
        ci90_low=delta - reach90,
        ci90_high=delta + reach90,
        status=status,
    )


def compute_hedges_g(base: Moments, cat: Moments) -> StandardisedDifference:
    """Standardise deltas by the pooled SD, with the small-sample factor 1 - 3 / (4 df - 1).

    As `effectsize_smd` of statsmodels (Hedges & Olkin), interval from the normal quantile. The SD
    of persona scores shrinks with more traits, so g does not compare between trait lists.

    Returns:
        NaN below two personas in a group or if both groups are constant.
    """
    total = base.n + cat.n
    valid = (base.n > 1) & (cat.n > 1) & (base.var + cat.var > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        pooled = ((base.n - 1) * base.var + (cat.n - 1) * cat.var) / (total - 2)
        g = (1 - 3 / (4 * total - 9)) * (cat.mean - base.mean) / np.sqrt(pooled)
        var = total / base.n / cat.n + g**2 / 2 / (total - 3.94)
    g, var = np.where(valid, g, np.nan), np.where(valid, var, np.nan)
    reach = scipy.special.ndtri((1 + CONFIDENCE) / 2) * np.sqrt(var)
    return StandardisedDifference(g=g, var=var, ci_low=g - reach, ci_high=g + reach)


class Comparison(Protocol):
    """What equivalence is read from: arrays of one shape, NaN = undefined."""

    @property
    def delta(self) -> FloatArray:
        """Category minus baseline."""

    @property
    def se(self) -> FloatArray:
        """Standard error."""

    @property
    def df(self) -> FloatArray:
        """Degrees of freedom of the interval."""


def compute_equivalence(compared: Comparison, margin: float = DEFAULT_SESOI) -> Equivalence:
    """Test whether deltas lie within +-margin (TOST with the standard error of the interval).

    Args:
        compared: Comparisons.
        margin: Smallest effect size of interest, rating points, > 0.

    Returns:
        p below alpha = equivalent, which is the same as the 90 % interval lying within the margin
        for alpha .05; NaN wherever `compared` has no interval.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        p_low = scipy.special.stdtr(compared.df, -(compared.delta + margin) / compared.se)
        p_high = scipy.special.stdtr(compared.df, (compared.delta - margin) / compared.se)
    return Equivalence(p_low=p_low, p_high=p_high, p_value=np.maximum(p_low, p_high))


def judge(significant: bool | None, p_equivalence: float | None, alpha: float) -> Verdict | None:
    """Summarise a delta in one word.

    Args:
        significant: Whether the corrected test rejects "no difference".
        p_equivalence: p of `compute_equivalence`; None without an interval, as between two groups
            that are constant: nothing is then shown to be smaller than what matters.
        alpha: Level of the equivalence test.

    Returns:
        `biased` (significant), `negligible` (significant but smaller than what matters),
        `equivalent` (smaller than what matters), `inconclusive`; None without a test.
    """
    if significant is None:
        return None
    if p_equivalence is not None and p_equivalence < alpha:
        return "negligible" if significant else "equivalent"
    return "biased" if significant else "inconclusive"


def compute_q_values(
    p_values: Sequence[float | None] | FloatArray, method: FdrMethod = "bh"
) -> FloatArray:
    """Adjust the p-values of one family for the false discovery rate.

    Args:
        p_values: p of all tests of the family; None or NaN = no test, which is not counted.
        method: `bh` (Benjamini-Hochberg) or `by` (Benjamini-Yekutieli, any dependence).

    Returns:
        q in the same order, p <= q <= 1; NaN where there was no test.
    """
    p = np.array(p_values, dtype=np.float64)
    tested = np.isfinite(p)
    q = np.full(p.shape, np.nan)
    if tested.any():
        q[tested] = scipy.stats.false_discovery_control(p[tested], method=method)
    return q


def t_two_sided(t: ArrayLike, df: ArrayLike) -> FloatArray:
    """Two-sided p of Student's t; NaN where an argument is."""
    return np.asarray(2 * scipy.special.stdtr(df, -np.abs(t)), dtype=np.float64)


def t_quantile(df: ArrayLike, confidence: float) -> FloatArray:
    """Half-width of a two-sided t interval in standard errors; NaN where df is."""
    return np.asarray(-scipy.special.stdtrit(df, (1 - confidence) / 2), dtype=np.float64)


def is_significant(q_value: float | None, alpha: float) -> bool | None:
    """Whether a corrected test rejects; None without a test."""
    return None if q_value is None else q_value < alpha
