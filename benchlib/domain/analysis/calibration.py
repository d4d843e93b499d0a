"""Does the analysis keep its error rates on this run? Placebo attributes tell.

Personas are labelled at random, in groups of the sizes of a real attribute, so nothing that is
found for such an attribute is real: of all its tests about one in twenty falls below .05. Ratings,
refusals and group sizes are those of the run, so what makes a test fail here makes it fail there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypedDict

import numpy as np
import scipy

from benchlib.domain.analysis.cells import Cells
from benchlib.domain.analysis.trait_sets import (
    GroupContrasts,
    prepare_contrasts,
    repeated_trait_sets,
    select_trait_sets,
    stack_scores,
)
from benchlib.domain.arrays import FloatArray, IntArray
from benchlib.domain.stats.brown_forsythe import compute_brown_forsythe
from benchlib.domain.stats.welch import Moments

N_PLACEBOS: Final = 200
LEVELS: Final = (0.05, 0.01)

BEYOND_CHANCE: Final = 4.0
"""Standard errors above the level from which on a share is no longer put down to chance."""

_ROUNDING: Final = 1e-12
"""Variances below this are rounding errors of sums of squares."""

TestKind = Literal["deltas", "trait_rows", "attributes"]
CalibrationVerdict = Literal["ok", "conservative", "too_many", "not_tested"]


class CalibrationRow(TypedDict):
    """What placebo attributes give in one kind of test; None = nothing could be tested.

    `share_05` and `share_01` of `n_tests` p-values lie below .05 and .01, where `expected_05` and
    `expected_01` are due; up to `limit_05` and `limit_01` is put down to chance.
    """

    kind: TestKind
    n_tests: int
    n_attributes: int
    share_05: float | None
    expected_05: float
    limit_05: float | None
    share_01: float | None
    expected_01: float
    limit_01: float | None
    verdict: CalibrationVerdict


class Calibration(TypedDict):
    """All kinds of tests on the placebo attributes of a run."""

    n_placebos: int
    rows: list[CalibrationRow]


def compute_calibration(
    cells: Cells, rng: np.random.Generator, *, n_placebos: int = N_PLACEBOS
) -> Calibration:
    """Test attributes that mean nothing, by the tests that panels use.

    Tests of one placebo attribute depend on each other: its traits share personas, its categories
    a baseline. Placebo attributes are independent given the ratings. So the standard error of a
    share is read from its spread over placebo attributes, never below that of independent tests.

    Args:
        cells: Cells of the run; real effects do no harm.
        rng: Source of the labels.
        n_placebos: Placebo attributes; the real ones lend their group sizes in turn.

    Returns:
        Three rows: deltas on every trait set, trait rows of forests, and F* of whole attributes.
        `too_many` where a share lies `BEYOND_CHANCE` standard errors above its level,
        `conservative` where it lies as far below (nearly constant ratings), `not_tested` without a
        p-value.
    """
    trait_sets = select_trait_sets(cells)
    once = ~repeated_trait_sets(trait_sets)
    names = [str(name) for name in cells.attributes.columns]
    contrasts = [
        contrast
        for contrast in prepare_contrasts(cells, names, trait_sets[0].scores.enters).values()
        if contrast.targets
    ]
    everything = trait_sets[0]
    tables = _Table.of(stack_scores(trait_sets)[:, once]), _Table.of(everything.cells.centred)
    kinds: tuple[TestKind, TestKind] = ("deltas", "trait_rows")
    counts: dict[TestKind, list[IntArray]] = {"deltas": [], "trait_rows": [], "attributes": []}
    for i in range(n_placebos if contrasts else 0):
        placebo = _shuffle(contrasts[i % len(contrasts)], rng)
        scores, traits = (table.moments(placebo) for table in tables)
        for kind, table, moments in zip(kinds, tables, (scores, traits), strict=True):
            counts[kind].append(_count(placebo.compare(table.given, moments).p_value))
        size = len(placebo.grouping.tested)
        tested = Moments(scores.n[:size], scores.mean[:size], scores.var[:size])
        counts["attributes"].append(_count(compute_brown_forsythe(tested).p_value))
    return {
        "n_placebos": n_placebos,
        "rows": [_row(kind, found) for kind, found in counts.items()],
    }


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """(P, R) values as given (NaN = missing), and what moments are made of.

    `values` has 0 where one is missing; `present` None = everywhere.
    """

    given: FloatArray
    values: FloatArray
    squares: FloatArray
    present: FloatArray | None

    @classmethod
    def of(cls, values: FloatArray) -> "_Table":
        present = ~np.isnan(values)
        filled = np.where(present, values, 0.0)
        seen = None if present.all() else present.astype(np.float64)
        return cls(values, filled, np.square(filled), seen)

    def moments(self, contrast: GroupContrasts) -> Moments:
        """(G, R) moments by category from sums; values are centred, so little is cancelled."""
        codes, size = contrast.grouping.codes, len(contrast.grouping.categories)
        at = np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=size))])
        members = np.argsort(codes, kind="stable")
        indicator = scipy.sparse.csr_array(
            (np.ones(len(codes)), members, at), shape=(size, len(codes))
        )
        if self.present is None:
            n = np.repeat(np.diff(at)[:, None].astype(np.float64), self.values.shape[1], axis=1)
        else:
            n = indicator @ self.present
        mean = np.where(n > 0, indicator @ self.values / np.maximum(n, 1), np.nan)
        square = indicator @ self.squares - n * np.nan_to_num(mean) ** 2
        var = np.where(n > 1, square / np.maximum(n - 1, 1), np.nan)
        var[var <= _ROUNDING] = 0.0
        return Moments(n.astype(np.int64), mean, var)


def _shuffle(contrast: GroupContrasts, rng: np.random.Generator) -> GroupContrasts:
    codes = rng.permutation(contrast.grouping.codes)
    return replace(contrast, grouping=replace(contrast.grouping, codes=codes))


def _count(p_values: FloatArray) -> IntArray:
    """(3,) tests, and those below either level."""
    below = [np.count_nonzero(p_values < level) for level in LEVELS]
    return np.array([np.count_nonzero(~np.isnan(p_values)), *below])


def _row(kind: TestKind, counts: Sequence[IntArray]) -> CalibrationRow:
    table = np.array(counts).reshape(-1, 1 + len(LEVELS))
    table = table[table[:, 0] > 0]
    n_tests = int(table[:, 0].sum())
    row: CalibrationRow = {
        "kind": kind,
        "n_tests": n_tests,
        "n_attributes": len(table),
        "share_05": None,
        "expected_05": LEVELS[0],
        "limit_05": None,
        "share_01": None,
        "expected_01": LEVELS[1],
        "limit_01": None,
        "verdict": "not_tested",
    }
    if len(table) < 2:
        return row
    share, error = _share(table[:, 0], table[:, 1:])
    limit = np.array(LEVELS) + BEYOND_CHANCE * error
    row["share_05"], row["share_01"] = map(float, share)
    row["limit_05"], row["limit_01"] = map(float, limit)
    if (share > limit).any():
        row["verdict"] = "too_many"
    elif share[0] < LEVELS[0] - BEYOND_CHANCE * error[0]:
        row["verdict"] = "conservative"
    else:
        row["verdict"] = "ok"
    return row


def _share(n: IntArray, below: IntArray) -> tuple[FloatArray, FloatArray]:
    """Share of tests below each level, and its standard error over placebo attributes."""
    total, k = n.sum(), len(n)
    share = below.sum(axis=0) / total
    apart = below - share * n[:, None]
    spread = np.sqrt(k / (k - 1) * np.square(apart).sum(axis=0)) / total
    levels = np.array(LEVELS)
    return share, np.maximum(spread, np.sqrt(levels * (1 - levels) / total))
