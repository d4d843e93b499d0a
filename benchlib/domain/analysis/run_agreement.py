"""How alike runs rate the cells that they share; described, not tested."""

from typing import TypedDict

import numpy as np

from benchlib.domain.analysis.cells import Cells
from benchlib.domain.analysis.shared_runs import SharedRuns
from benchlib.domain.analysis.trait_sets import find_trait_set, select_trait_sets
from benchlib.domain.arrays import FloatArray
from benchlib.domain.stats.welch import none_if_nan


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


def _mean(values: FloatArray) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def _correlation(first: FloatArray, second: FloatArray) -> float | None:
    """Pearson's r; None below three pairs or where one side is constant."""
    known = ~np.isnan(first) & ~np.isnan(second)
    if known.sum() < 3 or np.ptp(first[known]) == 0 or np.ptp(second[known]) == 0:
        return None
    return none_if_nan(np.corrcoef(first[known], second[known])[0, 1])
