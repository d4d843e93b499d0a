"""Several runs reduced to what all of them rated: personas, traits and cells, matched by id."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypedDict

import numpy as np
import pandas as pd

from benchlib.domain.analysis.answer_grid import AnswerGrid
from benchlib.domain.analysis.cells import Cells, align_valence, compute_cells, reverse_scale
from benchlib.domain.arrays import BoolArray, FloatArray, IntArray
from benchlib.domain.errors import InvalidInput

FEWEST_RUNS: Final = 2
MOST_RUNS: Final = 8


class RunShare(TypedDict):
    """How much of a run is compared. A cell is a persona and a trait with a rating."""

    run_id: int
    n_personas: int
    n_traits: int
    n_cells: int
    n_personas_dropped: int
    n_traits_dropped: int
    n_cells_dropped: int


@dataclass(frozen=True, slots=True, eq=False)
class SharedRuns:
    """Runs reduced to what all of them rated.

    Attributes:
        run_ids: The reference first.
        cells: Of each run, in that order: the same personas, traits and rated cells, centred by
            trait and scale order over these. Where all runs rated a cell in the same scale order,
            answers in other orders are left out. Attributes and names of traits are those of the
            reference.
        ratings: Of each run, (2, P, T) aligned ratings 1..5 of these cells by scale order (`in`,
            `rev`), with every order the run rated; NaN = not rated.
        shares: How much of each run that is.
    """

    run_ids: tuple[int, ...]
    cells: tuple[Cells, ...]
    ratings: tuple[FloatArray, ...]
    shares: tuple[RunShare, ...]

    @property
    def n_cells(self) -> int:
        """Cells with a rating in every run."""
        return int((self.cells[0].n_answers > 0).sum())


def compute_shared_runs(
    grids: Mapping[int, AnswerGrid], attributes: pd.DataFrame, *, use_expected: bool = True
) -> SharedRuns:
    """Keep the personas, traits and cells that every run rated.

    Args:
        grids: Answers by run id, the reference first; personas and trait versions match by id.
        attributes: One categorical column per attribute; rows as the personas of the reference.
        use_expected: Whether expected ratings replace digits where they exist.

    Raises:
        InvalidInput: Fewer than two or more than eight runs, or nothing is rated in all of them.
    """
    if not FEWEST_RUNS <= len(grids) <= MOST_RUNS:
        raise InvalidInput(f"Compare {FEWEST_RUNS} to {MOST_RUNS} runs; {len(grids)} were given.")
    every = list(grids.values())
    personas = _in_all([grid.persona_ids for grid in every])
    traits = _in_all([grid.trait_ids for grid in every])
    if not len(personas):
        raise InvalidInput("The runs share no persona; compare runs on the same personas.")
    if not len(traits):
        raise InvalidInput("The runs share no trait version; compare runs on the same traits.")
    places = [
        (np.searchsorted(grid.persona_ids, personas), np.searchsorted(grid.trait_ids, traits))
        for grid in every
    ]
    answered: list[BoolArray] = [np.asarray(np.any(grid.rated, axis=0)) for grid in every]
    rated = np.logical_and.reduce(
        [own[np.ix_(*place)] for own, place in zip(answered, places, strict=True)]
    )
    kept_personas, kept_traits = rated.any(axis=1), rated.any(axis=0)
    if not kept_personas.any():
        raise InvalidInput(
            "No question was rated in all of these runs; leave out a run, or finish it first."
        )
    rated = rated[np.ix_(kept_personas, kept_traits)]
    places = [(rows[kept_personas], columns[kept_traits]) for rows, columns in places]
    names = every[0].traits.iloc[places[0][1]].reset_index(drop=True)
    described = attributes.iloc[places[0][0]].reset_index(drop=True)
    own = [
        replace(_restrict(grid, *place, rated), traits=names)
        for grid, place in zip(every, places, strict=True)
    ]
    in_all = np.logical_and.reduce([grid.rated for grid in own])
    compared = in_all | ~in_all.any(axis=0)
    return SharedRuns(
        run_ids=tuple(grids),
        cells=tuple(
            replace(
                compute_cells(_keep_answers(grid, compared), [], use_expected=use_expected),
                attributes=described,
            )
            for grid in own
        ),
        ratings=tuple(_aligned(grid, use_expected=use_expected) for grid in own),
        shares=tuple(_share(run_id, grid, rated) for run_id, grid in grids.items()),
    )


def _in_all(ids: Sequence[IntArray]) -> IntArray:
    """Ids that every run has, ascending."""
    shared = ids[0]
    for others in ids[1:]:
        shared = np.intersect1d(shared, others, assume_unique=True)
    return shared


def _restrict(grid: AnswerGrid, rows: IntArray, columns: IntArray, rated: BoolArray) -> AnswerGrid:
    """Some personas and traits of a run, with the answers of the cells marked True."""
    at = np.ix_(np.arange(2), rows, columns)
    part = AnswerGrid(
        persona_ids=grid.persona_ids[rows],
        trait_ids=grid.trait_ids[columns],
        traits=grid.traits.iloc[columns].reset_index(drop=True),
        digits=grid.digits[at],
        expected=None if grid.expected is None else grid.expected[at],
    )
    return _keep_answers(part, np.broadcast_to(rated, part.digits.shape))


def _keep_answers(grid: AnswerGrid, keep: BoolArray) -> AnswerGrid:
    """The answers marked True in a (2, P, T) mask; the others become unasked."""
    return replace(
        grid,
        digits=np.where(keep, grid.digits, np.int8(0)),
        expected=None if grid.expected is None else np.where(keep, grid.expected, np.nan),
    )


def _aligned(grid: AnswerGrid, *, use_expected: bool) -> FloatArray:
    """(2, P, T) aligned ratings 1..5; NaN = not rated."""
    raw = np.where(grid.rated, grid.digits, np.nan)
    if use_expected and grid.expected is not None:
        raw = np.where(grid.rated & ~np.isnan(grid.expected), grid.expected, raw)
    is_reversed = np.array([False, True])[:, None, None]
    valence = grid.traits["valence"].to_numpy(dtype=np.int8)
    return align_valence(reverse_scale(raw, is_reversed), valence)


def _share(run_id: int, grid: AnswerGrid, rated: BoolArray) -> RunShare:
    n_cells = int(grid.rated.any(axis=0).sum())
    n_personas, n_traits = grid.digits.shape[1:]
    return {
        "run_id": run_id,
        "n_personas": n_personas,
        "n_traits": n_traits,
        "n_cells": n_cells,
        "n_personas_dropped": n_personas - rated.shape[0],
        "n_traits_dropped": n_traits - rated.shape[1],
        "n_cells_dropped": n_cells - int(rated.sum()),
    }
