"""Several runs reduced to what all of them rated: personas, traits and cells, matched by id."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypedDict

import numpy as np

from benchlib.domain.analysis.cells import Cells
from benchlib.domain.arrays import BoolArray, IntArray
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
        cells: Of each run, in that order: the same personas, traits and rated cells, centred again
            by trait over these. Attributes and names of traits are those of the reference.
        shares: How much of each run that is.
    """

    run_ids: tuple[int, ...]
    cells: tuple[Cells, ...]
    shares: tuple[RunShare, ...]

    @property
    def n_cells(self) -> int:
        """Cells with a rating in every run."""
        return int((self.cells[0].n_answers > 0).sum())


def compute_shared_runs(runs: Mapping[int, Cells]) -> SharedRuns:
    """Keep the personas, traits and cells that every run rated.

    Args:
        runs: Cells by run id, the reference first; personas and trait versions match by id.

    Raises:
        InvalidInput: Fewer than two or more than eight runs, or nothing is rated in all of them.
    """
    if not FEWEST_RUNS <= len(runs) <= MOST_RUNS:
        raise InvalidInput(f"Compare {FEWEST_RUNS} to {MOST_RUNS} runs; {len(runs)} were given.")
    every = list(runs.values())
    reference = every[0]
    personas = _in_all([cells.persona_ids for cells in every])
    traits = _in_all([cells.trait_ids for cells in every])
    if not len(personas):
        raise InvalidInput("The runs share no persona; compare runs on the same personas.")
    if not len(traits):
        raise InvalidInput("The runs share no trait version; compare runs on the same traits.")
    places = [
        (np.searchsorted(cells.persona_ids, personas), np.searchsorted(cells.trait_ids, traits))
        for cells in every
    ]
    rated = np.logical_and.reduce(
        [
            cells.n_answers[np.ix_(rows, columns)] > 0
            for cells, (rows, columns) in zip(every, places, strict=True)
        ]
    )
    kept_personas, kept_traits = rated.any(axis=1), rated.any(axis=0)
    if not kept_personas.any():
        raise InvalidInput(
            "No question was rated in all of these runs; leave out a run, or finish it first."
        )
    rated = rated[np.ix_(kept_personas, kept_traits)]
    places = [(rows[kept_personas], columns[kept_traits]) for rows, columns in places]
    return SharedRuns(
        run_ids=tuple(runs),
        cells=tuple(
            _restrict(cells, *place, rated, reference, *places[0])
            for cells, place in zip(every, places, strict=True)
        ),
        shares=tuple(_share(run_id, cells, rated) for run_id, cells in runs.items()),
    )


def _in_all(ids: Sequence[IntArray]) -> IntArray:
    """Ids that every run has, ascending."""
    shared = ids[0]
    for others in ids[1:]:
        shared = np.intersect1d(shared, others, assume_unique=True)
    return shared


def _restrict(
    cells: Cells,
    rows: IntArray,
    columns: IntArray,
    rated: BoolArray,
    reference: Cells,
    reference_rows: IntArray,
    reference_columns: IntArray,
) -> Cells:
    """Some cells of a run, centred by trait over these."""
    centred = np.where(rated, cells.centred[np.ix_(rows, columns)], np.nan)
    shift = np.nansum(centred, axis=0) / rated.sum(axis=0)
    answers = np.where(rated, cells.n_answers[np.ix_(rows, columns)], 0).astype(np.int16)
    return Cells(
        persona_ids=cells.persona_ids[rows],
        trait_ids=cells.trait_ids[columns],
        traits=reference.traits.iloc[reference_columns].reset_index(drop=True),
        attributes=reference.attributes.iloc[reference_rows].reset_index(drop=True),
        centred=centred - shift,
        half_points=np.where(rated, cells.half_points[np.ix_(rows, columns)], 0).astype(np.int8),
        n_answers=answers,
        trait_means=cells.trait_means[columns] + shift,
        expected_by_trait=np.minimum(cells.expected_by_trait[columns], answers.sum(axis=0)),
    )


def _share(run_id: int, cells: Cells, rated: BoolArray) -> RunShare:
    n_cells = int((cells.n_answers > 0).sum())
    return {
        "run_id": run_id,
        "n_personas": cells.n_personas,
        "n_traits": cells.n_traits,
        "n_cells": n_cells,
        "n_personas_dropped": cells.n_personas - rated.shape[0],
        "n_traits_dropped": cells.n_traits - rated.shape[1],
        "n_cells_dropped": n_cells - int(rated.sum()),
    }
