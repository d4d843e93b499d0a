"""A number per persona, personas by the categories of an attribute, and the baseline to compare."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from benchlib.domain.analysis.cells import MIN_RATED_SHARE, Cells, take_traits
from benchlib.domain.arrays import BoolArray, FloatArray, IntArray
from benchlib.domain.errors import InvalidInput
from benchlib.domain.stats.additive_fit import compute_order_fit
from benchlib.domain.vocabulary import UNKNOWN_CATEGORY


class PersonaScores(NamedTuple):
    """One score per persona over a set of traits.

    Attributes:
        z: (P,) persona effect of the additive fit, in rating points; NaN where the persona does not
            enter.
        n_traits: (P,) traits rated.
        enters: (P,) whether enough traits of the set are rated, and any of them by others too.
        component: (P,) which personas hang together through shared traits, -1 without ratings;
            scores of different components cannot be compared.
        stratum: (P,) the same, but where the run does not tell how far apart the scale orders are,
            through shared traits in the same order only.
        level: Mean rating over these traits that an average persona gives, 1..5; NaN without any.
    """

    z: FloatArray
    n_traits: IntArray
    enters: BoolArray
    component: IntArray
    stratum: IntArray
    level: float

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
    """Score each persona on a set of traits: its effect in rating = persona + (trait x order).

    In complete data that is the mean of its centred cells. Where personas were asked different
    questions, or some did not answer, it is what the mean would have been over the same questions.

    Scale orders are brought together as far apart as the run as a whole puts them, where they would
    tear the personas of these traits apart: as in a single trait, asked in one order each.

    A persona enters if at least half of the traits in the set are rated; a trait that nobody
    rated is not counted. A trait with a single rater says nothing about that persona.

    Args:
        cells: Cells of the trait set.
        neutral: False scores the traits with a valence, True the neutral ones.

    Returns:
        Scores in rating points; no persona enters if no trait fits.
    """
    cells = take_traits(cells, (cells.has_valence != neutral) & (cells.n_answers > 0).any(axis=0))
    mean, n_traits = _average(cells)
    fit = compute_order_fit(mean, cells.order_sums, cells.orders)
    stratum = fit.persona_component
    if fit.n_components > 1:
        # Cells are free of the order effect already
        either = (cells.orders > 0).astype(np.uint8)
        sums = np.stack([cells.order_sums.sum(axis=0), np.zeros(cells.n_traits)])
        joined = compute_order_fit(mean, sums, either)
        if joined.n_components < fit.n_components:
            fit = joined
            if _knows_orders(cells):
                stratum = fit.persona_component
    enters = (n_traits > 0) & (n_traits >= MIN_RATED_SHARE * cells.n_traits)
    if fit.n_components > 1:
        enters &= ~fit.alone
    shift = fit.column.reshape(2, -1)
    n_shifts = np.maximum(np.isfinite(shift).sum(axis=0), 1)
    levels = cells.trait_means + np.nan_to_num(shift).sum(axis=0) / n_shifts
    return PersonaScores(
        z=np.where(enters, fit.persona, np.nan),
        n_traits=n_traits,
        enters=enters,
        component=fit.persona_component,
        stratum=stratum,
        level=float(levels.mean()) if cells.n_traits else float("nan"),
    )


def _average(cells: Cells) -> tuple[FloatArray, IntArray]:
    """(P,) mean of a persona's cells, 0 without any, and how many there are."""
    n_traits = (cells.orders > 0).sum(axis=1).astype(np.int64)
    total = np.where(cells.orders > 0, cells.centred, 0.0).sum(axis=1)
    return np.asarray(total / np.maximum(n_traits, 1)), n_traits


def _knows_orders(cells: Cells) -> bool:
    """Whether the run tells for every trait how far apart its scale orders are."""
    first, second = cells.order_components
    return bool(((first == second) | (first < 0) | (second < 0)).all())


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
