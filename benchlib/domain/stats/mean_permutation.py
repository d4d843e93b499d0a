"""Permutation p of the difference of two group means, without draws and so without a floor.

A permutation test holds for any statistic that is computed from the shuffled values alone. So the
values are put on a grid that the pooled values determine: the grid they lie on anyway (digits,
halves, shares of questions), else one that is fine against their spread. The tail of the rounded
statistic is then counted exactly where that is cheap, and taken from a saddlepoint elsewhere.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import scipy

from benchlib.domain.arrays import BoolArray, FloatArray, IntArray

EXACT_BUDGET: Final = 2_000_000
"""Additions up to which the exact distribution is counted; about a hundredth of a second."""

_STEPS_PER_SD: Final = (200, 20)
"""Grids for values that lie on none, finest first; the last adds 0.02 % to the variance."""

_FINE_BUDGET: Final = 300_000
"""Additions up to which the exact distribution is counted on these grids."""

_COARSE_STEPS_PER_SD: Final = 8
"""Grid for groups too small for a saddlepoint, beyond that budget: 0.13 %."""

SADDLEPOINT_MIN: Final = 8
"""Smallest group for which a saddlepoint is good to a few per cent of p."""

_MOST_STEPS: Final = 400
_ROUNDING: Final = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class MeanPermutation:
    """Two-sided permutation p of mean differences; arrays of one shape.

    Attributes:
        p_value: Share of the assignments of all values to the two groups whose absolute mean
            difference is at least the observed one; NaN where a group is empty.
        exact: Whether all assignments were counted; False for a saddlepoint tail.
    """

    p_value: FloatArray
    exact: BoolArray


@dataclass(frozen=True, slots=True, eq=False)
class _Draws:
    """Drawing m values without replacement: whole-numbered offsets from the most frequent value.

    Attributes:
        offsets: (K,) distinct offsets, the 0 of the most frequent value first.
        counts: (K,) values at each offset.
        m: Values drawn: the size of the smaller group.
        total: Sum of the drawn offsets that was observed.
        exact: False where a saddlepoint is good enough and quicker.
    """

    offsets: IntArray
    counts: IntArray
    m: int
    total: int
    exact: bool = True

    @property
    def n(self) -> int:
        return int(self.counts.sum())

    @property
    def most(self) -> int:
        """How many drawn values can differ from the most frequent one."""
        return min(self.m, self.n - int(self.counts[0]))

    @property
    def cost(self) -> int:
        """Additions that the exact count takes, roughly."""
        rest = np.minimum(self.counts[1:], self.most)
        return int(self.most**2 * np.ptp(self.offsets) * rest.sum())


def compute_mean_permutation(base: FloatArray, cat: FloatArray) -> MeanPermutation:
    """Test by permutation whether two groups have the same mean, row by row.

    Exact (Streitberg & Roehmel's shift algorithm around the most frequent value) up to
    `EXACT_BUDGET`, which nearly constant ratings meet at any size, digits up to 30 personas in the
    smaller group, and any values in groups below 8; else Skovgaard's double saddlepoint tail with
    continuity correction, mostly within 2 %, at worst 10 % of p, from 8
    personas on. Draws would need 20 for
    every test of the family to get below a Benjamini-Hochberg threshold: 46,000 for a forest of
    2,300 rows, a tenth of a second for each row, where these take about a millisecond.

    Args:
        base: (n, R) values of the baseline's personas, one column per test; NaN = missing.
        cat: (m, R) values of the category's personas.

    Returns:
        (R,) results; 1 where all values are equal.
    """
    n_rows = base.shape[1]
    p_value, exact = np.full(n_rows, np.nan), np.zeros(n_rows, dtype=bool)
    waiting: list[_Draws] = []
    rows: list[int] = []
    for row in range(n_rows):
        first, second = base[:, row], cat[:, row]
        first, second = first[~np.isnan(first)], second[~np.isnan(second)]
        if min(len(first), len(second)) == 0:
            continue
        draws = _put_on_grid(first, second)
        if draws is None:
            p_value[row], exact[row] = 1.0, True
        elif draws.exact and draws.cost <= EXACT_BUDGET:
            p_value[row], exact[row] = _count_tail(draws), True
        else:
            waiting.append(draws)
            rows.append(row)
    if waiting:
        p_value[rows] = _saddlepoint_tails(waiting)
    return MeanPermutation(p_value, exact)


def _put_on_grid(first: FloatArray, second: FloatArray) -> _Draws | None:
    """Round the values to a grid; None if they are all equal."""
    pooled = np.concatenate([first, second])
    few = second if len(second) <= len(first) else first
    start = pooled.min()
    span = float(pooled.max() - start)
    if span <= _ROUNDING:
        return None
    levels = np.unique(np.rint((pooled - start) / _ROUNDING)) * _ROUNDING
    step = float(np.diff(levels).min())
    if span <= _MOST_STEPS * step and _is_whole(levels / step):
        return _to_draws(pooled, few, start, step)
    sd, middle = float(pooled.std()), float(np.median(pooled))
    for steps in _STEPS_PER_SD:
        draws = _to_draws(pooled, few, middle, sd / steps)
        if draws.cost <= _FINE_BUDGET:
            return draws
    if draws.m < SADDLEPOINT_MIN:
        return _to_draws(pooled, few, middle, sd / _COARSE_STEPS_PER_SD)
    return replace(draws, exact=False)


def _is_whole(values: FloatArray) -> bool:
    return bool((np.abs(values - np.rint(values)) < 1e-6).all())


def _to_draws(pooled: FloatArray, few: FloatArray, anchor: float, step: float) -> _Draws:
    whole = np.rint((pooled - anchor) / step).astype(np.int64)
    low = int(whole.min())
    counts = np.bincount(whole - low)
    mode = int(counts.argmax())
    points = np.flatnonzero(counts)
    points = np.concatenate([[mode], points[points != mode]])
    drawn = int(np.rint((few - anchor) / step).astype(np.int64).sum()) - len(few) * (low + mode)
    offsets = points - mode
    common = max(1, int(np.gcd.reduce(offsets)))
    return _Draws(offsets // common, counts[points], len(few), drawn // common)


def _extremes(draws: _Draws) -> tuple[int, int]:
    """Sums up to the first and from the second on are at least as far out as observed."""
    middle = draws.m * int(draws.offsets @ draws.counts)  # times n, to stay in whole numbers
    reach = abs(draws.n * draws.total - middle)
    return (middle - reach) // draws.n, -((-middle - reach) // draws.n)


def _count_tail(draws: _Draws) -> float:
    """Build the distribution of (values drawn, their sum) offset by offset, then add the tails."""
    below, above = _extremes(draws)
    if above <= below:
        return 1.0
    most, share = draws.most, draws.m / draws.n
    left = most * max(0, -int(draws.offsets.min()))
    right = most * max(0, int(draws.offsets.max()))
    ways = np.zeros((most + 1, left + right + 1))
    ways[0, left] = 1.0
    drawn, low, high = 0, left, left  # what is filled so far
    for offset, count in zip(draws.offsets[1:].tolist(), draws.counts[1:].tolist(), strict=True):
        picks = np.arange(min(count, most) + 1)
        weights = np.exp(_log_binomial(picks, count, share)).tolist()
        filled = ways[: drawn + 1, low : high + 1].copy()
        ways[: drawn + 1, low : high + 1] *= weights[0]
        for pick, weight in enumerate(weights[1:], start=1):
            fit = min(drawn, most - pick) + 1
            at = low + pick * offset
            begin, end = max(at, 0), min(at + filled.shape[1], ways.shape[1])
            ways[pick : pick + fit, begin:end] += weight * filled[:fit, begin - at : end - at]
        furthest = len(weights) - 1
        drawn = min(most, drawn + furthest)
        low = max(0, low + min(0, furthest * offset))
        high = min(ways.shape[1] - 1, high + max(0, furthest * offset))
    sums = np.arange(-left, right + 1)
    outside = ways[:, (sums <= below) | (sums >= above)].sum(axis=1)
    # the rest of the m values comes from the most frequent one
    rest = draws.m - np.arange(most + 1)
    log_rest = _log_binomial(rest, int(draws.counts[0]), share)
    log_all = _log_binomial(np.array([draws.m]), draws.n, share)
    return float(min(1.0, outside @ np.exp(log_rest - log_all)))


def _log_binomial(picks: IntArray, count: int, share: float) -> FloatArray:
    """Log probability of each number of successes; -inf above `count`."""
    possible = picks <= count
    kept = np.where(possible, picks, 0)
    log_ways = -scipy.special.betaln(kept + 1, count - kept + 1) - np.log1p(count)
    found = log_ways + kept * np.log(share) + (count - kept) * np.log1p(-share)
    return np.where(possible, found, -np.inf)


def _saddlepoint_tails(waiting: list[_Draws]) -> FloatArray:
    """Sum of both tails of each of several draws, by Skovgaard's (1987) formula."""
    width = max(len(draws.counts) for draws in waiting)
    counts = np.zeros((len(waiting), width))
    offsets = np.zeros((len(waiting), width))
    for row, draws in enumerate(waiting):
        counts[row, : len(draws.counts)] = draws.counts
        offsets[row, : len(draws.counts)] = draws.offsets
    m = np.array([float(draws.m) for draws in waiting])
    edges = np.array([_extremes(draws) for draws in waiting], dtype=np.float64)
    upper = _upper_tails(offsets, counts, m, edges[:, 1])
    lower = _upper_tails(-offsets, counts, m, -edges[:, 0])
    p_value = np.minimum(1.0, upper + lower)
    p_value[edges[:, 1] <= edges[:, 0]] = 1.0
    return p_value


def _upper_tails(
    offsets: FloatArray, counts: FloatArray, m: FloatArray, edge: FloatArray
) -> FloatArray:
    """P(sum of m draws >= edge) per row; sums lie on the whole numbers."""
    n = counts.sum(axis=1)
    mean = (counts * offsets).sum(axis=1) / n
    x = offsets - mean[:, None]
    sd = np.sqrt((counts * x**2).sum(axis=1) / n)
    x /= sd[:, None]
    target = (edge - 0.5 - m * mean) / sd
    largest = _largest_sum(x, counts, m)
    reachable = target < largest - 1e-9
    goal = np.where(reachable, target, 0.0)
    start = np.log(m / (n - m))
    s, t = start.copy(), goal / (m * (1 - m / n))

    def loss(s: FloatArray, t: FloatArray) -> FloatArray:
        tilt = s[:, None] + t[:, None] * x
        return np.asarray((counts * np.logaddexp(0, tilt)).sum(axis=1) - s * m - t * goal)

    value = loss(s, t)
    for _ in range(100):
        chance = scipy.special.expit(s[:, None] + t[:, None] * x)
        spread = counts * chance * (1 - chance)
        gap_s = (counts * chance).sum(axis=1) - m
        gap_t = (counts * chance * x).sum(axis=1) - goal
        ss, st = spread.sum(axis=1), (spread * x).sum(axis=1)
        tt = (spread * x**2).sum(axis=1)
        area = np.maximum(ss * tt - st**2, 1e-300)
        step_s, step_t = (tt * gap_s - st * gap_t) / area, (ss * gap_t - st * gap_s) / area
        if (np.abs(gap_s) + np.abs(gap_t) < 1e-9 * (1 + m)).all():
            break
        size = np.minimum(1.0, 4 / np.maximum(np.abs(step_t) + np.abs(step_s), 1e-300))
        for _ in range(30):  # shorter steps until no row gets worse
            new = loss(s - size * step_s, t - size * step_t)
            worse = new > value + 1e-12 * (1 + np.abs(value))
            if not worse.any():
                break
            size = np.where(worse, size / 2, size)
        s, t = s - size * step_s, t - size * step_t
        value = loss(s, t)
    at_centre = n * np.log1p(np.exp(start)) - start * m
    w = np.sign(t) * np.sqrt(np.maximum(0.0, 2 * (at_centre - value)))
    centre = n * (m / n) * (1 - m / n)
    grid = 1 / sd
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        u = 2 / grid * np.sinh(t * grid / 2) * np.sqrt(area / centre)
        density = np.exp(-(w**2) / 2) / np.sqrt(2 * np.pi)
        tail = scipy.special.ndtr(-w) + density * (1 / u - 1 / w)
    tail = np.where(np.abs(w) < 0.01, scipy.special.ndtr(-w), tail)
    return np.asarray(np.where(reachable, np.clip(tail, 0.0, 1.0), 0.0))


def _largest_sum(x: FloatArray, counts: FloatArray, m: FloatArray) -> FloatArray:
    """Sum of the m largest values per row."""
    order = np.argsort(-x, axis=1)
    sorted_x = np.take_along_axis(x, order, axis=1)
    sorted_counts = np.take_along_axis(counts, order, axis=1)
    before = np.cumsum(sorted_counts, axis=1) - sorted_counts
    taken = np.clip(m[:, None] - before, 0, sorted_counts)
    return np.asarray((taken * sorted_x).sum(axis=1))
