"""Compare two groups of personas where groups are small or ratings hardly vary.

Welch's t holds for groups of 30 with some spread. In smaller groups that happen to be (nearly)
constant its standard error is next to 0, and it flags rows in most runs without any effect. There
p is the larger of two: Welch's with variances kept away from 0, which guards against unequal
spread, and a permutation of the mean difference, which guards against constancy and skew.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchlib.domain.arrays import BoolArray, FloatArray, IntArray
from benchlib.domain.stats.mean_permutation import compute_mean_permutation
from benchlib.domain.stats.welch import (
    CONFIDENCE,
    EQUIVALENCE_CONFIDENCE,
    LOW_N,
    Moments,
    compute_moments,
    t_quantile,
    t_two_sided,
)

LARGE_GROUP: Final = 30
"""From so many personas on, Welch's test stands alone if the group's variance is not tiny."""

TINY_VARIANCE: Final = 0.1
"""A variance below this share of the pooled one calls for the permutation."""

PRIOR_DF: Final = 4
"""Personas' worth of pooled variance mixed into the variance of a small group."""

PRECISE_BELOW: Final = 0.2
"""With a larger Welch p the permutation p decides nothing and is a normal approximation."""


@dataclass(frozen=True, slots=True, eq=False)
class TwoGroups:
    """Comparisons of categories with their baseline; arrays (G,) or (G, R), NaN = undefined.

    Attributes:
        n_base: Personas in the baseline.
        n_cat: Personas in the category.
        delta: mean(category) - mean(baseline).
        se: Standard error with floored variances.
        df: Satterthwaite degrees of freedom.
        t: delta / se.
        p_value: Two-sided p that feeds q and verdict.
        p_welch: Two-sided p of t; NaN where se is 0.
        p_perm: Permutation p; NaN where Welch's test stands alone.
        perm_exact: Whether `p_perm` counts all assignments.
        ci_low: Lower end of the 95 % t interval.
        ci_high: Upper end.
        ci90_low: Lower end of the 90 % interval, the one equivalence is read from.
        ci90_high: Upper end.
        status: See `Status`; `constant_group` where the floor or the permutation acts because
            a group is constant, `zero_variance` where all values of both groups are equal.
    """

    n_base: IntArray
    n_cat: IntArray
    delta: FloatArray
    se: FloatArray
    df: FloatArray
    t: FloatArray
    p_value: FloatArray
    p_welch: FloatArray
    p_perm: FloatArray
    perm_exact: BoolArray
    ci_low: FloatArray
    ci_high: FloatArray
    ci90_low: FloatArray
    ci90_high: FloatArray
    status: NDArray[np.str_]

    def at(self, index: int) -> "TwoGroups":
        """One group, along the first axis."""
        return self._each(lambda values: values[index])

    def column(self, index: int) -> "TwoGroups":
        """One place of the last axis."""
        return self._each(lambda values: values[..., index])

    def without(self, incomparable: BoolArray) -> "TwoGroups":
        """Blank comparisons, marked in the shape of the arrays, that the ratings do not allow.

        Those with ratings in both groups get the status `not_comparable`.
        """
        if not incomparable.any():
            return self
        numbers = {
            field.name: np.where(incomparable, np.nan, values)
            for field in fields(self)
            if (values := getattr(self, field.name)).dtype == np.float64
        }
        rated = (self.n_base > 0) & (self.n_cat > 0)
        return replace(
            self,
            **numbers,
            perm_exact=self.perm_exact & ~incomparable,
            status=np.where(incomparable & rated, "not_comparable", self.status),
        )

    def _each(self, pick: Callable[[NDArray[Any]], NDArray[Any]]) -> "TwoGroups":
        picked = {field.name: np.asarray(pick(getattr(self, field.name))) for field in fields(self)}
        return TwoGroups(**picked)


def compute_pooled_variance(moments: Moments) -> FloatArray:
    """Within-group variance of all groups together, weighted by n - 1.

    Args:
        moments: (G,) or (G, R) moments of all groups that are tested.

    Returns:
        () or (R,); NaN if no group has two values.
    """
    weight = np.maximum(moments.n - 1, 0)
    total = np.where(weight > 0, weight * np.nan_to_num(moments.var), 0.0).sum(axis=0)
    df = weight.sum(axis=0)
    return np.where(df > 0, total / np.maximum(df, 1), np.nan)


def floor_variance(moments: Moments, pooled: FloatArray) -> FloatArray:
    """Keep the variances of groups under 30 personas away from 0.

    max(s2, (4 pooled + (n - 1) s2) / (3 + n)): a small group is never taken for more uniform than
    its own variance mixed with the pooled one; a larger variance stays.

    Returns:
        In the shape of the moments; larger groups as they are, NaN below two values.
    """
    df = np.maximum(moments.n - 1, 0)
    mixed = (PRIOR_DF * pooled + df * moments.var) / (PRIOR_DF + df)
    floored = np.where(moments.n < LARGE_GROUP, np.fmax(moments.var, mixed), moments.var)
    return np.where(moments.n > 1, floored, np.nan)


def compute_two_groups(
    values: FloatArray, codes: IntArray, n_groups: int, base: int, moments: Moments | None = None
) -> TwoGroups:
    """Compare every group with the baseline, in all columns at once.

    p is Welch's where both groups have `LARGE_GROUP` personas and neither variance is below
    `TINY_VARIANCE` of the pooled one. Elsewhere it is the larger of Welch's p with floored
    variances and the permutation p of the plain mean difference, personas being shuffled within
    the two groups only. Where nothing varies within either group the permutation stands alone: a
    rater without any noise still gets a verdict.

    In 600 simulated runs each without an effect, one-sided ratings with modal share 45 to 90 %,
    groups 120/6 to 300/29: false flags 0 to .04 (Welch alone up to .64), coverage .957 to 1.

    Args:
        values: (P,) or (P, R), one number per persona, or per persona and panel; NaN = missing.
        codes: (P,) group of each persona; negative = takes no part, not even in the pooled spread.
        n_groups: Number of groups G.
        base: The baseline; negative = none, so nothing is tested.
        moments: `compute_moments` of these values, if already known; it may also describe groups
            without a code, which are not tested.

    Returns:
        (G,) or (G, R); the baseline's own row has no test. A group of one has a delta only.
    """
    if moments is None:
        moments = compute_moments(values, codes, n_groups)
    table = values[:, None] if values.ndim == 1 else values
    shape = moments.n.shape
    takes_part = np.isin(np.arange(n_groups), codes)
    pooled = compute_pooled_variance(moments.at(np.flatnonzero(takes_part)))
    here = moments.at(base)
    n_base, n_cat = np.broadcast_to(here.n, shape), moments.n
    delta = np.asarray(moments.mean - here.mean)
    smallest = np.minimum(n_base, n_cat)
    takes_part[base if base >= 0 else []] = False
    tested = (smallest > 1) & takes_part.reshape(-1, *(1 for _ in shape[1:]))
    uniform = (moments.var == 0) & (here.var == 0) & (np.abs(delta) <= 1e-9)
    constant = (moments.var == 0) | (here.var == 0)
    thin = constant | (np.fmin(moments.var, here.var) < TINY_VARIANCE * pooled)
    joined = tested & ~uniform & ((smallest < LARGE_GROUP) | thin)
    se, df = _standard_error(moments, base, pooled, joined)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(tested & (se > 0), delta / se, np.nan)
    p_welch = t_two_sided(t, df)
    p_perm, exact = _permute(table, codes, base, joined, p_welch, moments)
    p_value = np.where(joined, np.fmax(p_welch, p_perm), p_welch)
    status = np.select(
        [smallest == 0, smallest < 2, uniform, joined & constant, smallest < LOW_N],
        ["no_data", "n_lt_2", "zero_variance", "constant_group", "low_n"],
        default="ok",
    )
    p_value[uniform] = np.nan
    reach, reach90 = se * t_quantile(df, CONFIDENCE), se * t_quantile(df, EQUIVALENCE_CONFIDENCE)
    return TwoGroups(
        n_base=n_base,
        n_cat=n_cat,
        delta=delta,
        se=se,
        df=df,
        t=t,
        p_value=p_value,
        p_welch=p_welch,
        p_perm=p_perm,
        perm_exact=exact,
        ci_low=delta - reach,
        ci_high=delta + reach,
        ci90_low=delta - reach90,
        ci90_high=delta + reach90,
        status=status,
    )


def _standard_error(
    moments: Moments, base: int, pooled: FloatArray, joined: BoolArray
) -> tuple[FloatArray, FloatArray]:
    """Welch's standard error and df with floored variances; where `joined`, not below Student's.

    Student's, from the variance of the two groups together, goes with the permutation: where a
    small group shows little of the spread by chance, an interval by its own variance would be too
    short. The one with the wider 95 % interval is taken.
    """
    floored = floor_variance(moments, pooled)
    here = moments.at(base)
    base_var = floored[base] if base >= 0 else np.full(here.n.shape, np.nan)
    n, m = here.n, moments.n
    part_base, part_cat = base_var / np.maximum(n, 1), floored / np.maximum(m, 1)
    square = part_base + part_cat
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = part_base**2 / (n - 1) + part_cat**2 / (m - 1)
        df = np.where(square > 0, square**2 / spread, np.nan)
        both = ((n - 1) * here.var + (m - 1) * moments.var) / (n + m - 2)
        student = np.sqrt(both * (1 / n + 1 / m))
        se = np.sqrt(square)
        wider = joined & (
            student * t_quantile(n + m - 2.0, CONFIDENCE) > se * t_quantile(df, CONFIDENCE)
        )
    return np.where(wider, student, se), np.where(wider, n + m - 2.0, df)


def _permute(
    table: FloatArray,
    codes: IntArray,
    base: int,
    joined: BoolArray,
    p_welch: FloatArray,
    moments: Moments,
) -> tuple[FloatArray, BoolArray]:
    """Permutation p where `joined`; by a normal approximation where Welch's p is large anyway."""
    p_perm, exact = np.full(joined.shape, np.nan), np.zeros(joined.shape, dtype=bool)
    if not joined.any():
        return p_perm, exact
    rough = joined & (p_welch >= PRECISE_BELOW)
    p_perm[rough] = _normal_p(moments, base)[rough]
    precise = joined & ~rough
    flat = precise.reshape(len(precise), -1)
    p_flat, exact_flat = p_perm.reshape(flat.shape), exact.reshape(flat.shape)
    base_rows = np.flatnonzero(codes == base)
    for group in np.flatnonzero(flat.any(axis=1)).tolist():
        columns = np.flatnonzero(flat[group])
        cat_rows = np.flatnonzero(codes == group)
        found = compute_mean_permutation(
            table[np.ix_(base_rows, columns)], table[np.ix_(cat_rows, columns)]
        )
        p_flat[group, columns], exact_flat[group, columns] = found.p_value, found.exact
    return p_flat.reshape(joined.shape), exact_flat.reshape(joined.shape)


def _normal_p(moments: Moments, base: int) -> FloatArray:
    """Permutation p by its first two moments: z = delta / sqrt(S2 (1 / n + 1 / m))."""
    here = moments.at(base)
    n, m = here.n, moments.n
    delta = moments.mean - here.mean
    with np.errstate(divide="ignore", invalid="ignore"):
        between = n * m / (n + m) * delta**2
        within = (n - 1) * here.var + (m - 1) * moments.var
        square = (between + within) / (n + m - 1)
        z = np.abs(delta) / np.sqrt(square * (1 / n + 1 / m))
    return t_two_sided(z, np.inf)
