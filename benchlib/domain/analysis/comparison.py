"""Runs compared: paired differences on the cells that all of them rated.

Runs are never pooled. The first run is the reference; each other one is compared with it, always
as run minus reference. A persona gives one number per run, so whatever is peculiar to a
persona cancels in the difference.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypedDict, cast

import numpy as np

from benchlib.domain.analysis.cells import Cells
from benchlib.domain.analysis.persona_scores import compute_grouping, compute_persona_scores
from benchlib.domain.analysis.shared_runs import SharedRuns
from benchlib.domain.analysis.trait_sets import (
    GroupContrasts,
    TraitSet,
    correct_trait_sets,
    count_tests,
    find_trait_set,
    prepare_contrasts,
    select_trait_sets,
    stack_scores,
)
from benchlib.domain.arrays import FloatArray
from benchlib.domain.stats.one_sample import OneSample, compute_one_sample
from benchlib.domain.stats.welch import (
    DEFAULT_ALPHA,
    FdrMethod,
    Moments,
    Status,
    compute_welch,
    is_significant,
    none_if_nan,
)


class Difference(TypedDict):
    """A number of one run minus that of the reference, with its test; None = undefined.

    `difference` is in rating points. `n_ratings` are the run's ratings of the personas
    counted; `n_missing` are their cells that not all runs rated.
    """

    run_id: int
    reference_id: int
    status: Status
    n_personas: int
    n_ratings: int
    n_missing: int
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


class LevelDifference(Difference):
    """Mean rating of one run minus that of the reference, on one trait set.

    `mean` and `mean_reference` are on the aligned 1..5 scale, every persona counting once.
    `trait_category` None means all traits with a valence.
    """

    trait_category: str | None
    n_traits: int
    mean: float | None
    mean_reference: float | None


class LevelDifferences(TypedDict):
    """Differences in level; `family_size` counts the tests corrected together."""

    alpha: float
    family_size: int
    rows: list[LevelDifference]


class DeltaDifference(Difference):
    """Delta of a category in one run minus its delta in the reference.

    `difference` = `delta` - `delta_reference`. Counts describe the category.
    """

    category: str
    baseline: str | None
    n_base: int
    n_cat: int
    delta: float | None
    delta_reference: float | None


class DeltaDifferences(TypedDict):
    """Differences of the deltas of one attribute, on one trait set."""

    attribute: str
    baseline: str | None
    trait_category: str | None
    n_personas: int
    n_dropped: int
    n_traits: int
    alpha: float
    family_size: int
    rows: list[DeltaDifference]


class RunAgreement(TypedDict):
    """How alike a run and the reference rate; None = undefined.

    `mean_abs_difference` is over cells, in rating points; the correlations (Pearson) are of the
    personas' scores and of the traits' means.
    """

    run_id: int
    reference_id: int
    n_cells: int
    n_personas: int
    n_traits: int
    mean_abs_difference: float | None
    persona_correlation: float | None
    trait_correlation: float | None


def compute_level_differences(
    shared: SharedRuns,
    *,
    trait_category: str | None = None,
    alpha: float = DEFAULT_ALPHA,
    method: FdrMethod = "bh",
) -> LevelDifferences:
    """Compare how favourably runs rate the same personas: one-sample t on paired differences.

    d = mean of a persona's aligned ratings in the run minus that in the reference, over the traits
    of a trait set that both rated.

    Args:
        shared: The runs.
        trait_category: Rows of this trait set only; None = of all traits and of every category.
        alpha: Level of `significant`.
        method: Whether `significant` follows `q_value` (`bh`) or `q_by` (`by`).

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
    levels = [_levels(cells) for cells in shared.cells]
    tests = {
        run_id: [compute_one_sample(gap) for gap in (own - levels[0]).T]
        for run_id, own in zip(shared.run_ids[1:], levels[1:], strict=True)
    }
    p_values = {
        str(run_id): np.array([one.p_value for one in found], dtype=np.float64)
        for run_id, found in tests.items()
    }
    q_value, q_by = (correct_trait_sets(p_values, trait_sets, name) for name in ("bh", "by"))
    rows: list[LevelDifference] = []
    for place, (run_id, found) in enumerate(tests.items(), 1):
        own_sets = select_trait_sets(shared.cells[place])
        for at in shown:
            entering = own_sets[at].cells.n_answers[own_sets[at].scores.enters]
            q = none_if_nan(q_value[str(run_id)][at]), none_if_nan(q_by[str(run_id)][at])
            rows.append(
                {
                    "run_id": run_id,
                    "reference_id": shared.run_ids[0],
                    "trait_category": trait_sets[at].trait_category,
                    "status": found[at].status,
                    "n_personas": found[at].n,
                    "n_ratings": int(entering.sum()),
                    "n_missing": int((entering == 0).sum()),
                    "n_traits": trait_sets[at].cells.n_traits,
                    "mean": _mean(levels[place][:, at]),
                    "mean_reference": _mean(levels[0][:, at]),
                    **_paired(found[at]),
                    "q_value": q[0],
                    "q_by": q[1],
                    "significant": is_significant(q[method == "by"], alpha),
                }
            )
    return {"alpha": alpha, "family_size": count_tests(p_values, trait_sets), "rows": rows}


def compute_delta_differences(
    shared: SharedRuns,
    *,
    attributes: Sequence[str] | None = None,
    baselines: Mapping[str, str] | None = None,
    trait_category: str | None = None,
    alpha: float = DEFAULT_ALPHA,
    method: FdrMethod = "bh",
) -> dict[str, DeltaDifferences]:
    """Compare the deltas of runs: Welch's t between groups on d = z(run) - z(reference).

    The group contrast of d is the difference of the two deltas.

    Args:
        shared: The runs.
        attributes: Attributes to report; None = all.
        baselines: The category to compare against, by attribute; default: most personas.
        trait_category: A trait category, or None for all traits.
        alpha: Level of `significant`.
        method: Whether `significant` follows `q_value` (`bh`) or `q_by` (`by`).

    Returns:
        Per attribute one row per run and category; the baseline and `Unknown` are not compared. q
        is corrected over all runs x attributes x categories x trait sets.

    Raises:
        InvalidInput: There is no such attribute or baseline, or no shared trait of this category.
    """
    trait_sets = [select_trait_sets(cells) for cells in shared.cells]
    reference, at = trait_sets[0], find_trait_set(trait_sets[0], trait_category)
    names = [str(name) for name in shared.cells[0].attributes.columns]
    reported = names if attributes is None else list(attributes)
    for name in reported:
        compute_grouping(shared.cells[0], name)  # raises for an attribute that does not exist
    contrasts = prepare_contrasts(shared.cells[0], names, reference[0].scores, baselines)
    scores = [stack_scores(own) for own in trait_sets]
    moments = {
        f"{place} {name}": contrast.moments(scores[place] - scores[0])
        for place in range(1, len(scores))
        for name, contrast in contrasts.items()
    }
    p_values = {
        f"{place} {name}": contrast.p_values(moments[f"{place} {name}"])
        for place in range(1, len(scores))
        for name, contrast in contrasts.items()
    }
    q_value, q_by = (correct_trait_sets(p_values, reference, name) for name in ("bh", "by"))
    size = count_tests(p_values, reference)
    tables: dict[str, DeltaDifferences] = {}
    for name in reported:
        rows = []
        for place, run_id in enumerate(shared.run_ids[1:], 1):
            key = f"{place} {name}"
            own = contrasts[name].moments(scores[0][:, [at]]).column(0)
            rows += _delta_rows(
                (run_id, shared.run_ids[0]),
                contrasts[name],
                trait_sets[place][at],
                moments[key].column(at),
                own,
                (q_value[key][:, at], q_by[key][:, at]),
                alpha,
                method,
            )
        trait_set = reference[at]
        tables[name] = {
            "attribute": name,
            "baseline": contrasts[name].baseline,
            "trait_category": trait_set.trait_category,
            "n_personas": int(trait_set.scores.enters.sum()),
            "n_dropped": trait_set.scores.n_dropped,
            "n_traits": trait_set.cells.n_traits,
            "alpha": alpha,
            "family_size": size,
            "rows": rows,
        }
    return tables


def compute_run_agreement(
    shared: SharedRuns, trait_category: str | None = None
) -> list[RunAgreement]:
    """Describe how alike each run and the reference rate the shared cells; no tests.

    Raises:
        InvalidInput: The runs share no trait of this category.
    """
    at = find_trait_set(select_trait_sets(shared.cells[0]), trait_category)
    trait_sets = [select_trait_sets(cells)[at] for cells in shared.cells]
    first = trait_sets[0]
    rated = first.cells.n_answers > 0
    rows: list[RunAgreement] = []
    for run_id, trait_set in zip(shared.run_ids[1:], trait_sets[1:], strict=True):
        gap = np.abs(_uncentred(trait_set.cells) - _uncentred(first.cells))[rated]
        rows.append(
            {
                "run_id": run_id,
                "reference_id": shared.run_ids[0],
                "n_cells": int(rated.sum()),
                "n_personas": int(first.scores.enters.sum()),
                "n_traits": first.cells.n_traits,
                "mean_abs_difference": _mean(gap),
                "persona_correlation": _correlation(first.scores.z, trait_set.scores.z),
                "trait_correlation": _correlation(
                    first.cells.trait_means, trait_set.cells.trait_means
                ),
            }
        )
    return rows


def _uncentred(cells: Cells) -> FloatArray:
    """(P, T) aligned ratings 1..5 with the order effect of the run taken out; NaN = not rated."""
    return cells.centred + cells.trait_means


def _levels(cells: Cells) -> FloatArray:
    """(P, S) mean aligned rating of each persona, NaN = does not enter."""
    return stack_scores(
        [
            replace(trait_set, scores=compute_persona_scores(_with_levels(trait_set)))
            for trait_set in select_trait_sets(cells)
        ]
    )


def _with_levels(trait_set: TraitSet) -> Cells:
    return replace(trait_set.cells, centred=_uncentred(trait_set.cells))


class _Paired(TypedDict):
    difference: float | None
    se: float | None
    df: float | None
    t: float | None
    ci_low: float | None
    ci_high: float | None
    p_value: float | None


def _paired(sample: OneSample) -> _Paired:
    return {
        "difference": sample.mean,
        "se": sample.se,
        "df": sample.df,
        "t": sample.t,
        "ci_low": sample.ci_low,
        "ci_high": sample.ci_high,
        "p_value": sample.p_value,
    }


def _delta_rows(
    pair: tuple[int, int],
    contrast: GroupContrasts,
    trait_set: TraitSet,
    moments: Moments,
    of_reference: Moments,
    corrected: tuple[FloatArray, FloatArray],
    alpha: float,
    method: FdrMethod,
) -> list[DeltaDifference]:
    """Rows of one run and attribute; the arrays are (G,), `corrected` holds BH and BY."""
    welch = compute_welch(moments.at(contrast.base), moments)
    reference = of_reference.mean - of_reference.at(contrast.base).mean
    rows: list[DeltaDifference] = []
    for i in contrast.targets:
        q_value, q_by = (none_if_nan(q[i]) for q in corrected)
        entering = trait_set.cells.n_answers[
            trait_set.scores.enters & (contrast.grouping.codes == i)
        ]
        rows.append(
            {
                "run_id": pair[0],
                "reference_id": pair[1],
                "category": contrast.grouping.categories[i],
                "baseline": contrast.baseline,
                "status": cast(Status, str(welch.status[i])),
                "n_personas": int(welch.n_cat[i]),
                "n_ratings": int(entering.sum()),
                "n_missing": int((entering == 0).sum()),
                "n_base": int(welch.n_base[i]),
                "n_cat": int(welch.n_cat[i]),
                "delta": none_if_nan(reference[i] + welch.delta[i]),
                "delta_reference": none_if_nan(reference[i]),
                "difference": none_if_nan(welch.delta[i]),
                "se": none_if_nan(welch.se[i]),
                "df": none_if_nan(welch.df[i]),
                "t": none_if_nan(welch.t[i]),
                "ci_low": none_if_nan(welch.ci_low[i]),
                "ci_high": none_if_nan(welch.ci_high[i]),
                "p_value": none_if_nan(welch.p_value[i]),
                "q_value": q_value,
                "q_by": q_by,
                "significant": is_significant(q_by if method == "by" else q_value, alpha),
            }
        )
    return rows


def _mean(values: FloatArray) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def _correlation(first: FloatArray, second: FloatArray) -> float | None:
    """Pearson's r; None below three pairs or where one side is constant."""
    known = ~np.isnan(first) & ~np.isnan(second)
    if known.sum() < 3 or np.ptp(first[known]) == 0 or np.ptp(second[known]) == 0:
        return None
    return none_if_nan(np.corrcoef(first[known], second[known])[0, 1])
