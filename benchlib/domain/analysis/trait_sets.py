"""The trait sets of a run: all traits, and each trait category on its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

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
from benchlib.domain.stats.additive_fit import find_comparable, tabulate_components
from benchlib.domain.stats.two_groups import TwoGroups, compute_two_groups
from benchlib.domain.stats.welch import (
    FdrMethod,
    Moments,
    compute_moments,
    compute_q_values,
    compute_welch,
)


@dataclass(frozen=True, slots=True, eq=False)
class TraitSet:
    """A set of traits that are analysed together.

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
        """Mean rating 1..5 of an average persona, every rated trait counting once; NaN without."""
        return self.scores.level


class SampleCounts(TypedDict):
    """What an analysis is based on: ratings of the traits, and personas that enter."""

    n: int
    n_personas: int


@dataclass(frozen=True, slots=True, eq=False)
class GroupContrasts:
    """One attribute with its baseline, ready to be tested.

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

    def moments(self, scores: FloatArray) -> Moments:
        """(G, ...) moments of scores (P, ...) by category, `Unknown` included."""
        return compute_moments(scores, self.grouping.codes, len(self.grouping.categories))

    def compare(
        self, values: FloatArray, moments: Moments, comparable: BoolArray | None = None
    ) -> TwoGroups:
        """Compare the categories with the baseline on (P, ...) values; `Unknown` is not tested.

        Args:
            values: One number per persona, or per persona and panel; NaN = does not enter.
            moments: (G, ...) `moments` of the same values.
            comparable: (G, ...) where the ratings allow a comparison; None = everywhere.
        """
        size = len(self.grouping.categories)
        found = compute_two_groups(values, self.tested_codes, size, self.base, moments)
        if comparable is None:
            return found
        targets = np.isin(np.arange(size), self.targets)
        return found.without(~comparable & targets.reshape(-1, *(1 for _ in comparable.shape[1:])))

    def find_comparable(self, scores: PersonaScores, rated: BoolArray | None = None) -> BoolArray:
        """(G,) categories that are connected with the baseline through shared traits.

        Args:
            scores: Scores over the traits in question.
            rated: (P,) the personas to look at; None = those that enter.
        """
        size = len(self.grouping.categories)
        codes = np.where(scores.enters if rated is None else rated, self.tested_codes, -1)
        found = find_comparable(scores.component, codes, size, self.base)
        if found.any() and scores.stratum is not scores.component:
            seen = tabulate_components(scores.stratum, codes, size)
            found &= (seen & seen[self.base]).any(axis=1)
        return np.asarray(found)

    def p_values(self, moments: Moments) -> FloatArray:
        """Welch p of the tested categories, in the shape of the (G, ...) moments; NaN elsewhere."""
        p = np.full(moments.n.shape, np.nan)
        p[self.targets] = compute_welch(moments.at(self.base), moments).p_value[self.targets]
        return p


def select_trait_set(
    cells: Cells, trait_category: str | None = None, *, neutral: bool = False
) -> TraitSet:
    """Select the traits analysed together and score each persona on them.

    Args:
        cells: Cells of the run.
        trait_category: A trait category, or None for all traits.
        neutral: False takes the traits with a valence, True the neutral ones (unaligned).

    Raises:
        InvalidInput: The run has traits, but none of this category.
    """
    known = sorted(set(cells.traits["trait_category"].astype(str)))
    if trait_category is not None and known and trait_category not in known:
        raise _no_such_category(trait_category, known)
    chosen = select_traits(cells, trait_category, neutral=neutral)
    return TraitSet(trait_category, chosen, compute_persona_scores(chosen, neutral=neutral))


def count_sample(
    cells: Cells, trait_category: str | None = None, *, neutral: bool = False
) -> SampleCounts:
    """Count what an analysis of these traits is based on.

    Args:
        cells: Cells of the run.
        trait_category: A trait category, or None for all traits.
        neutral: True for the neutral traits.

    Raises:
        InvalidInput: The run has traits, but none of this category.
    """
    chosen = select_trait_set(cells, trait_category, neutral=neutral)
    return {"n": chosen.cells.n_ratings, "n_personas": int(chosen.scores.enters.sum())}


def select_trait_sets(cells: Cells, *, neutral: bool = False) -> list[TraitSet]:
    """Make the set of all traits, then one per trait category in lexicographic order.

    A category gets its set even if none of its traits fits, so that asking for it never fails;
    such a set has no traits and no persona enters.
    """
    names = sorted(set(cells.traits["trait_category"].astype(str)))
    return [select_trait_set(cells, name, neutral=neutral) for name in (None, *names)]


def find_trait_set(trait_sets: Sequence[TraitSet], trait_category: str | None) -> int:
    """Find the position of a trait category in `select_trait_sets`.

    Returns:
        The position; 0, the set of all traits, for any category in a run without traits.

    Raises:
        InvalidInput: There is no such trait category.
    """
    names = [trait_set.trait_category for trait_set in trait_sets]
    if trait_category in names:
        return names.index(trait_category)
    if len(names) > 1:
        raise _no_such_category(trait_category, [name for name in names if name is not None])
    return 0


def stack_scores(trait_sets: Sequence[TraitSet]) -> FloatArray:
    """Put the persona scores of S trait sets side by side: (P, S), NaN = does not enter."""
    return np.column_stack([trait_set.scores.z for trait_set in trait_sets])


def prepare_contrasts(
    cells: Cells,
    attributes: Sequence[str],
    enters: BoolArray,
    baselines: Mapping[str, str] | None = None,
) -> dict[str, GroupContrasts]:
    """Choose the baseline of every attribute, the same for all trait sets.

    Args:
        cells: Cells of the run.
        attributes: Attributes to test.
        enters: (P,) personas that enter with all traits of the run; the category with most of
            them is the default baseline.
        baselines: The user's choices, by attribute.

    Raises:
        InvalidInput: An attribute or a chosen baseline does not exist.
    """
    wanted = dict(baselines or {})
    unknown = sorted(set(wanted) - set(map(str, cells.attributes.columns)))
    if unknown:
        raise InvalidInput(f"There is no attribute {', '.join(unknown)} to choose a baseline for.")
    groupings = {name: compute_grouping(cells, name) for name in attributes}
    return {
        name: GroupContrasts(grouping, choose_baseline(grouping, enters, wanted.get(name)))
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


def correct_trait_sets(
    p_values: Mapping[str, FloatArray], trait_sets: Sequence[TraitSet], method: FdrMethod
) -> dict[str, FloatArray]:
    """Correct the p-values of all attributes and trait sets as one family.

    Args:
        p_values: (..., S) arrays by attribute; NaN = not tested, not counted.
        trait_sets: The S trait sets of the last axis. In a run with one trait category, its set
            repeats the set of all traits: the test counts once, and both show the same q.
        method: `bh` or `by`.

    Returns:
        q in the same shapes.
    """
    repeats = repeated_trait_sets(trait_sets)
    once = {name: np.where(repeats, np.nan, p) for name, p in p_values.items()}
    return {
        name: np.where(repeats, q[..., :1], q) for name, q in correct_together(once, method).items()
    }


def count_tests(p_values: Mapping[str, FloatArray], trait_sets: Sequence[TraitSet]) -> int:
    """Size of the family that `correct_trait_sets` corrects."""
    once = ~repeated_trait_sets(trait_sets)
    return sum(int(np.isfinite(p[..., once]).sum()) for p in p_values.values())


def repeated_trait_sets(trait_sets: Sequence[TraitSet]) -> BoolArray:
    """Mark the trait sets that hold the same traits as the first."""
    n_traits = trait_sets[0].cells.n_traits
    return np.array([i > 0 and 0 < n_traits == p.cells.n_traits for i, p in enumerate(trait_sets)])


def _no_such_category(trait_category: str | None, known: Sequence[str]) -> InvalidInput:
    options = ", ".join(known)
    return InvalidInput(f"There is no trait category {trait_category!r}; choose from: {options}.")
