"""Cliff's delta of a run: traits as strata, personas as clusters."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from benchlib.domain.analysis.cells import Cells
from benchlib.domain.arrays import FloatArray, IntArray
from benchlib.domain.stats.ranks import (
    CliffsDelta,
    cliffs_from_parts,
    influence_variance,
    placements,
)
from benchlib.domain.vocabulary import N_POINTS

N_HALF_POINTS: Final = 2 * N_POINTS + 1
"""Bins of a histogram of `Cells.half_points`; bin 0 (not rated) and bin 1 stay empty."""


@dataclass(frozen=True, slots=True, eq=False)
class StratifiedCliffs:
    """Cliff's delta averaged over traits, per category.

    Attributes:
        cliffs: (G,) the mean over traits, with inference clustered by persona.
        k_traits: (G,) traits that both groups rated.
        by_trait: (G, T) delta per trait; NaN where a group has no rating.
    """

    cliffs: CliffsDelta
    k_traits: IntArray
    by_trait: FloatArray


def compute_stratified_cliffs(
    cells: Cells, codes: IntArray, n_groups: int, base: int
) -> StratifiedCliffs:
    """Average Cliff's delta over traits, for every category of an attribute.

    Pooling answers over traits would add the spread of the traits to both groups and shrink the
    delta; here each trait is compared within itself. Each persona's placements are averaged over
    traits, so the interval accounts for the ratings of one persona being correlated (as in
    Obuchowski's clustered ROC). With a single trait this is `compute_cliffs_delta`.

    Args:
        cells: Cells of the trait set; reads `half_points`.
        codes: (P,) category of each persona; negative = does not take part.
        n_groups: Number of categories G.
        base: The baseline; -1 = none, so nothing is defined.

    Returns:
        NaN for the baseline itself.
    """
    if base < 0:
        nothing = np.full(n_groups, np.nan)
        return StratifiedCliffs(
            cliffs=CliffsDelta(nothing, nothing, nothing, nothing, nothing, nothing),
            k_traits=np.zeros(n_groups, dtype=np.int64),
            by_trait=np.full((n_groups, cells.n_traits), np.nan),
        )
    histograms = compute_histograms(cells, codes, n_groups)
    sizes = np.bincount(codes[codes >= 0], minlength=n_groups).astype(np.float64)
    n_rated = histograms.sum(axis=-1)  # (G, T)
    with np.errstate(divide="ignore", invalid="ignore"):
        above = 2 * placements(histograms[base]) / n_rated[base][:, None] - 1  # (T, bins)
        by_trait = (histograms * above).sum(axis=-1) / n_rated  # (G, T)
        below = 1 - 2 * placements(histograms) / n_rated[..., None]  # (G, T, bins)
        by_trait[base] = np.nan
        shared = ~np.isnan(by_trait)
        k_traits = shared.sum(axis=1)
        delta = np.where(shared, by_trait, 0.0).sum(axis=1) / k_traits
        weight = sizes[:, None] / n_rated / k_traits[:, None]
        weight_base = sizes[base] / n_rated[base] / k_traits[:, None]
        influence = (above - by_trait[..., None]) * weight[..., None]
        influence_base = (below - by_trait[..., None]) * weight_base[..., None]
    for table in (influence, influence_base):
        table[~shared] = 0.0
        table[..., 0] = 0.0  # not rated
    bins = np.arange(cells.n_traits) * N_HALF_POINTS + cells.half_points.astype(np.intp)
    members = [np.flatnonzero(codes == group) for group in range(n_groups)]
    base_bins = bins[members[base]]
    var_cat, var_base = np.full(n_groups, np.nan), np.full(n_groups, np.nan)
    for group in range(n_groups):
        if k_traits[group] > 0:
            var_cat[group] = influence_variance(influence[group], bins[members[group]])
            var_base[group] = influence_variance(influence_base[group], base_bins)
    return StratifiedCliffs(
        cliffs=cliffs_from_parts(delta, var_base, var_cat, sizes[base], sizes),
        k_traits=k_traits,
        by_trait=by_trait,
    )


def compute_histograms(cells: Cells, codes: IntArray, n_groups: int) -> IntArray:
    """Count the personas per group, trait and half point of the aligned scale.

    Args:
        cells: Cells of the trait set.
        codes: (P,) group of each persona; negative = in none.
        n_groups: Number of groups G.

    Returns:
        (G, T, N_HALF_POINTS) counts; bin h holds the rating h / 2, bin 0 (not rated) is emptied.
    """
    member = codes >= 0
    shape = (n_groups, cells.n_traits, N_HALF_POINTS)
    half_points = cells.half_points if member.all() else cells.half_points[member]
    start = codes[member, None] * cells.n_traits + np.arange(cells.n_traits)
    bins = start * N_HALF_POINTS + half_points
    counts = np.bincount(bins.ravel(), minlength=int(np.prod(shape))).reshape(shape)
    counts[..., 0] = 0
    return counts.astype(np.int64)
