"""Deltas of runs compared: paired differences on the cells that all of them rated.

Runs are never pooled. The first run is the reference; each other one is compared with it, always
as run minus reference. A persona gives one number per run, so whatever is peculiar to a
persona cancels in the difference.
"""

from collections.abc import Mapping, Sequence
from math import comb
from typing import TypedDict, cast

import numpy as np

from benchlib.domain.analysis.persona_scores import compute_grouping
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
from benchlib.domain.stats.welch import (
    DEFAULT_ALPHA,
    DEFAULT_SESOI,
    ZERO_VARIANCE,
    FdrMethod,
    Moments,
    Status,
    Verdict,
    Welch,
    compute_equivalence,
    compute_welch,
    is_significant,
    judge,
    none_if_nan,
)


class Difference(TypedDict):
    """A number of one run minus that of the reference, with its test; None = undefined.

    `difference` is in rating points. `n_ratings` are the run's ratings of the personas counted, in
    the scale orders compared; `n_missing` are their cells that not all runs rated. `p_tost` tests
    whether the difference lies within the smallest effect of interest.
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
    p_tost: float | None
    equivalent: bool | None
    verdict: Verdict | None


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
    sesoi: float
    family_size: int
    rows: list[DeltaDifference]


def compute_delta_differences(
    shared: SharedRuns,
    *,
    attributes: Sequence[str] | None = None,
    baselines: Mapping[str, str] | None = None,
    trait_category: str | None = None,
    alpha: float = DEFAULT_ALPHA,
    sesoi: float = DEFAULT_SESOI,
    method: FdrMethod = "bh",
) -> dict[str, DeltaDifferences]:
    """Compare the deltas of runs: Welch's t between groups on d = z(run) - z(reference).

    The group contrast of d is the difference of the two deltas.

    Args:
        shared: The runs.
        attributes: Attributes to report; None = all.
        baselines: The category to compare against, by attribute; default: most personas.
        trait_category: A trait category, or None for all traits.
        alpha: Level of `significant` and of the equivalence test.
        sesoi: Smallest effect of interest in rating points, the margin of equivalence.
        method: Whether `significant` and `verdict` follow `q_value` (`bh`) or `q_by` (`by`).

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
    contrasts = prepare_contrasts(shared.cells[0], names, reference[0].scores.enters, baselines)
    scores = [stack_scores(own) for own in trait_sets]
    moments = {
        f"{place} {name}": contrast.moments(scores[place] - scores[0])
        for place in range(1, len(scores))
        for name, contrast in contrasts.items()
    }
    p_values = {
        f"{place} {name}": _p_values(contrast, moments[f"{place} {name}"])
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
                (p_values[key][:, at], q_value[key][:, at], q_by[key][:, at]),
                alpha,
                sesoi,
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
            "sesoi": sesoi,
            "family_size": size,
            "rows": rows,
        }
    return tables


def _p_values(contrast: GroupContrasts, moments: Moments) -> FloatArray:
    """Welch p as `GroupContrasts.p_values`; exact permutation where both groups are constant."""
    p_values = contrast.p_values(moments)
    if contrast.targets:
        welch = compute_welch(moments.at(contrast.base), moments)
        for at in np.argwhere(welch.status == "zero_variance"):
            place = tuple(at)
            if place[0] in contrast.targets:
                p_values[place] = _constant_p(welch, place)
    return p_values


def _constant_p(welch: Welch, at: tuple[int, ...]) -> float:
    """Two-sided p of two constant groups: 1 if they are equal, else as rare as this labelling."""
    n_base, n_cat = int(welch.n_base[at]), int(welch.n_cat[at])
    if abs(welch.delta[at]) <= ZERO_VARIANCE**0.5:
        return 1.0
    return (2 if n_base == n_cat else 1) / comb(n_base + n_cat, n_cat)


def _p_tost(welch: Welch, sesoi: float) -> FloatArray:
    """(G,) p of equivalence; NaN without a test."""
    p_tost = compute_equivalence(welch, sesoi).p_value
    for i in np.flatnonzero(welch.status == "zero_variance"):
        rarest = 1 / comb(int(welch.n_base[i] + welch.n_cat[i]), int(welch.n_cat[i]))
        p_tost[i] = rarest if abs(welch.delta[i]) < sesoi else 1.0
    return p_tost


def _delta_rows(
    pair: tuple[int, int],
    contrast: GroupContrasts,
    trait_set: TraitSet,
    moments: Moments,
    of_reference: Moments,
    tested: tuple[FloatArray, FloatArray, FloatArray],
    alpha: float,
    sesoi: float,
    method: FdrMethod,
) -> list[DeltaDifference]:
    """Rows of one run and attribute; the arrays are (G,), `tested` holds p, BH and BY."""
    welch = compute_welch(moments.at(contrast.base), moments)
    equivalence = _p_tost(welch, sesoi)
    reference = of_reference.mean - of_reference.at(contrast.base).mean
    rows: list[DeltaDifference] = []
    for i in contrast.targets:
        p_value, q_value, q_by = (none_if_nan(values[i]) for values in tested)
        p_tost = none_if_nan(equivalence[i])
        significant = is_significant(q_by if method == "by" else q_value, alpha)
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
                "p_value": p_value,
                "q_value": q_value,
                "q_by": q_by,
                "significant": significant,
                "p_tost": p_tost,
                "equivalent": is_significant(p_tost, alpha),
                "verdict": judge(significant, p_tost, alpha),
            }
        )
    return rows
