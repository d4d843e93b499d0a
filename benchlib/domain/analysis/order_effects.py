"""How the order of the scale affects answers, from pairs asked in both orders.

A consistent rater gives in + rev = 6. The difference of a pair is in - (6 - rev), in rating
points: above 0 the rater prefers high digits, whatever they mean. Several pairs come from one
persona, so every interval is clustered by persona.
"""

from typing import Final, TypedDict

import numpy as np

from benchlib.domain.analysis.answer_grid import AnswerGrid
from benchlib.domain.analysis.order_pairs import (
    OrderPairs,
    compute_cluster_mean,
    compute_order_pairs,
)
from benchlib.domain.arrays import BoolArray, FloatArray
from benchlib.domain.stats.agreement import Agreement, compute_agreement, compute_persona_tables
from benchlib.domain.stats.welch import CONFIDENCE, LOW_N, Status, none_if_nan, t_quantile
from benchlib.domain.vocabulary import N_POINTS, UNKNOWN_TRAIT_CATEGORY

_LIMITS_Z: Final = 1.96
"""As Bland & Altman (1986) draw their limits."""


class RepeatedAgreement(TypedDict):
    """Agreement of single pairs; intervals clustered by persona.

    `cliffs_delta` is the paired one: share of pairs with in above 6 - rev minus share below.
    """

    exact_rate: float | None
    exact_rate_ci_low: float | None
    exact_rate_ci_high: float | None
    mae: float | None
    mae_ci_low: float | None
    mae_ci_high: float | None
    cliffs_delta: float | None
    cliffs_delta_ci_low: float | None
    cliffs_delta_ci_high: float | None


class OrderBias(TypedDict):
    """Mean of in - (6 - rev) in rating points; intervals clustered by persona.

    `position_shift` is the pull on a raw digit, half of `mean_diff`. `loa_*` are Bland-Altman
    limits, which hold 95 % of single pairs. `two_way_*` is the wider interval of `mean_diff` for
    other traits as well as other personas.
    """

    mean_diff: float | None
    se: float | None
    ci_low: float | None
    ci_high: float | None
    two_way_ci_low: float | None
    two_way_ci_high: float | None
    sd: float | None
    position_shift: float | None
    position_shift_ci_low: float | None
    position_shift_ci_high: float | None
    loa_low: float | None
    loa_high: float | None


class ScaleUsage(TypedDict):
    """How the answers of the pairs use the scale: share of 1 and 5, share of 3, variance."""

    eei: float | None
    mni: float | None
    sv: float | None


class RetestRates(TypedDict):
    """The pair read as test and retest."""

    within1_rate: float | None
    within1_rate_ci_low: float | None
    within1_rate_ci_high: float | None
    mean_abs_diff: float | None


class OrderCorrelation(TypedDict):
    """Correlation of in with 6 - rev; blind to a constant shift, so no measure of order bias."""

    pearson: float | None
    spearman: float | None
    kendall: float | None


class OrderByCase(TypedDict):
    """One trait with `n` pairs. `mean_in` and `mean_rev` are raw digits; `rma` is its exact rate.

    `n_ratings` are those of the pairs; `n_missing` are missing from questions asked in both
    orders.
    """

    case_id: str
    label: str
    trait_category: str
    status: Status
    n: int
    n_personas: int
    n_ratings: int
    n_missing: int
    mean_in: float
    mean_rev: float
    mean_diff: float
    ci_low: float | None
    ci_high: float | None
    abs_diff: float
    rma: float


class OrderByTraitCategory(TypedDict):
    """One trait category, counts as by trait; interval clustered by persona."""

    trait_category: str
    status: Status
    n: int
    n_personas: int
    n_ratings: int
    n_missing: int
    abs_diff: float
    exact_rate: float
    mean_diff: float
    ci_low: float | None
    ci_high: float | None


class RawDigits(TypedDict):
    """Raw digits 1..5 of all answers by scale order, paired or not."""

    bins: list[str]
    counts_in: list[int]
    counts_rev: list[int]


class OrderEffectMetrics(TypedDict):
    """The order panel; every number is None without pairs, intervals also with one persona.

    `n_ratings` are those of the pairs; `n_missing` are missing from questions asked in both
    orders. `n_duplicates` is always 0: a question has one answer in each order. `table` counts
    pairs, 5 x 5: rows the digit in order `in`, columns 6 - the digit in `rev`, so pairs that agree
    lie on the diagonal. All zeros without pairs.
    """

    n_pairs: int
    n_personas: int
    n_ratings: int
    n_missing: int
    n_duplicates: int
    status: Status
    rma: RepeatedAgreement
    obe: OrderBias
    usage: ScaleUsage
    test_retest: RetestRates
    correlation: OrderCorrelation
    agreement: Agreement
    digits: RawDigits
    table: list[list[int]]
    by_case: list[OrderByCase]
    by_trait_category: list[OrderByTraitCategory]


def compute_order_effect_metrics(grid: AnswerGrid) -> OrderEffectMetrics:
    """Measure how well answers in both scale orders agree, and which way they lean.

    Returns:
        The order panel. All traits take part, neutral ones included. Rows by trait are sorted by
        `abs_diff`, the least consistent first.
    """
    pairs = compute_order_pairs(grid)
    gap = pairs.difference
    bias = compute_cluster_mean(gap, pairs.personas)
    shift = bias.scaled(0.5)
    two_way = _two_way_reach(gap, pairs)
    exact = compute_cluster_mean(gap == 0, pairs.personas).clipped(0, 1)
    distance = compute_cluster_mean(np.abs(gap), pairs.personas).clipped(0, N_POINTS - 1)
    dominance = compute_cluster_mean(np.sign(gap), pairs.personas).clipped(-1, 1)
    within1 = compute_cluster_mean(np.abs(gap) <= 1, pairs.personas).clipped(0, 1)
    tables = _persona_tables(pairs)
    agreement = compute_agreement(tables)
    reach = None if bias.sd is None else _LIMITS_Z * bias.sd
    return {
        "n_pairs": bias.n,
        "n_personas": bias.n_clusters,
        "n_ratings": 2 * bias.n,
        "n_missing": int(pairs.n_missing.sum()),
        "n_duplicates": 0,
        "status": _status(bias.n_clusters, bias.se),
        "rma": {
            "exact_rate": exact.mean,
            "exact_rate_ci_low": exact.ci_low,
            "exact_rate_ci_high": exact.ci_high,
            "mae": distance.mean,
            "mae_ci_low": distance.ci_low,
            "mae_ci_high": distance.ci_high,
            "cliffs_delta": dominance.mean,
            "cliffs_delta_ci_low": dominance.ci_low,
            "cliffs_delta_ci_high": dominance.ci_high,
        },
        "obe": {
            "mean_diff": bias.mean,
            "se": bias.se,
            "ci_low": bias.ci_low,
            "ci_high": bias.ci_high,
            "two_way_ci_low": _shifted(bias.mean, two_way, -1),
            "two_way_ci_high": _shifted(bias.mean, two_way, 1),
            "sd": bias.sd,
            "position_shift": shift.mean,
            "position_shift_ci_low": shift.ci_low,
            "position_shift_ci_high": shift.ci_high,
            "loa_low": _shifted(bias.mean, reach, -1),
            "loa_high": _shifted(bias.mean, reach, 1),
        },
        "usage": _usage(pairs),
        "test_retest": {
            "within1_rate": within1.mean,
            "within1_rate_ci_low": within1.ci_low,
            "within1_rate_ci_high": within1.ci_high,
            "mean_abs_diff": distance.mean,
        },
        "correlation": {
            "pearson": agreement["pearson"]["value"],
            "spearman": agreement["spearman"]["value"],
            "kendall": agreement["kendall"]["value"],
        },
        "agreement": agreement,
        "digits": _raw_digits(grid),
        "table": tables.sum(axis=0).astype(np.int64).tolist(),
        "by_case": _by_case(pairs),
        "by_trait_category": _by_trait_category(pairs),
    }


def _two_way_reach(gap: FloatArray, pairs: OrderPairs) -> float | None:
    """Half-width of the interval clustered by persona and by trait.

    Cameron, Gelbach & Miller (2011): both one-way variances minus that of single pairs; t with the
    smaller number of clusters minus 1. Never below either one-way variance.
    """
    if len(gap) == 0:
        return None
    _, trait = np.unique(pairs.traits, return_inverse=True)
    ways = (pairs.personas, trait.astype(np.int64), np.arange(len(gap)))
    means = [compute_cluster_mean(gap, clusters) for clusters in ways]
    errors = [mean.se for mean in means]
    smallest = min(means[0].n_clusters, means[1].n_clusters)
    if any(error is None for error in errors):
        return None
    by_persona, by_trait, single = (float(error or 0.0) ** 2 for error in errors)
    variance = max(by_persona + by_trait - single, by_persona, by_trait)
    if variance == 0:
        return None
    return float(t_quantile(smallest - 1, CONFIDENCE) * np.sqrt(variance))


def _persona_tables(pairs: OrderPairs) -> FloatArray:
    """Tables of in x (6 - rev)."""
    first = pairs.shown_in.astype(np.int64)
    second = N_POINTS + 1 - pairs.shown_rev.astype(np.int64)
    return compute_persona_tables(pairs.personas, first, second)


def _usage(pairs: OrderPairs) -> ScaleUsage:
    answers = np.concatenate([pairs.shown_in, N_POINTS + 1 - pairs.shown_rev])
    if len(answers) == 0:
        return {"eei": None, "mni": None, "sv": None}
    return {
        "eei": float(((answers == 1) | (answers == N_POINTS)).mean()),
        "mni": float((answers == (N_POINTS + 1) / 2).mean()),
        "sv": float(answers.var(ddof=1)),
    }


def _raw_digits(grid: AnswerGrid) -> RawDigits:
    counts_in, counts_rev = grid.count_digits().sum(axis=1)
    return {
        "bins": [str(point) for point in range(1, N_POINTS + 1)],
        "counts_in": counts_in.tolist(),
        "counts_rev": counts_rev.tolist(),
    }


def _by_case(pairs: OrderPairs) -> list[OrderByCase]:
    size = len(pairs.table)
    gap = pairs.difference
    n = np.bincount(pairs.traits, minlength=size)
    divisor = np.maximum(n, 1)

    def mean(values: FloatArray | BoolArray) -> FloatArray:
        return np.bincount(pairs.traits, weights=values, minlength=size) / divisor

    mean_gap = mean(gap)
    spread = mean(np.square(gap - mean_gap[pairs.traits])) * n
    with np.errstate(divide="ignore", invalid="ignore"):
        # One pair per persona within a trait: the usual t interval is right.
        reach = t_quantile(n - 1, CONFIDENCE) * np.sqrt(spread / (n - 1) / n)
    reach[spread <= 0] = np.nan
    columns = mean(pairs.shown_in), mean(pairs.shown_rev), mean(np.abs(gap)), mean(gap == 0)
    rows: list[OrderByCase] = []
    for index in np.flatnonzero(n):
        mean_in, mean_rev, abs_diff, exact = (float(column[index]) for column in columns)
        trait = pairs.table.iloc[index]
        rows.append(
            {
                "case_id": str(trait["case_id"]),
                "label": str(trait["label"]),
                "trait_category": str(trait["trait_category"]),
                "status": _status(int(n[index]), float(spread[index])),
                "n": int(n[index]),
                "n_personas": int(n[index]),
                "n_ratings": 2 * int(n[index]),
                "n_missing": int(pairs.n_missing[index]),
                "mean_in": mean_in,
                "mean_rev": mean_rev,
                "mean_diff": float(mean_gap[index]),
                "ci_low": none_if_nan(mean_gap[index] - reach[index]),
                "ci_high": none_if_nan(mean_gap[index] + reach[index]),
                "abs_diff": abs_diff,
                "rma": exact,
            }
        )
    return sorted(rows, key=lambda row: (-row["abs_diff"], row["case_id"]))


def _by_trait_category(pairs: OrderPairs) -> list[OrderByTraitCategory]:
    by_trait = pairs.table["trait_category"].to_numpy(dtype=object)
    names = by_trait[pairs.traits]
    rows: list[OrderByTraitCategory] = []
    for name in sorted(set(names), key=lambda name: (name == UNKNOWN_TRAIT_CATEGORY, name)):
        chosen = np.flatnonzero(names == name)
        gap = pairs.difference[chosen]
        _, clusters = np.unique(pairs.personas[chosen], return_inverse=True)
        bias = compute_cluster_mean(gap, clusters.astype(np.int64))
        rows.append(
            {
                "trait_category": str(name),
                "status": _status(bias.n_clusters, bias.se),
                "n": bias.n,
                "n_personas": bias.n_clusters,
                "n_ratings": 2 * bias.n,
                "n_missing": int(pairs.n_missing[by_trait == name].sum()),
                "abs_diff": float(np.abs(gap).mean()),
                "exact_rate": float((gap == 0).mean()),
                "mean_diff": float(gap.mean()),
                "ci_low": bias.ci_low,
                "ci_high": bias.ci_high,
            }
        )
    return rows


def _shifted(center: float | None, reach: float | None, sign: int) -> float | None:
    return None if center is None or reach is None else center + sign * reach


def _status(n_personas: int, spread: float | None) -> Status:
    if n_personas == 0:
        return "no_data"
    if n_personas < 2:
        return "n_lt_2"
    if spread == 0:
        return "zero_variance"
    return "ok" if n_personas >= LOW_N else "low_n"
