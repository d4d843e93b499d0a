"""The panels of a run: all traits, and each trait category by itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchlib.domain.analysis.cells import Cells, select_traits
from benchlib.domain.analysis.persona_scores import (
    Grouping,
    PersonaScores,
    choose_baseline,
    compute_grouping,
    compute_persona_scores,
)
from benchlib.domain.arrays import BoolArray, FloatArray, IntArray
from benchlib.domain.errors import InvalidInput
from benchlib.domain.stats.welch import FdrMethod, Moments, compute_q_values, compute_welch


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """A set of traits that is looked at together.

    Attributes:
        trait_category: None for all traits.
        cells: The cells of these traits.
        scores: Persona scores over these traits.
    """

    trait_category: str | None
    cells: Cells
    scores: PersonaScores

    @property
    def grand_mean(self) -> float:
        """Mean rating 1..5, every rated trait counting once; NaN without ratings."""
        means = self.cells.trait_means[~np.isnan(self.cells.trait_means)]
        return float(means.mean()) if len(means) else float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class Contrasts:
    """One attribute, ready to be tested.

    Attributes:
        grouping: Personas by category; `Unknown`, if present, comes last.
        baseline: The category compared against; None if no persona enters.
    """

    grouping: Grouping
    baseline: str | None

    @property
    def base(self) -> int:
        """Position of the baseline; -1 without one."""
        return -1 if self.baseline is None else self.grouping.categories.index(self.baseline)

    @property
    def tested_codes(self) -> IntArray:
        """(P,) category of each persona, -1 for `Unknown`."""
        codes = self.grouping.codes
        return np.where(codes < len(self.grouping.tested), codes, -1)

    @property
    def targets(self) -> list[int]:
        """Positions of the categories that are tested against the baseline."""
        if self.baseline is None:
            return []
        return [i for i in range(len(self.grouping.tested)) if i != self.base]

    def p_values(self, moments: Moments) -> FloatArray:
        """Welch p of the tested categories, in the shape of the (G, ...) moments; NaN elsewhere."""
        p = np.full(moments.n.shape, np.nan)
        p[self.targets] = compute_welch(moments.at(self.base), moments).p_value[self.targets]
        return p


def compute_panel(
    cells: Cells, trait_category: str | None = None, *, neutral: bool = False
) -> Panel:
    """Select the traits of one panel and score the personas on them.

    Args:
        cells: Cells of the run.
        trait_category: A trait category, or None for all traits.
        neutral: False takes the traits with a valence, True the neutral ones (un-aligned).

    Raises:
        InvalidInput: The run has traits, but none of this category.
    """
    known = sorted(set(cells.traits["trait_category"].astype(str)))
    if trait_category is not None and known and trait_category not in known:
        raise _no_such_category(trait_category, known)
    chosen = select_traits(cells, trait_category, neutral=neutral)
    return Panel(trait_category, chosen, compute_persona_scores(chosen, neutral=neutral))


def compute_panels(cells: Cells, *, neutral: bool = False) -> list[Panel]:
    """Make the panel of all traits, then one per trait category in lexicographic order.

    A category gets its panel even if none of its traits fits, so that asking for it is never a
    surprise; such a panel has no trait and nobody enters.
    """
    names = sorted(set(cells.traits["trait_category"].astype(str)))
    return [compute_panel(cells, name, neutral=neutral) for name in (None, *names)]


def find_panel(panels: Sequence[Panel], trait_category: str | None) -> int:
    """Find the position of a panel in `compute_panels`.

    Returns:
        The position; in a run without any trait the panel of all traits answers for every name.

    Raises:
        InvalidInput: There is no such trait category.
    """
    names = [panel.trait_category for panel in panels]
    if trait_category in names:
        return names.index(trait_category)
    if len(names) > 1:
        raise _no_such_category(trait_category, [name for name in names if name is not None])
    return 0


def stack_scores(panels: Sequence[Panel]) -> FloatArray:
    """Put the persona scores of panels side by side: (P, panels), NaN = does not enter."""
    return np.column_stack([panel.scores.z for panel in panels])


def prepare_contrasts(
    cells: Cells,
    attributes: Sequence[str],
    scores: PersonaScores,
    baselines: Mapping[str, str] | None = None,
) -> dict[str, Contrasts]:
    """Choose the baseline of every attribute, the same for all panels.

    Args:
        cells: Cells of the run.
        attributes: Attributes to test.
        scores: Scores over all traits of the run; the largest category by personas that enter is
            the default baseline.
        baselines: The user's choices, by attribute.

    Raises:
        InvalidInput: An attribute or a chosen baseline does not exist.
    """
    wanted = dict(baselines or {})
    strays = sorted(set(wanted) - set(map(str, cells.attributes.columns)))
    if strays:
        raise InvalidInput(f"There are no attributes {strays} to choose a baseline for.")
    groupings = {name: compute_grouping(cells, name) for name in attributes}
    return {
        name: Contrasts(grouping, choose_baseline(grouping, scores.enters, wanted.get(name)))
        for name, grouping in groupings.items()
    }


def correct_together(
    p_values: Mapping[str, FloatArray], method: FdrMethod
) -> dict[str, FloatArray]:
    """Correct the p-values of all attributes as one family.

    Args:
        p_values: Arrays of any shape by attribute; NaN = not tested, not counted.
        method: `bh` or `by`.

    Returns:
        q in the same shapes.
    """
    flat = np.concatenate([np.empty(0), *(p.ravel() for p in p_values.values())])
    ends = np.cumsum([p.size for p in p_values.values()])
    pieces = np.split(compute_q_values(flat, method), ends)[: len(p_values)]
    return {
        name: piece.reshape(p.shape)
        for (name, p), piece in zip(p_values.items(), pieces, strict=True)
    }


def correct_panels(
    p_values: Mapping[str, FloatArray], panels: Sequence[Panel], method: FdrMethod
) -> dict[str, FloatArray]:
    """Correct the p-values of all attributes and panels as one family.

    Args:
        p_values: (..., panels) arrays by attribute; NaN = not tested, not counted.
        panels: The panels of the last axis. In a run with a single trait category its panel
            repeats the panel of all traits: the test counts once and lends its q.
        method: `bh` or `by`.

    Returns:
        q in the same shapes.
    """
    repeats = repeated_panels(panels)
    once = {name: np.where(repeats, np.nan, p) for name, p in p_values.items()}
    return {
        name: np.where(repeats, q[..., :1], q) for name, q in correct_together(once, method).items()
    }


def count_tests(p_values: Mapping[str, FloatArray], panels: Sequence[Panel]) -> int:
    """Size of the family that `correct_panels` corrects."""
    once = ~repeated_panels(panels)
    return sum(int(np.isfinite(p[..., once]).sum()) for p in p_values.values())


def repeated_panels(panels: Sequence[Panel]) -> BoolArray:
    """Mark the panels that hold the same traits as the first."""
    n_traits = panels[0].cells.n_traits
    return np.array([i > 0 and 0 < n_traits == p.cells.n_traits for i, p in enumerate(panels)])


def _no_such_category(trait_category: str | None, known: Sequence[str]) -> InvalidInput:
    options = ", ".join(known)
    return InvalidInput(f"There is no trait category {trait_category!r}; choose from: {options}.")
