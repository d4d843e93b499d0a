"""A number per persona, personas by the categories of an attribute, and the baseline to compare."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from benchlib.domain.analysis.cells import MIN_RATED_SHARE, Cells
from benchlib.domain.arrays import BoolArray, FloatArray, IntArray
from benchlib.domain.errors import InvalidInput
from benchlib.domain.vocabulary import UNKNOWN_CATEGORY


class PersonaScores(NamedTuple):
    """One score per persona over a set of traits.

    Attributes:
        z: (P,) mean of the persona's centred cells, in rating points; NaN where the persona does
            not enter.
        n_traits: (P,) traits rated.
        enters: (P,) whether enough traits of the set are rated.
    """

    z: FloatArray
    n_traits: IntArray
    enters: BoolArray

    @property
    def n_dropped(self) -> int:
        """Personas that do not enter."""
        return int((~self.enters).sum())


@dataclass(frozen=True, slots=True, eq=False)
class Grouping:
    """Personas by one attribute.

    Attributes:
        attribute: Name of the attribute.
        categories: Categories that at least one persona has, in lexicographic order, with
            `Unknown` last.
        codes: (P,) position of each persona's category in `categories`.
    """

    attribute: str
    categories: tuple[str, ...]
    codes: IntArray

    @property
    def tested(self) -> tuple[str, ...]:
        """Categories that take part in tests: all but `Unknown`."""
        return tuple(name for name in self.categories if name != UNKNOWN_CATEGORY)

    def members(self, category: str) -> IntArray:
        """Positions of the personas in a category; empty for a category without personas."""
        if category not in self.categories:
            return np.empty(0, dtype=np.int64)
        return np.flatnonzero(self.codes == self.categories.index(category))

    def sizes(self, enters: BoolArray | None = None) -> IntArray:
        """Number of personas per category, counting only those that enter."""
        codes = self.codes if enters is None else self.codes[enters]
        return np.bincount(codes, minlength=len(self.categories)).astype(np.int64)


def compute_persona_scores(cells: Cells, *, neutral: bool = False) -> PersonaScores:
    """Average each persona's centred cells over a set of traits.

    A persona enters if at least half of the traits in the set are rated; a trait that nobody
    rated is not counted. A trait with a single rater contributes 0, being its own mean.

    Args:
        cells: Cells of the trait set.
        neutral: False scores the traits with a valence, True the neutral ones.

    Returns:
        Scores in rating points; no persona enters if no trait fits.
    """
    used = (cells.has_valence != neutral) & (cells.n_answers > 0).any(axis=0)
    centred = cells.centred if used.all() else cells.centred[:, used]
    rated = ~np.isnan(centred)
    n_traits = rated.sum(axis=1).astype(np.int64)
    enters = (n_traits > 0) & (n_traits >= MIN_RATED_SHARE * centred.shape[1])
    total = np.where(rated, centred, 0.0).sum(axis=1)
    z = np.where(enters, total / np.maximum(n_traits, 1), np.nan)
    return PersonaScores(z=z, n_traits=n_traits, enters=enters)


def compute_grouping(cells: Cells, attribute: str) -> Grouping:
    """Sort the personas into the categories of one attribute.

    Raises:
        InvalidInput: The cells were made without this attribute.
    """
    if attribute not in cells.attributes:
        known = ", ".join(map(str, cells.attributes.columns)) or "none"
        raise InvalidInput(f"There is no attribute {attribute!r}; this run has: {known}.")
    column = cells.attributes[attribute].cat
    labels = [str(name) for name in column.categories]
    order = sorted(range(len(labels)), key=lambda i: (labels[i] == UNKNOWN_CATEGORY, labels[i]))
    rank = np.empty(len(labels), dtype=np.int64)
    rank[order] = np.arange(len(labels))
    codes = rank[column.codes.to_numpy()] if len(labels) else np.empty(0, dtype=np.int64)
    return Grouping(attribute, tuple(labels[i] for i in order), codes)


def choose_baseline(grouping: Grouping, enters: BoolArray, wanted: str | None = None) -> str | None:
    """Pick the category that the others are compared against.

    Args:
        grouping: Personas by attribute.
        enters: (P,) personas that enter the trait set.
        wanted: The user's choice, if any.

    Returns:
        The choice, else the category with most personas (ties: the lexicographically first), never
        `Unknown`; None if no category has a persona that enters.

    Raises:
        InvalidInput: The wanted category does not exist or is `Unknown`.
    """
    if wanted is not None:
        if wanted not in grouping.tested:
            options = ", ".join(grouping.tested) or "none"
            raise InvalidInput(
                f"{wanted!r} cannot be a baseline of {grouping.attribute}; choose from: {options}."
            )
        return wanted
    sizes = grouping.sizes(enters)
    best = max(
        range(len(grouping.tested)), key=lambda i: (sizes[i], -i), default=None
    )  # tested categories come first and in lexicographic order
    return None if best is None or sizes[best] == 0 else grouping.categories[best]
