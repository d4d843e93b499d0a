"""Does an attribute matter at all: omnibus tests and the bias index."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, TypedDict

import numpy as np
import scipy

from benchlib.domain.analysis.cells import Cells
from benchlib.domain.analysis.persona_scores import Grouping, compute_grouping
from benchlib.domain.analysis.trait_sets import (
    TraitSet,
    correct_trait_sets,
    count_tests,
    find_trait_set,
    select_trait_sets,
    stack_scores,
)
from benchlib.domain.arrays import IntArray
from benchlib.domain.stats.brown_forsythe import compute_brown_forsythe
from benchlib.domain.stats.ranks import KruskalWallis, compute_kruskal_levels, rank_levels
from benchlib.domain.stats.welch import (
    DEFAULT_ALPHA,
    LOW_N,
    Moments,
    Status,
    compute_moments,
    is_significant,
    none_if_nan,
)

EffectSize = Literal["negligible", "small", "medium", "large"]

_ETA_SQUARED_STEPS: tuple[tuple[float, EffectSize], ...] = (
    (0.01, "negligible"),
    (0.06, "small"),
    (0.14, "medium"),
)


class OmnibusRow(TypedDict):
    """One attribute on one trait set, over all categories but `Unknown`; None = undefined.

    The `bf_` fields belong to Brown and Forsythe's F* on persona scores, and `significant` follows
    `bf_q`. `h_stat`, `p_value`, `q_value`, `eta_squared`, `epsilon_squared` and
    `effect_interpretation` belong to Kruskal-Wallis, the `welch_` fields to Welch's ANOVA; both
    flag too often where groups are many and small, or differ in spread. `sd_between` is the bias
    index: the standard deviation of the true category means in rating points, corrected for
    sampling error, with its 95 % interval; 0 if the means differ less than expected by chance
    (`variance_between` is then negative). `n_groups` and `n_total` count
    categories with two or more personas and their personas.
    """

    attribute: str
    trait_category: str | None
    status: Status
    h_stat: float | None
    p_value: float | None
    q_value: float | None
    bf_f: float | None
    bf_df1: float | None
    bf_df2: float | None
    bf_p: float | None
    bf_q: float | None
    significant: bool | None
    eta_squared: float | None
    epsilon_squared: float | None
    effect_interpretation: EffectSize | None
    welch_f: float | None
    welch_df1: float | None
    welch_df2: float | None
    welch_p: float | None
    welch_q: float | None
    welch_significant: bool | None
    f_stat: float | None
    f_p: float | None
    omega_squared: float | None
    variance_between: float | None
    sd_between: float | None
    sd_between_low: float | None
    sd_between_high: float | None
    n_groups: int
    n_total: int
    n_personas: int
    n_ratings: int
    n_missing: int


class OmnibusSummary(TypedDict):
    """How many attributes are significant by Brown and Forsythe's F* after correction."""

    significant_count: int
    total: int


class Omnibus(TypedDict):
    """All attributes on one trait set."""

    attributes: list[OmnibusRow]
    summary: OmnibusSummary
    trait_category: str | None
    alpha: float
    family_size: int


class OmnibusByCategory(TypedDict):
    """All attributes, for each trait category."""

    categories: dict[str, Omnibus]


@dataclass(frozen=True, slots=True)
class AnalysisOfVariance:
    """One-way analyses of variance; None = undefined.

    Attributes:
        welch_f: Welch's F, for unequal variances; None if a group is constant.
        welch_df1: Groups - 1.
        welch_df2: Its approximate denominator degrees of freedom.
        welch_p: p of Welch's F.
        f: Classic F.
        f_p: Its p.
        omega2: Share of variance between groups, bias-corrected, not cut at 0.
    """

    welch_f: float | None = None
    welch_df1: float | None = None
    welch_df2: float | None = None
    welch_p: float | None = None
    f: float | None = None
    f_p: float | None = None
    omega2: float | None = None


def compute_omnibus(
    cells: Cells,
    *,
    attributes: Sequence[str] | None = None,
    trait_category: str | None = None,
    neutral: bool = False,
    alpha: float = DEFAULT_ALPHA,
) -> Omnibus:
    """Test every attribute as a whole on one trait set.

    Args:
        cells: Cells of the run.
        attributes: Attributes to report; None = all.
        trait_category: A trait category, or None for all traits.
        neutral: True for the neutral traits, on the unaligned scale.
        alpha: Level of `significant`, against q.

    Returns:
        One row per attribute. q-values are corrected over all attributes x trait sets of the run.

    Raises:
        InvalidInput: There is no such attribute or trait category.
    """
    trait_sets = select_trait_sets(cells, neutral=neutral)
    at = find_trait_set(trait_sets, trait_category)
    return _compute_omnibus(cells, trait_sets, [at], attributes, alpha)[0]


def compute_omnibus_by_category(
    cells: Cells,
    *,
    attributes: Sequence[str] | None = None,
    neutral: bool = False,
    alpha: float = DEFAULT_ALPHA,
) -> OmnibusByCategory:
    """Test every attribute as a whole for each trait category.

    Args:
        cells: Cells of the run.
        attributes: Attributes to report; None = all.
        neutral: True for the neutral traits.
        alpha: Level of `significant`, against q.

    Returns:
        `compute_omnibus` by trait category, in lexicographic order.

    Raises:
        InvalidInput: There is no such attribute.
    """
    trait_sets = select_trait_sets(cells, neutral=neutral)
    wanted = range(1, len(trait_sets))
    tables = _compute_omnibus(cells, trait_sets, wanted, attributes, alpha)
    return {"categories": {str(table["trait_category"]): table for table in tables}}


def compute_anova(moments: Moments) -> AnalysisOfVariance:
    """Compute Welch's and the classic one-way ANOVA.

    Args:
        moments: (G,) moments of the groups; groups below two values are left out.

    Returns:
        Nothing with fewer than two groups, or if all values are equal.
    """
    from statsmodels.stats.oneway import anova_generic  # slow to load

    used = moments.n > 1
    n, mean, var = moments.n[used].astype(np.float64), moments.mean[used], moments.var[used]
    k, total = len(n), n.sum()
    if k < 2:
        return AnalysisOfVariance()
    between = float(n @ (mean - n @ mean / total) ** 2)
    within = float((n - 1) @ var)
    if between <= 1e-20 and within <= 0:
        return AnalysisOfVariance()
    ms_between, ms_within = between / (k - 1), within / (total - k)
    f = ms_between / ms_within if ms_within > 0 else None
    welch = anova_generic(mean, var, n, use_var="unequal") if (var > 0).all() else None
    return AnalysisOfVariance(
        welch_f=None if welch is None else float(welch.statistic),
        welch_df1=None if welch is None else float(welch.df_num),
        welch_df2=None if welch is None else float(welch.df_denom),
        welch_p=None if welch is None else float(welch.pvalue),
        f=f,
        f_p=None if f is None else float(scipy.stats.f.sf(f, k - 1, total - k)),
        omega2=(between - (k - 1) * ms_within) / (between + within + ms_within),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Tests:
    """The tests of one attribute on one trait set.

    Attributes:
        brown: By field of `BrownForsythe`; NaN = undefined.
        smallest: Personas in the smallest category that takes part.
        n_constant: Such categories in which all scores are equal.
        comparable: Whether the personas are connected through shared traits.
    """

    brown: dict[str, float]
    anova: AnalysisOfVariance
    kruskal: KruskalWallis
    smallest: int
    n_personas: int
    n_constant: int
    comparable: bool


def _compute_omnibus(
    cells: Cells,
    trait_sets: Sequence[TraitSet],
    wanted: Sequence[int],
    attributes: Sequence[str] | None,
    alpha: float,
) -> list[Omnibus]:
    names = [str(name) for name in cells.attributes.columns]
    groupings = {name: compute_grouping(cells, name) for name in names}
    reported = names if attributes is None else list(attributes)
    for name in reported:
        compute_grouping(cells, name)  # raises for an attribute that does not exist
    levels = [rank_levels(trait_set.scores.z) for trait_set in trait_sets]
    tests = {name: _tests(trait_sets, levels, grouping) for name, grouping in groupings.items()}
    kruskal_p = {
        name: np.array([test.kruskal.p_value for test in row], dtype=np.float64)
        for name, row in tests.items()
    }
    welch_p = {
        name: np.array([test.anova.welch_p for test in row], dtype=np.float64)
        for name, row in tests.items()
    }
    brown_p = {
        name: np.array([test.brown["p_value"] for test in row]) for name, row in tests.items()
    }
    q_values, welch_q, brown_q = (
        correct_trait_sets(p_values, trait_sets, "bh") for p_values in (kruskal_p, welch_p, brown_p)
    )
    tables: list[Omnibus] = []
    for at in wanted:
        rows = [
            _row(
                trait_sets[at],
                groupings[name],
                tests[name][at],
                none_if_nan(q_values[name][at]),
                none_if_nan(welch_q[name][at]),
                none_if_nan(brown_q[name][at]),
                alpha,
            )
            for name in reported
        ]
        tables.append(
            {
                "attributes": rows,
                "summary": {
                    "significant_count": sum(row["significant"] is True for row in rows),
                    "total": len(rows),
                },
                "trait_category": trait_sets[at].trait_category,
                "alpha": alpha,
                "family_size": count_tests(brown_p, trait_sets),
            }
        )
    return tables


def _tests(
    trait_sets: Sequence[TraitSet], levels: Sequence[IntArray], grouping: Grouping
) -> list[_Tests]:
    """Test one attribute on every trait set, given the levels of the trait sets' scores."""
    size = len(grouping.tested)
    codes = np.where(grouping.codes < size, grouping.codes, -1)
    moments = compute_moments(stack_scores(trait_sets), codes, size)
    brown = compute_brown_forsythe(moments)
    tests = []
    for i, trait_set in enumerate(trait_sets):
        n = moments.n[:, i]
        large = np.append(n > 1, False)  # the appended place is for code -1
        takes_part = np.where(trait_set.scores.enters & large[codes], codes, -1)
        comparable = len(np.unique(trait_set.scores.component[takes_part >= 0])) <= 1
        if not comparable:
            takes_part = np.full(len(codes), -1)
        kruskal = compute_kruskal_levels(levels[i], takes_part, size)
        tests.append(
            _Tests(
                brown={
                    field.name: np.nan if kruskal.h is None else getattr(brown, field.name)[i]
                    for field in fields(brown)
                },
                anova=compute_anova(moments.column(i)) if comparable else AnalysisOfVariance(),
                kruskal=kruskal,
                smallest=int(n[n > 1].min(initial=LOW_N)),
                n_personas=int(n.sum()),
                n_constant=int((moments.var[n > 1, i] == 0).sum()),
                comparable=comparable,
            )
        )
    return tests


def _row(
    trait_set: TraitSet,
    grouping: Grouping,
    test: _Tests,
    q_value: float | None,
    welch_q: float | None,
    brown_q: float | None,
    alpha: float,
) -> OmnibusRow:
    members = grouping.codes < len(grouping.tested)
    answers = trait_set.cells.n_answers if members.all() else trait_set.cells.n_answers[members]
    anova, kruskal = test.anova, test.kruskal
    brown = {name: none_if_nan(value) for name, value in test.brown.items()}
    return {
        "attribute": grouping.attribute,
        "trait_category": trait_set.trait_category,
        "status": _status(test),
        "h_stat": kruskal.h,
        "p_value": kruskal.p_value,
        "q_value": q_value,
        "bf_f": brown["f"],
        "bf_df1": brown["df1"],
        "bf_df2": brown["df2"],
        "bf_p": brown["p_value"],
        "bf_q": brown_q,
        "significant": is_significant(brown_q, alpha),
        "eta_squared": kruskal.eta2,
        "epsilon_squared": kruskal.epsilon2,
        "effect_interpretation": _interpret(kruskal.eta2),
        "welch_f": anova.welch_f,
        "welch_df1": anova.welch_df1,
        "welch_df2": anova.welch_df2,
        "welch_p": anova.welch_p,
        "welch_q": welch_q,
        "welch_significant": is_significant(welch_q, alpha),
        "f_stat": anova.f,
        "f_p": anova.f_p,
        "omega_squared": anova.omega2,
        "variance_between": brown["variance_between"],
        "sd_between": brown["sd_between"],
        "sd_between_low": brown["sd_low"],
        "sd_between_high": brown["sd_high"],
        "n_groups": kruskal.n_groups,
        "n_total": kruskal.n,
        "n_personas": test.n_personas,
        "n_ratings": int(answers.sum()),
        "n_missing": int((answers == 0).sum()),
    }


def _status(test: _Tests) -> Status:
    if test.n_personas == 0:
        return "no_data"
    if not test.comparable:
        return "not_comparable"
    if test.kruskal.n_groups < 2:
        return "n_lt_2"
    if test.n_constant == test.kruskal.n_groups:
        return "zero_variance"
    if test.n_constant:
        return "constant_group"
    return "low_n" if test.smallest < LOW_N else "ok"


def _interpret(eta_squared: float | None) -> EffectSize | None:
    """Name the size of an effect by the usual steps .01, .06 and .14 of eta squared."""
    if eta_squared is None:
        return None
    for limit, name in _ETA_SQUARED_STEPS:
        if eta_squared < limit:
            return name
    return "large"
