"""Levels of runs compared: how favourably each rates the same personas, run minus reference."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from benchlib.domain.analysis.comparison import Difference
from benchlib.domain.analysis.shared_runs import SharedRuns
from benchlib.domain.analysis.trait_sets import (
    TraitSet,
    correct_trait_sets,
    count_tests,
    find_trait_set,
    select_trait_sets,
)
from benchlib.domain.arrays import BoolArray, FloatArray
from benchlib.domain.stats.one_sample import (
    OneSample,
    PairedTest,
    compute_one_sample,
    compute_paired_test,
)
from benchlib.domain.stats.welch import (
    DEFAULT_ALPHA,
    DEFAULT_SESOI,
    FdrMethod,
    Verdict,
    is_significant,
    judge,
    moments_of,
    none_if_nan,
)


class LevelDifference(Difference):
    """Mean rating of one run minus that of the reference, on one trait set.

    `mean` and `mean_reference` are on the aligned 1..5 scale, every persona counting once, of the
    questions that both runs asked in the same scale order. `same_orders` is False where there is
    none: then each run counts with its own orders, and a difference may come from these alone.
    `trait_category` None means all traits with a valence.
    """

    trait_category: str | None
    n_traits: int
    mean: float | None
    mean_reference: float | None
    same_orders: bool


class LevelDifferences(TypedDict):
    """Differences in level; `family_size` counts the tests corrected together."""

    alpha: float
    sesoi: float
    family_size: int
    rows: list[LevelDifference]


def compute_level_differences(
    shared: SharedRuns,
    *,
    trait_category: str | None = None,
    alpha: float = DEFAULT_ALPHA,
    sesoi: float = DEFAULT_SESOI,
    method: FdrMethod = "bh",
) -> LevelDifferences:
    """Compare how favourably runs rate the same personas: one-sample t on paired differences.

    d = mean of a persona's aligned ratings in the run minus that in the reference, over the traits
    of a trait set that both rated, on questions that both asked in the same scale order. A trait's
    mean is the mean of its two order means, so the draw of the orders does not enter.

    Args:
        shared: The runs.
        trait_category: Rows of this trait set only; None = of all traits and of every category.
        alpha: Level of `significant` and of the equivalence test.
        sesoi: Smallest effect of interest in rating points, the margin of equivalence.
        method: Whether `significant` and `verdict` follow `q_value` (`bh`) or `q_by` (`by`).

    Returns:
        One row per run and trait set, runs in order. q is corrected over all runs and trait sets,
        whatever is shown.

    Raises:
        InvalidInput: The runs share no trait of this category.
    """
    trait_sets = select_trait_sets(shared.cells[0])
    shown = (
        range(len(trait_sets))
        if trait_category is None
        else [find_trait_set(trait_sets, trait_category)]
    )
    pairs = [_level_pair(shared, place, trait_sets) for place in range(1, len(shared.run_ids))]
    found = {
        str(run_id): [compute_one_sample(gap) for gap in (pair[0] - pair[1]).T]
        for run_id, pair in zip(shared.run_ids[1:], pairs, strict=True)
    }
    tests = {key: [compute_paired_test(one, sesoi) for one in own] for key, own in found.items()}
    p_values = {
        key: np.array([test.p_value for test in own], dtype=np.float64)
        for key, own in tests.items()
    }
    q_value, q_by = (correct_trait_sets(p_values, trait_sets, name) for name in ("bh", "by"))
    rows: list[LevelDifference] = []
    for place, (run_id, pair) in enumerate(zip(shared.run_ids[1:], pairs, strict=True), 1):
        own_sets, key = select_trait_sets(shared.cells[place]), str(run_id)
        for at in shown:
            entering = own_sets[at].cells.n_answers[own_sets[at].scores.enters]
            q = none_if_nan(q_value[key][at]), none_if_nan(q_by[key][at])
            rows.append(
                {
                    "run_id": run_id,
                    "reference_id": shared.run_ids[0],
                    "trait_category": trait_sets[at].trait_category,
                    "status": found[key][at].status,
                    "n_personas": found[key][at].n,
                    "n_ratings": int(entering.sum()),
                    "n_missing": int((entering == 0).sum()),
                    "n_traits": trait_sets[at].cells.n_traits,
                    "mean": _mean(pair[0][:, at]),
                    "mean_reference": _mean(pair[1][:, at]),
                    "same_orders": bool(pair[2][at]),
                    **_paired(found[key][at], tests[key][at], q, q[method == "by"], alpha),
                }
            )
    return {
        "alpha": alpha,
        "sesoi": sesoi,
        "family_size": count_tests(p_values, trait_sets),
        "rows": rows,
    }


def _level_pair(
    shared: SharedRuns, place: int, trait_sets: Sequence[TraitSet]
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """(P, S) levels of a run and of the reference, and (S,) whether they are of the same orders."""
    own, reference = shared.ratings[place], shared.ratings[0]
    both = ~np.isnan(own) & ~np.isnan(reference)
    levels: tuple[list[FloatArray], list[FloatArray]] = [], []
    same_orders = []
    for trait_set in trait_sets:
        traits = np.isin(shared.cells[0].trait_ids, trait_set.cells.trait_ids)
        in_both = both[:, :, traits]
        same_orders.append(bool(in_both.any()) or not traits.any())
        for ratings, found in zip((own, reference), levels, strict=True):
            kept = ratings[:, :, traits]
            if same_orders[-1]:
                kept = np.where(in_both, kept, np.nan)
            found.append(np.where(trait_set.scores.enters, _persona_levels(kept), np.nan))
    return np.column_stack(levels[0]), np.column_stack(levels[1]), np.array(same_orders)


def _persona_levels(ratings: FloatArray) -> FloatArray:
    """(P,) mean rating of each persona from (2, P, T), every trait at its order-balanced mean."""
    rated = ~np.isnan(ratings)
    filled = np.where(rated, ratings, 0.0)
    n_raters = rated.sum(axis=1)
    order_means = filled.sum(axis=1) / np.maximum(n_raters, 1)
    trait_means = order_means.sum(axis=0) / np.maximum((n_raters > 0).sum(axis=0), 1)
    n_orders = rated.sum(axis=0)
    deviation = np.where(rated, ratings - order_means[:, None], 0.0).sum(axis=0)
    cells = np.where(n_orders > 0, deviation / np.maximum(n_orders, 1) + trait_means, 0.0)
    n_traits = (n_orders > 0).sum(axis=1)
    return np.where(n_traits > 0, cells.sum(axis=1) / np.maximum(n_traits, 1), np.nan)


class _Paired(TypedDict):
    difference: float | None
    se: float | None
    df: float | None
    t: float | None
    ci_low: float | None
    ci_high: float | None
    p_value: float | None
    q_value: float | None
    q_by: float | None
    significant: bool | None
    p_tost: float | None
    equivalent: bool | None
    verdict: Verdict | None


def _paired(
    sample: OneSample,
    test: PairedTest,
    corrected: tuple[float | None, float | None],
    q: float | None,
    alpha: float,
) -> _Paired:
    """Numbers and verdict of a level; `corrected` holds BH and BY, `q` the one that decides."""
    significant = is_significant(q, alpha)
    return {
        "difference": sample.mean,
        "se": sample.se,
        "df": sample.df,
        "t": sample.t,
        "ci_low": sample.ci_low,
        "ci_high": sample.ci_high,
        "p_value": test.p_value,
        "q_value": corrected[0],
        "q_by": corrected[1],
        "significant": significant,
        "p_tost": test.p_tost,
        "equivalent": is_significant(test.p_tost, alpha),
        "verdict": judge(significant, test.p_tost, alpha),
    }


def _mean(values: FloatArray) -> float | None:
    return none_if_nan(moments_of(values).mean)
