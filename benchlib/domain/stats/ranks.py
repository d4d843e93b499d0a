"""Rank statistics from histograms: Mann-Whitney, Cliff's delta, Kruskal-Wallis.

A histogram of one trait holds every persona once, so these tests treat personas, not answers, as
independent. Do not pass histograms pooled over traits; `compute_stratified_cliffs` gives one
Cliff's delta over several traits.
"""

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike

from benchlib.domain.arrays import FloatArray, IntArray
from benchlib.domain.stats.welch import CONFIDENCE, t_quantile, t_two_sided


@dataclass(frozen=True, slots=True, eq=False)
class MannWhitney:
    """Mann-Whitney U of the category and its two-sided p; NaN if a group is empty."""

    u_cat: FloatArray
    p_value: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class CliffsDelta:
    """Cliff's delta P(cat > base) - P(cat < base); arrays of one shape, NaN = undefined.

    Attributes:
        delta: -1..1, above 0 if the category is rated higher; NaN if a group is empty.
        se: Standard error of `delta`; 0 at complete separation and if all answers are equal.
        df: Satterthwaite degrees of freedom.
        ci_low: Lower end of the 95 % t interval, cut at -1; NaN without a test.
        ci_high: Upper end, cut at 1.
        p_value: Two-sided; NaN below two personas in a group and where se is 0.
    """

    delta: FloatArray
    se: FloatArray
    df: FloatArray
    ci_low: FloatArray
    ci_high: FloatArray
    p_value: FloatArray

    @property
    def prob_superior(self) -> FloatArray:
        """P(cat > base) + P(cat = base) / 2, 0..1."""
        return (self.delta + 1) / 2


@dataclass(frozen=True, slots=True)
class KruskalWallis:
    """Kruskal-Wallis test with tie correction; None = undefined.

    Attributes:
        h: Test statistic.
        df: Groups - 1.
        p_value: From chi-square.
        eta2: (H - k + 1) / (n - k), not cut at 0.
        epsilon2: H / (n - 1), 0..1.
        n_groups: Groups with a value, k.
        n: Values.
    """

    h: float | None
    df: int | None
    p_value: float | None
    eta2: float | None
    epsilon2: float | None
    n_groups: int
    n: int


def compute_mann_whitney(
    counts_base: ArrayLike, counts_cat: ArrayLike, *, continuity: bool = True
) -> MannWhitney:
    """Compute the asymptotic Mann-Whitney test from histograms, as `scipy.stats.mannwhitneyu`.

    Args:
        counts_base: (..., K) answers of the baseline per point of the scale.
        counts_cat: (..., K) answers of the category.
        continuity: Whether to shrink |U - mean| by one half.

    Returns:
        U counts pairs in which the category is higher, ties half. p is 1 if all answers are equal.
    """
    base = np.asarray(counts_base, dtype=np.float64)
    cat = np.asarray(counts_cat, dtype=np.float64)
    n_base, n_cat, ties = base.sum(axis=-1), cat.sum(axis=-1), base + cat
    n = n_base + n_cat
    u_cat = (cat * placements(base)).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        excess = (ties**3 - ties).sum(axis=-1) / (n * (n - 1))
        sd = np.sqrt(np.maximum(n_base * n_cat / 12 * (n + 1 - excess), 0))
        away = np.abs(u_cat - n_base * n_cat / 2) - (0.5 if continuity else 0.0)
        p_value = np.where(sd > 0, np.minimum(2 * scipy.special.ndtr(-away / sd), 1), 1.0)
    defined = (n_base > 0) & (n_cat > 0)
    return MannWhitney(
        u_cat=np.where(defined, u_cat, np.nan), p_value=np.where(defined, p_value, np.nan)
    )


def compute_cliffs_delta(counts_base: ArrayLike, counts_cat: ArrayLike) -> CliffsDelta:
    """Compute Cliff's delta with the Brunner-Munzel interval from histograms.

    Equals `rank_compare_2ordinal` of statsmodels on the probability of superiority, rescaled.

    Args:
        counts_base: (..., K) answers of the baseline per point of the scale.
        counts_cat: (..., K) answers of the category.
    """
    base = np.asarray(counts_base, dtype=np.float64)
    cat = np.asarray(counts_cat, dtype=np.float64)
    n_base, n_cat = base.sum(axis=-1), cat.sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        above = 2 * placements(base) / n_base[..., None] - 1
        below = 1 - 2 * placements(cat) / n_cat[..., None]
        delta = (cat * above).sum(axis=-1) / n_cat
        var_cat = (cat * (above - delta[..., None]) ** 2).sum(axis=-1) / (n_cat - 1)
        var_base = (base * (below - delta[..., None]) ** 2).sum(axis=-1) / (n_base - 1)
    empty = (n_base == 0) | (n_cat == 0)
    return cliffs_from_parts(np.where(empty, np.nan, delta), var_base, var_cat, n_base, n_cat)


def rank_levels(values: FloatArray) -> IntArray:
    """Number the distinct values in ascending order, to rank any part of them without sorting.

    Args:
        values: (n,) numbers; equal to ten decimals is a tie.

    Returns:
        (n,) level of each value, 0 the lowest.
    """
    return np.asarray(np.unique(np.round(values, 10), return_inverse=True)[1], dtype=np.int64)


def compute_kruskal_levels(levels: IntArray, codes: IntArray, n_groups: int) -> KruskalWallis:
    """Compute Kruskal-Wallis from the levels of `rank_levels`.

    Args:
        levels: (n,) level of each persona.
        codes: (n,) group of each persona; negative = in none.
        n_groups: Number of groups; empty ones are left out.
    """
    member = codes >= 0
    if not member.all():
        levels, codes = levels[member], codes[member]
    ties = np.bincount(levels, minlength=1).astype(np.float64)
    midranks = np.cumsum(ties) - ties + (ties + 1) / 2
    return _kruskal(
        np.bincount(codes, weights=midranks[levels], minlength=n_groups).astype(np.float64),
        np.bincount(codes, minlength=n_groups).astype(np.float64),
        float((ties**3 - ties).sum()),
    )


def placements(counts: FloatArray | IntArray) -> FloatArray:
    """Answers below each point of the scale plus half of those on it."""
    return np.asarray(np.cumsum(counts, axis=-1) - counts / 2, dtype=np.float64)


def influence_variance(influence: FloatArray, bins: IntArray) -> float:
    """Variance over personas of the summed influence of their ratings."""
    if len(bins) < 2:
        return float("nan")
    return float(influence.ravel().take(bins).sum(axis=1).var(ddof=1))


def cliffs_from_parts(
    delta: FloatArray,
    var_base: FloatArray,
    var_cat: FloatArray,
    n_base: FloatArray,
    n_cat: FloatArray,
) -> CliffsDelta:
    """Cliff's deltas with t intervals, from the variances of two independent groups."""
    with np.errstate(divide="ignore", invalid="ignore"):
        part_base, part_cat = var_base / n_base, var_cat / n_cat
        total = part_base + part_cat
        defined = (n_base > 1) & (n_cat > 1) & np.isfinite(total)
        se = np.where(defined, np.sqrt(total), np.nan)
        se = np.where(se < 1e-12, 0.0, se)
        df = total**2 / (part_base**2 / (n_base - 1) + part_cat**2 / (n_cat - 1))
        df = np.where(se > 0, df, np.nan)
        p_value = t_two_sided(delta / se, df)
    reach = se * t_quantile(df, CONFIDENCE)
    return CliffsDelta(
        delta=delta,
        se=se,
        df=df,
        ci_low=np.maximum(delta - reach, -1.0),
        ci_high=np.minimum(delta + reach, 1.0),
        p_value=p_value,
    )


def _kruskal(rank_sums: FloatArray, sizes: FloatArray, tie_excess: float) -> KruskalWallis:
    used = sizes > 0
    k, n = int(used.sum()), int(sizes.sum())
    correction = 1 - tie_excess / (n**3 - n) if n > 1 else 0.0
    if k < 2 or correction <= 0:
        return KruskalWallis(None, None, None, None, None, k, n)
    spread = float((rank_sums[used] ** 2 / sizes[used]).sum())
    h = (12 / (n * (n + 1)) * spread - 3 * (n + 1)) / correction
    return KruskalWallis(
        h=h,
        df=k - 1,
        p_value=float(scipy.special.chdtrc(k - 1, max(h, 0.0))),
        eta2=(h - k + 1) / (n - k) if n > k else None,
        epsilon2=h / (n - 1),
        n_groups=k,
        n=n,
    )
