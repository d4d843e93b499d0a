"""Permutation tests: persona labels permuted, with a studentised statistic."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from typing import Final

import numpy as np

from benchlib.domain.arrays import BoolArray, FloatArray, IntArray
from benchlib.domain.stats.welch import Moments, compute_moments, compute_welch

DEFAULT_N_PERM: Final = 2_000
MAX_ASSIGNMENTS: Final = 20_000
"""Up to this many assignments of personas to two groups all of them are enumerated."""

_BLOCK_VALUES = 6_000_000
_TIE = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """Which personas belong to which category of one attribute.

    Attributes:
        codes: (n,) category of each persona; negative = in none that is tested.
        n_groups: Number of categories G.
        base: The category that the others are compared with; -1 = none, so nothing is tested.
    """

    codes: IntArray
    n_groups: int
    base: int


@dataclass(frozen=True, slots=True, eq=False)
class PermutationTest:
    """Permutation p of every category of one attribute against its baseline.

    Attributes:
        p_value: (G,) two-sided; NaN for the baseline, below two personas in a group, and where a
            Monte Carlo test would be needed but no draws were asked for.
        n_perm: (G,) draws, or assignments that were enumerated; 0 where none was needed.
        exact: (G,) whether p covers all assignments.
    """

    p_value: FloatArray
    n_perm: IntArray
    exact: BoolArray


def compute_permutation_tests(
    scores: FloatArray,
    attributes: Sequence[Labels],
    rng: np.random.Generator | None,
    n_perm: int = DEFAULT_N_PERM,
) -> list[PermutationTest]:
    """Permute persona scores over the categories of all attributes at once.

    The statistic is |Welch t|: exact if the personas are exchangeable, asymptotically valid under
    unequal variances (Chung & Romano 2013). p = (b + 1) / (B + 1) (Phipson & Smyth 2010). With
    few assignments (`MAX_ASSIGNMENTS`) of the personas of both groups all are enumerated, and p is
    the share that is at least as extreme. If both groups are constant, t does not exist and the
    plain mean difference is tested, exactly.

    A Monte Carlo draw shuffles the scores of all personas once and reads every attribute's groups
    as consecutive stretches of the shuffled scores: each attribute sees uniform permutations, one
    pass serves them all, and the result depends neither on the order of the personas nor on
    which other attributes are tested.

    Args:
        scores: (n,) one score per persona, none missing.
        attributes: Labels of the same personas per attribute.
        rng: Source of the draws; None leaves out the Monte Carlo tests, not the exact ones.
        n_perm: Number of draws B.

    Returns:
        One result per attribute.
    """
    tests = [_PermutationContrasts.prepare(scores, labels) for labels in attributes]
    open_tests = [test for test in tests if test.pending.any()]
    if open_tests and rng is not None and n_perm > 0:
        _draw(scores, open_tests, rng, n_perm)
        return [test.result(n_perm) for test in tests]
    return [test.result(0) for test in tests]


def compute_max_t_p(
    base: FloatArray,
    cat: FloatArray,
    rng: np.random.Generator,
    n_perm: int = DEFAULT_N_PERM,
) -> FloatArray:
    """Permute personas over two groups and compare every trait with the largest |t| of all traits.

    Controls the probability of any false flag among the traits (Westfall & Young, single step).
    All traits of a persona move together, so their correlation is respected.

    Args:
        base: (n, T) cells of the baseline's personas; NaN = missing.
        cat: (m, T) cells of the category's personas.
        rng: Source of the draws.
        n_perm: Number of draws B.

    Returns:
        (T,) adjusted p, (b + 1) / (B + 1); NaN for a trait without a Welch test.
    """
    cells = np.concatenate([base, cat])
    codes = np.repeat([0, 1], [len(base), len(cat)])
    moments = compute_moments(cells, codes, 2)
    observed = compute_welch(moments.at(0), moments.at(1)).t ** 2
    tested = np.isfinite(observed)
    p_values = np.full(observed.shape, np.nan)
    if not tested.any():
        return p_values
    cells, observed = cells[:, tested], observed[tested]
    rated = (~np.isnan(cells)).astype(np.float64)
    values = np.where(rated > 0, cells - np.nanmean(cells, axis=0), 0.0)
    squares = values**2
    n_all, sum_all, square_all = rated.sum(axis=0), values.sum(axis=0), squares.sum(axis=0)
    n_rows = max(1, min(n_perm, 200, _BLOCK_VALUES // len(cells)))
    block = np.tile(codes.astype(np.float64), (n_rows, 1))
    hits = np.zeros(len(observed), dtype=np.int64)
    for begin in range(0, n_perm, n_rows):
        rows = block[: min(n_rows, n_perm - begin)]
        rng.permuted(rows, axis=1, out=rows)
        n, total, square = rows @ rated, rows @ values, rows @ squares
        gap, part = _gap_and_part(n, total, square)
        other_gap, other_part = _gap_and_part(n_all - n, sum_all - total, square_all - square)
        with np.errstate(divide="ignore", invalid="ignore"):
            t_square = (gap - other_gap) ** 2 / (part + other_part)
        largest = np.nan_to_num(t_square, nan=0.0, posinf=np.inf).max(axis=1)
        hits += (largest[:, None] >= observed * (1 - _TIE)).sum(axis=0)
    p_values[tested] = (hits + 1) / (n_perm + 1)
    return p_values


def _gap_and_part(
    n: FloatArray, total: FloatArray, square: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Mean and squared standard error of groups from their sums; NaN below two values."""
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = total / n
        part = np.maximum(square / n - mean**2, 0) / np.where(n > 1, n - 1, np.nan)
    return mean, part


@dataclass(frozen=True, slots=True, eq=False)
class _PermutationContrasts:
    labels: Labels
    n: IntArray
    t_square: FloatArray
    pending: BoolArray
    p_value: FloatArray
    n_perm: IntArray
    exact: BoolArray
    hits: IntArray

    @classmethod
    def prepare(cls, scores: FloatArray, labels: Labels) -> "_PermutationContrasts":
        """Compute the observed statistics, and every p that needs no draws."""
        moments = compute_moments(scores, labels.codes, labels.n_groups)
        welch = compute_welch(moments.at(labels.base), moments)
        size = labels.n_groups
        p_value, n_perm = np.full(size, np.nan), np.zeros(size, dtype=np.int64)
        pending, exact = np.zeros(size, dtype=bool), np.zeros(size, dtype=bool)
        n_base = int(moments.at(labels.base).n)
        base_scores = scores[labels.codes == labels.base]
        for group in range(size):
            n_cat = int(moments.n[group])
            if group == labels.base or min(n_base, n_cat) < 2:
                continue
            if welch.se[group] == 0:
                p_value[group] = _constant_groups_p(moments, labels.base, group)
                exact[group] = True
            elif _few_assignments(n_base, n_cat):
                pooled = np.concatenate([base_scores, scores[labels.codes == group]])
                p_value[group] = _enumerate_p(pooled, n_base, float(welch.t[group] ** 2))
                n_perm[group], exact[group] = math.comb(n_base + n_cat, n_cat), True
            else:
                pending[group] = True
        return cls(
            labels=labels,
            n=moments.n,
            t_square=welch.t**2,
            pending=pending,
            p_value=p_value,
            n_perm=n_perm,
            exact=exact,
            hits=np.zeros(size, dtype=np.int64),
        )

    def count_hits(self, total: FloatArray, square: FloatArray) -> None:
        """Add the draws at least as extreme as observed, from (draws, G) sums and square sums."""
        n = np.maximum(self.n, 1)
        mean = total / n
        part = np.maximum(square / n - mean**2, 0) / np.maximum(self.n - 1, 1)  # var / n
        base = self.labels.base
        gap = (mean - mean[:, [base]]) ** 2
        limit = self.t_square * (part + part[:, [base]])
        reached = gap >= limit * (1 - _TIE)
        self.hits[self.pending] += reached[:, self.pending].sum(axis=0)

    def result(self, n_draws: int) -> PermutationTest:
        drawn = self.pending & (n_draws > 0)
        return PermutationTest(
            p_value=np.where(drawn, (self.hits + 1) / (n_draws + 1), self.p_value),
            n_perm=np.where(drawn, n_draws, self.n_perm),
            exact=self.exact,
        )


def _draw(
    scores: FloatArray,
    tests: Sequence[_PermutationContrasts],
    rng: np.random.Generator,
    n_perm: int,
) -> None:
    pool = np.sort(scores - scores.mean())
    bounds = [np.concatenate([[0], np.cumsum(test.n)]) for test in tests]
    # np.add.reduceat wants each start once and inside the array; the tail goes with the last one
    edges = np.unique(np.concatenate(bounds))
    starts = edges[edges < len(pool)]
    n_rows = max(1, min(n_perm, 200, _BLOCK_VALUES // len(pool)))
    block = np.empty((n_rows, len(pool)))
    for begin in range(0, n_perm, n_rows):
        rows = block[: min(n_rows, n_perm - begin)]
        for row in rows:
            row[:] = rng.permutation(pool)  # faster than `permuted`, which goes element by element
        total = _cumulative(np.add.reduceat(rows, starts, axis=1))
        square = _cumulative(np.add.reduceat(np.square(rows), starts, axis=1))
        for test, bound in zip(tests, bounds, strict=True):
            at = np.searchsorted(edges, bound)
            test.count_hits(np.diff(total[:, at], axis=1), np.diff(square[:, at], axis=1))


def _cumulative(pieces: FloatArray) -> FloatArray:
    return np.concatenate([np.zeros((len(pieces), 1)), np.cumsum(pieces, axis=1)], axis=1)


def _few_assignments(n_base: int, n_cat: int) -> bool:
    # C(N, n) is at least C(N, 2) here, which spares the huge numbers of large groups
    total = n_base + n_cat
    return total * (total - 1) // 2 <= MAX_ASSIGNMENTS >= math.comb(total, n_cat)


def _constant_groups_p(moments: Moments, base: int, cat: int) -> float:
    """Exact p of the mean difference when each group is constant.

    With equal constants every assignment gives 0. Otherwise only the observed split, and its
    mirror image if the groups are equally large, reach the observed difference.
    """
    n_base, n_cat = int(moments.n[base]), int(moments.n[cat])
    if abs(moments.mean[base] - moments.mean[cat]) <= _TIE:
        return 1.0
    return (2 if n_base == n_cat else 1) / math.comb(n_base + n_cat, n_cat)


def _enumerate_p(pooled: FloatArray, n_base: int, t_square: float) -> float:
    """Share of all assignments with a squared Welch t of at least `t_square`."""
    values = pooled - pooled.mean()
    n_first = min(n_base, len(values) - n_base)
    chosen = np.fromiter(
        chain.from_iterable(combinations(range(len(values)), n_first)), dtype=np.int64
    ).reshape(-1, n_first)
    picked = values[chosen]
    n_second = len(values) - n_first
    total, square = picked.sum(axis=1), np.square(picked).sum(axis=1)
    rest, rest_square = values.sum() - total, np.square(values).sum() - square
    part = np.maximum(square / n_first - (total / n_first) ** 2, 0) / (n_first - 1)
    rest_part = np.maximum(rest_square / n_second - (rest / n_second) ** 2, 0) / (n_second - 1)
    gap = (total / n_first - rest / n_second) ** 2
    return float((gap >= t_square * (part + rest_part) * (1 - _TIE)).mean())
