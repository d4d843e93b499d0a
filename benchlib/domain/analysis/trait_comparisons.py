"""Trait-by-trait comparisons behind the forests of a run, corrected together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchlib.domain.analysis.cells import Cells
from benchlib.domain.analysis.stratified_cliffs import compute_histograms
from benchlib.domain.analysis.trait_sets import (
    GroupContrasts,
    TraitSet,
    correct_together,
    find_trait_set,
    prepare_contrasts,
    select_trait_sets,
)
from benchlib.domain.arrays import BoolArray, FloatArray, IntArray
from benchlib.domain.errors import InvalidInput
from benchlib.domain.stats.permutation import DEFAULT_N_PERM, compute_max_t_p
from benchlib.domain.stats.pooling import MetaMethod, covariance_of_means
from benchlib.domain.stats.ranks import (
    CliffsDelta,
    MannWhitney,
    compute_cliffs_delta,
    compute_mann_whitney,
)
from benchlib.domain.stats.two_groups import TwoGroups
from benchlib.domain.stats.welch import (
    DEFAULT_ALPHA,
    DEFAULT_SESOI,
    FdrMethod,
    Moments,
)


@dataclass(frozen=True, slots=True)
class ForestOptions:
    """What a forest shows beyond its attribute.

    Attributes:
        min_n: Traits rated by fewer personas in either group are left out of the rows and pools.
        alpha: Level of `significant` and of the equivalence test.
        sesoi: Smallest effect size of interest, rating points.
        method: Whether `significant` and `verdict` follow `q_value` (`bh`) or `q_by` (`by`).
        poolings: Textbook poolings to add, for description only.
        max_t: Whether to add `p_max_t`, the strict correction within one category's rows.
        n_perm: Draws for `max_t`.
    """

    min_n: int = 0
    alpha: float = DEFAULT_ALPHA
    sesoi: float = DEFAULT_SESOI
    method: FdrMethod = "bh"
    poolings: tuple[MetaMethod, ...] = ()
    max_t: bool = False
    n_perm: int = DEFAULT_N_PERM


@dataclass(frozen=True, slots=True, eq=False)
class TraitStudy:
    """What all forests of a run share.

    Attributes:
        trait_sets: All trait sets; the first holds every trait of the study, (T,).
        at: Position of the trait set that is shown.
        contrasts: Attributes with their baselines.
        moments: (G, T) moments of the cells by attribute.
        compared: (G, T) comparisons of the cells with the baseline, by attribute.
        q_value: (G, T) corrected p by attribute, over the run.
        q_by: The same by Benjamini-Yekutieli.
        family_size: Number of tests in the run.
        neutral: Whether this is about neutral traits.
    """

    trait_sets: list[TraitSet]
    at: int
    contrasts: dict[str, GroupContrasts]
    moments: dict[str, Moments]
    compared: dict[str, TwoGroups]
    q_value: dict[str, FloatArray]
    q_by: dict[str, FloatArray]
    family_size: int
    neutral: bool

    @classmethod
    def prepare(
        cls,
        cells: Cells,
        baselines: Mapping[str, str] | None,
        trait_category: str | None,
        *,
        neutral: bool,
    ) -> "TraitStudy":
        """Compute the p of every trait row, so that all can be corrected together."""
        trait_sets = select_trait_sets(cells, neutral=neutral)
        names = [str(name) for name in cells.attributes.columns]
        contrasts = prepare_contrasts(cells, names, trait_sets[0].scores.enters, baselines)
        centred = trait_sets[0].cells.centred
        moments, compared = {}, {}
        for name, contrast in contrasts.items():
            moments[name] = contrast.moments(centred)
            comparable = _find_comparable(contrast, trait_sets[0])
            compared[name] = contrast.compare(centred, moments[name], comparable)
        p_values = {name: comparison.p_value for name, comparison in compared.items()}
        return cls(
            trait_sets=trait_sets,
            at=find_trait_set(trait_sets, trait_category),
            contrasts=contrasts,
            moments=moments,
            compared=compared,
            q_value=correct_together(p_values, "bh"),
            q_by=correct_together(p_values, "by"),
            family_size=sum(int(np.isfinite(p).sum()) for p in p_values.values()),
            neutral=neutral,
        )

    @property
    def trait_set(self) -> TraitSet:
        """The trait set that is shown."""
        return self.trait_sets[self.at]

    def scopes(self) -> list[TraitSet]:
        """What is pooled: the trait set shown, and each trait category in it that has a trait."""
        if self.trait_set.trait_category is not None:
            return [self.trait_set]
        return [
            self.trait_set,
            *(trait_set for trait_set in self.trait_sets[1:] if trait_set.cells.n_traits),
        ]


@dataclass(frozen=True, slots=True, eq=False)
class TraitComparison:
    """One category against the baseline, trait by trait; arrays are (T,) over the study's traits.

    Attributes:
        base: Position of the baseline.
        target: Position of the category.
        test: Comparisons of the cells.
        cliffs: Cliff's delta.
        mann_whitney: Mann-Whitney test.
        listed: Traits of the trait set with enough raters.
        p_max_t: Strictly corrected p; NaN where not asked for.
        cov_base: (T, T) covariance of the baseline's trait means.
        cov_cat: (T, T) the same of the category.
    """

    base: int
    target: int
    test: TwoGroups
    cliffs: CliffsDelta
    mann_whitney: MannWhitney
    listed: BoolArray
    p_max_t: FloatArray
    cov_base: FloatArray
    cov_cat: FloatArray


def compare_traits(
    study: TraitStudy,
    contrast: GroupContrasts,
    targets: Sequence[int],
    options: ForestOptions,
    rng: np.random.Generator | None,
) -> list[TraitComparison]:
    """Compare categories with the baseline, trait by trait.

    Args:
        study: The run's traits.
        contrast: The attribute.
        targets: Positions of the categories to compare.
        options: Which traits are listed, and whether to compute the max-t correction.
        rng: Source of draws for that correction.

    Returns:
        One comparison per target.

    Raises:
        InvalidInput: Draws are needed, and there is no `rng`.
    """
    if not targets:
        return []
    cells, codes = study.trait_sets[0].cells, contrast.grouping.codes
    moments = study.moments[contrast.grouping.attribute]
    histograms = compute_histograms(cells, codes, len(contrast.grouping.categories))
    shown = columns_of(study.trait_sets[0], study.trait_set)
    in_set = np.isin(np.arange(cells.n_traits), shown)

    def covariance(group: int) -> FloatArray:
        ratings = cells.centred[codes == group]
        rated = ~np.isnan(ratings)
        residuals = ratings - moments.mean[group]
        return covariance_of_means(np.where(rated, residuals, 0.0), rated)

    base = contrast.base
    cov_base = covariance(base)
    comparisons = []
    for target in targets:
        test = study.compared[contrast.grouping.attribute].at(target)
        listed = in_set & (np.minimum(test.n_base, test.n_cat) >= options.min_n)
        comparisons.append(
            TraitComparison(
                base=base,
                target=target,
                test=test,
                cliffs=compute_cliffs_delta(histograms[base], histograms[target]),
                mann_whitney=compute_mann_whitney(histograms[base], histograms[target]),
                listed=listed,
                p_max_t=_max_t(cells, codes, (base, target), listed, options, rng),
                cov_base=cov_base,
                cov_cat=covariance(target),
            )
        )
    return comparisons


def _find_comparable(contrast: GroupContrasts, everything: TraitSet) -> BoolArray | None:
    """(G, T) where the raters of a trait are connected through shared traits; None = everywhere."""
    scores = everything.scores
    if scores.component.max(initial=0) <= 0 and scores.stratum is scores.component:
        return None
    rated = everything.cells.n_answers > 0
    return np.column_stack([contrast.find_comparable(scores, column) for column in rated.T])


def _max_t(
    cells: Cells,
    codes: IntArray,
    pair: tuple[int, int],
    listed: BoolArray,
    options: ForestOptions,
    rng: np.random.Generator | None,
) -> FloatArray:
    p_values = np.full(len(listed), np.nan)
    if options.max_t and listed.any():
        if rng is None:
            raise InvalidInput("A max-t correction needs draws; hand in a random generator.")
        base, cat = (cells.centred[codes == group][:, listed] for group in pair)
        p_values[listed] = compute_max_t_p(base, cat, rng, options.n_perm)
    return p_values


def columns_of(everything: TraitSet, trait_set: TraitSet) -> IntArray:
    """Positions of the traits of a set among all traits of the study."""
    return np.searchsorted(everything.cells.trait_ids, trait_set.cells.trait_ids)
