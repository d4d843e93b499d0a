"""Does an attribute matter at all: Brown and Forsythe's F*, and how far its categories lie apart.

Welch's ANOVA weights categories by the inverse of their variance, which in small categories is
luck: it flags most attributes with many categories of three. F* weights by size only.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy

from benchlib.domain.arrays import FloatArray, IntArray
from benchlib.domain.stats.welch import CONFIDENCE, Moments

MIN_LARGEST_GROUP: Final = 3
"""Without a group of so many personas there is no test."""

_HALVINGS = 60


@dataclass(frozen=True, slots=True, eq=False)
class BrownForsythe:
    """Tests of whole attributes; arrays over panels, NaN = undefined.

    Attributes:
        n_groups: Groups with two or more values; only these take part.
        f: F*, >= 0.
        df1: Numerator degrees of freedom after Mehrotra (1997), 1..groups - 1.
        df2: Denominator degrees of freedom.
        p_value: Upper tail.
        variance_between: Variance of the true group means, squared units, every group counting
            once; may be negative.
        variance_low: Lower end of its 95 % interval, >= 0.
        variance_high: Upper end, >= 0.
        sd_between: Root of `variance_between`, cut at 0: the bias index.
        sd_low: Lower end of its 95 % interval.
        sd_high: Upper end.
    """

    n_groups: IntArray
    f: FloatArray
    df1: FloatArray
    df2: FloatArray
    p_value: FloatArray
    variance_between: FloatArray
    variance_low: FloatArray
    variance_high: FloatArray
    sd_between: FloatArray
    sd_low: FloatArray
    sd_high: FloatArray


def compute_brown_forsythe(moments: Moments) -> BrownForsythe:
    """Test whether any group differs, under unequal variances and sizes.

    F* = sum n (m - mean)^2 / sum (1 - n / N) s2, with Mehrotra's numerator df; equals
    `anova_oneway(use_var="bf")` of statsmodels. A constant group takes part with variance 0.

    variance_between = [sum (m - mean of means)^2 - (1 - 1/k) sum s2 / n] / (k - 1) is unbiased
    under unequal variances. Its interval inverts the noncentral F of the same sums of squares,
    with Box's degrees of freedom.

    Args:
        moments: (G,) or (G, R) moments; groups below two values are left out.

    Returns:
        () or (R,); NaN with fewer than two groups, where all groups have fewer than
        `MIN_LARGEST_GROUP` values, or where nothing varies within the groups (there
        `variance_between` alone remains).
    """
    used = moments.n > 1
    n = np.where(used, moments.n, 0).astype(np.float64)
    mean, var = np.where(used, moments.mean, 0.0), np.where(used, moments.var, 0.0)
    k, total = used.sum(axis=0), n.sum(axis=0)
    share = n / np.maximum(total, 1)
    centre = (share * mean).sum(axis=0)
    between = (n * (mean - centre) ** 2).sum(axis=0)
    parts = (1 - share) * var
    within = parts.sum(axis=0)
    testable = (k > 1) & (n.max(axis=0, initial=0) >= MIN_LARGEST_GROUP) & (within > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        f = np.where(testable, between / within, np.nan)
        df2 = np.where(testable, within**2 / (parts**2 / np.maximum(n - 1, 1)).sum(axis=0), np.nan)
        square = (var**2).sum(axis=0) + (share * var).sum(axis=0) ** 2
        df1 = np.where(testable, within**2 / (square - 2 * (share * var**2).sum(axis=0)), np.nan)
    variance, low, high = _between(k, n, mean, var, testable)
    return BrownForsythe(
        n_groups=np.asarray(k, dtype=np.int64),
        f=f,
        df1=df1,
        df2=df2,
        p_value=np.asarray(scipy.special.fdtrc(df1, df2, f)),
        variance_between=variance,
        variance_low=low,
        variance_high=high,
        sd_between=np.sqrt(np.maximum(variance, 0.0)),
        sd_low=np.sqrt(low),
        sd_high=np.sqrt(high),
    )


def _between(
    k: IntArray, n: FloatArray, mean: FloatArray, var: FloatArray, testable: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Variance of the true group means, unweighted, and the ends of its interval."""
    used = n > 0
    error = np.where(used, var / np.maximum(n, 1), 0.0)
    n_groups = np.maximum(k, 1)
    middle = mean.sum(axis=0) / n_groups
    spread = np.where(used, (mean - middle) ** 2, 0.0).sum(axis=0)
    mean_error = error.sum(axis=0) / n_groups
    # E s4 = (n + 1) / (n - 1) sigma4: uncorrected, small groups would lose half of their df
    squares = error**2 * np.maximum(n - 1, 0) / (n + 1)
    defined = k > 1
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.where(defined, spread / (k - 1) - mean_error, np.nan)
        # The k means, centred, with error variances e: sum of squares with (tr A)^2 / tr A^2 df
        trace = (k - 1) * mean_error
        trace_square = squares.sum(axis=0) * (1 - 2 / n_groups) + mean_error**2
        df1 = np.where(testable, np.minimum(k - 1, trace**2 / trace_square), np.nan)
        df2 = error.sum(axis=0) ** 2 / (squares / np.maximum(n - 1, 1)).sum(axis=0)
        df2 = np.where(testable, df2, np.nan)
        ratio = np.where(testable, spread / trace, np.nan)
    tail = (1 - CONFIDENCE) / 2
    scale = mean_error / np.where(testable, df1, 1.0)
    low = _noncentrality(1 - tail, df1, df2, ratio) * scale
    high = _noncentrality(tail, df1, df2, ratio) * scale
    return np.asarray(variance), low, high


def _noncentrality(level: float, df1: FloatArray, df2: FloatArray, ratio: FloatArray) -> FloatArray:
    """The noncentrality with which F falls below `ratio` with probability `level`, at least 0."""
    low = np.zeros_like(ratio)
    high = np.where(np.isfinite(ratio), 4 * df1 * np.maximum(ratio, 1.0) + 50, np.nan)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        below = scipy.special.ncfdtr(df1, df2, middle, ratio)
        rises = below > level  # falls as the noncentrality grows
        low, high = np.where(rises, middle, low), np.where(rises, high, middle)
    found = (low + high) / 2
    return np.where(np.isfinite(ratio), np.where(found < 1e-9, 0.0, found), np.nan)
