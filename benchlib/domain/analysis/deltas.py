"""Deltas: how much higher or lower a category is rated than the baseline, per attribute."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict, cast

import numpy as np

from benchlib.domain.analysis.cells import Cells
from benchlib.domain.analysis.persona_scores import Grouping, compute_grouping
from benchlib.domain.analysis.stratified_cliffs import StratifiedCliffs, compute_stratified_cliffs
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
from benchlib.domain.arrays import BoolArray, FloatArray, IntArray
from benchlib.domain.stats.effect_size import compute_hedges_g_interval
from benchlib.domain.stats.two_groups import TwoGroups
from benchlib.domain.stats.welch import (
    DEFAULT_ALPHA,
    DEFAULT_SESOI,
    FdrMethod,
    Moments,
    Status,
    Verdict,
    compute_equivalence,
    compute_q_values,
    is_significant,
    judge,
    none_if_nan,
)


class DeltaRow(TypedDict):
    """One category against the baseline; None = undefined or not tested.

    `count`, `n_personas`, `n_ratings`, `n_missing` and `n_dropped` describe the category. `n_base`
    and `n_cat` are personas, means and SDs are of persona scores on the aligned 1..5 scale.
    `p_value` is what q and verdict follow; `p_perm` is None where Welch's test stands alone, and
    `n_perm` is 0 because it is counted or approximated, not drawn. `k_traits` are rated in both
    groups, `overlap` is their share of the rated traits.
    """

    category: str
    baseline: str | None
    is_baseline: bool
    tested: bool
    status: Status
    count: int
    n_personas: int
    n_ratings: int
    n_missing: int
    n_dropped: int
    n_base: int
    n_cat: int
    mean: float | None
    mean_base: float | None
    mean_cat: float | None
    sd_base: float | None
    sd_cat: float | None
    delta: float | None
    se_delta: float | None
    df: float | None
    t: float | None
    ci_low: float | None
    ci_high: float | None
    ci90_low: float | None
    ci90_high: float | None
    p_value: float | None
    p_welch: float | None
    p_perm: float | None
    n_perm: int
    perm_exact: bool
    q_value: float | None
    q_by: float | None
    q_table: float | None
    significant: bool | None
    hedges_g: float | None
    hedges_g_low: float | None
    hedges_g_high: float | None
    cliffs_delta: float | None
    cliffs_se: float | None
    cliffs_low: float | None
    cliffs_high: float | None
    cliffs_p: float | None
    prob_superior: float | None
    k_traits: int
    overlap: float | None
    p_tost: float | None
    equivalent: bool | None
    verdict: Verdict | None


class Deltas(TypedDict):
    """All categories of one attribute against its baseline, on one trait set."""

    n: int
    attribute: str
    baseline: str | None
    trait_category: str | None
    n_personas: int
    n_dropped: int
    n_traits: int
    alpha: float
    sesoi: float
    family_size: int
    rows: list[DeltaRow]


@dataclass(frozen=True, slots=True, eq=False)
class DeltaFamily:
    """q of every delta of a run: attributes x categories x trait sets.

    Attributes:
        trait_categories: The trait sets, None (all traits) first.
        q_value: Per attribute (G, S), Benjamini-Hochberg; NaN = not tested.
        q_by: The same by Benjamini-Yekutieli.
        size: Number of tests.
    """

    trait_categories: tuple[str | None, ...]
    q_value: dict[str, FloatArray]
    q_by: dict[str, FloatArray]
    size: int


def compute_deltas(
    cells: Cells,
    attribute: str,
    *,
    baseline: str | None = None,
    trait_category: str | None = None,
    neutral: bool = False,
    alpha: float = DEFAULT_ALPHA,
    sesoi: float = DEFAULT_SESOI,
    method: FdrMethod = "bh",
) -> Deltas:
    """Compare every category of one attribute with the baseline.

    As `compute_all_deltas`, whose numbers it repeats for this attribute: q-values are corrected
    over all deltas of the run, not over this table.

    Raises:
        InvalidInput: There is no such attribute, baseline or trait category.
    """
    baselines = None if baseline is None else {attribute: baseline}
    return compute_all_deltas(
        cells,
        attributes=[attribute],
        baselines=baselines,
        trait_category=trait_category,
        neutral=neutral,
        alpha=alpha,
        sesoi=sesoi,
        method=method,
    )[attribute]


def compute_all_deltas(
    cells: Cells,
    *,
    attributes: Sequence[str] | None = None,
    baselines: Mapping[str, str] | None = None,
    trait_category: str | None = None,
    neutral: bool = False,
    alpha: float = DEFAULT_ALPHA,
    sesoi: float = DEFAULT_SESOI,
    method: FdrMethod = "bh",
) -> dict[str, Deltas]:
    """Compare the categories of attributes with their baselines on persona scores.

    By Welch's t in large groups, joined with a permutation where groups are small or hardly vary;
    see `compute_two_groups`.

    Args:
        cells: Cells of the run.
        attributes: Attributes to report; None = all.
        baselines: The category to compare against, by attribute; the default is the one with most
            personas (ties: the lexicographically first).
        trait_category: A trait category, or None for all traits.
        neutral: True for the neutral traits, on the unaligned scale; their tests are a family of
            their own.
        alpha: Level of `significant` and of the equivalence test.
        sesoi: Smallest effect size of interest in rating points, the margin of equivalence.
        method: Whether `significant` and `verdict` follow `q_value` (`bh`) or `q_by` (`by`).

    Returns:
        Per attribute one row per category, `Unknown` last. The baseline and `Unknown` are
        displayed, not tested: their deltas and tests are None, as are those of a category that
        shares no trait with the baseline, directly or through others. `q_value`
        (Benjamini-Hochberg) and `q_by` (Benjamini-Yekutieli) are corrected over all attributes x
        categories x trait sets of the run; `q_table` over the rows of this table only.

    Raises:
        InvalidInput: There is no such attribute, baseline or trait category.
    """
    trait_sets = select_trait_sets(cells, neutral=neutral)
    at = find_trait_set(trait_sets, trait_category)
    names = [str(name) for name in cells.attributes.columns]
    contrasts = prepare_contrasts(cells, names, trait_sets[0].scores.enters, baselines)
    scores = stack_scores(trait_sets)
    moments = {name: contrast.moments(scores) for name, contrast in contrasts.items()}
    compared = {
        name: contrast.compare(
            scores,
            moments[name],
            np.column_stack([contrast.find_comparable(each.scores) for each in trait_sets]),
        )
        for name, contrast in contrasts.items()
    }
    family = compute_delta_family(trait_sets, compared)
    reported = names if attributes is None else list(attributes)
    for name in reported:
        compute_grouping(cells, name)  # raises for an attribute that does not exist
    return {
        name: _table(
            trait_sets[at],
            contrasts[name],
            moments[name].column(at),
            compared[name].column(at),
            _Correction(family.q_value[name][:, at], family.q_by[name][:, at], family.size),
            alpha,
            sesoi,
            method,
        )
        for name in reported
    }


def compute_delta_family(
    trait_sets: Sequence[TraitSet], compared: Mapping[str, TwoGroups]
) -> DeltaFamily:
    """Correct the p of all deltas of a run together.

    Args:
        trait_sets: All trait sets of the run.
        compared: (G, S) comparisons of the persona scores, by attribute.

    Returns:
        q in the shape of the comparisons; baselines and `Unknown` are not tested and not counted.
    """
    p_values = {name: comparison.p_value for name, comparison in compared.items()}
    return DeltaFamily(
        trait_categories=tuple(trait_set.trait_category for trait_set in trait_sets),
        q_value=correct_trait_sets(p_values, trait_sets, "bh"),
        q_by=correct_trait_sets(p_values, trait_sets, "by"),
        size=count_tests(p_values, trait_sets),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Correction:
    """Corrected p of one table: (G,) each, and the size of their family."""

    q_value: FloatArray
    q_by: FloatArray
    family_size: int


@dataclass(frozen=True, slots=True, eq=False)
class _Tally:
    """Counts per category of an attribute, (G,) each."""

    n_ratings: IntArray
    n_missing: IntArray
    n_dropped: IntArray


def _tally(trait_set: TraitSet, grouping: Grouping) -> _Tally:
    answers = trait_set.cells.n_answers

    def by_category(values: IntArray | BoolArray) -> IntArray:
        size = len(grouping.categories)
        return np.bincount(grouping.codes, weights=values, minlength=size).astype(np.int64)

    return _Tally(
        n_ratings=by_category(answers.sum(axis=1)),
        n_missing=by_category((answers == 0).sum(axis=1)),
        n_dropped=by_category(~trait_set.scores.enters),
    )


def _table(
    trait_set: TraitSet,
    contrast: GroupContrasts,
    moments: Moments,
    test: TwoGroups,
    correction: _Correction,
    alpha: float,
    sesoi: float,
    method: FdrMethod,
) -> Deltas:
    """Lay out one attribute; all arrays are (G,) in the order of the categories."""
    grouping, base = contrast.grouping, contrast.base
    tally = _tally(trait_set, grouping)
    reference = moments.at(base)
    hedges = compute_hedges_g_interval(reference, moments)
    tost = compute_equivalence(test, sesoi)
    cliffs = _cliffs(trait_set, contrast)
    n_rated = int((trait_set.cells.n_answers > 0).any(axis=0).sum())
    tested = np.isin(np.arange(len(grouping.categories)), contrast.targets)
    q_table = compute_q_values(test.p_value)
    rows: list[DeltaRow] = []
    for i, category in enumerate(grouping.categories):
        # only a tested category is compared with anything
        compared = _pick if tested[i] and test.status[i] != "not_comparable" else _blank
        k_traits = int(cliffs.k_traits[i]) if tested[i] else 0
        n_personas = int(moments.n[i])
        mean = none_if_nan(trait_set.grand_mean + moments.mean[i])
        q_value, q_by = compared(correction.q_value, i), compared(correction.q_by, i)
        significant = is_significant(q_by if method == "by" else q_value, alpha)
        p_tost = compared(tost.p_value, i)
        rows.append(
            {
                "category": category,
                "baseline": contrast.baseline,
                "is_baseline": i == base,
                "tested": bool(tested[i]),
                "status": cast(Status, str(test.status[i])),
                "count": int(tally.n_ratings[i]),
                "n_personas": n_personas,
                "n_ratings": int(tally.n_ratings[i]),
                "n_missing": int(tally.n_missing[i]),
                "n_dropped": int(tally.n_dropped[i]),
                "n_base": int(reference.n),
                "n_cat": n_personas,
                "mean": mean,
                "mean_base": none_if_nan(trait_set.grand_mean + reference.mean),
                "mean_cat": mean,
                "sd_base": none_if_nan(reference.sd),
                "sd_cat": none_if_nan(moments.sd[i]),
                "delta": compared(test.delta, i),
                "se_delta": compared(test.se, i),
                "df": compared(test.df, i),
                "t": compared(test.t, i),
                "ci_low": compared(test.ci_low, i),
                "ci_high": compared(test.ci_high, i),
                "ci90_low": compared(test.ci90_low, i),
                "ci90_high": compared(test.ci90_high, i),
                "p_value": compared(test.p_value, i),
                "p_welch": compared(test.p_welch, i),
                "p_perm": compared(test.p_perm, i),
                "n_perm": 0,
                "perm_exact": bool(test.perm_exact[i]),
                "q_value": q_value,
                "q_by": q_by,
                "q_table": compared(q_table, i),
                "significant": significant,
                "hedges_g": compared(hedges.g, i),
                "hedges_g_low": compared(hedges.ci_low, i),
                "hedges_g_high": compared(hedges.ci_high, i),
                "cliffs_delta": compared(cliffs.cliffs.delta, i),
                "cliffs_se": compared(cliffs.cliffs.se, i),
                "cliffs_low": compared(cliffs.cliffs.ci_low, i),
                "cliffs_high": compared(cliffs.cliffs.ci_high, i),
                "cliffs_p": compared(cliffs.cliffs.p_value, i),
                "prob_superior": compared(cliffs.cliffs.prob_superior, i),
                "k_traits": k_traits,
                "overlap": k_traits / n_rated if tested[i] and n_rated else None,
                "p_tost": p_tost,
                "equivalent": None if p_tost is None else p_tost < alpha,
                "verdict": judge(significant, p_tost, alpha),
            }
        )
    return {
        "n": trait_set.cells.n_ratings,
        "attribute": grouping.attribute,
        "baseline": contrast.baseline,
        "trait_category": trait_set.trait_category,
        "n_personas": int(trait_set.scores.enters.sum()),
        "n_dropped": trait_set.scores.n_dropped,
        "n_traits": trait_set.cells.n_traits,
        "alpha": alpha,
        "sesoi": sesoi,
        "family_size": correction.family_size,
        "rows": rows,
    }


def _cliffs(trait_set: TraitSet, contrast: GroupContrasts) -> StratifiedCliffs:
    codes = np.where(trait_set.scores.enters, contrast.tested_codes, -1)
    return compute_stratified_cliffs(
        trait_set.cells, codes, len(contrast.grouping.categories), contrast.base
    )


def _pick(values: FloatArray, index: int) -> float | None:
    return none_if_nan(values[index])


def _blank(values: FloatArray, index: int) -> None:
    return None
