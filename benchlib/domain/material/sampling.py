"""Datasets by design: pool, balanced, factorial, counterfactual, reality.

All randomness comes from the generator that the caller passes.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import product
from math import prod
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchlib.domain.errors import InvalidInput
from benchlib.domain.material.personas import (
    AGE_GROUP,
    AGE_GROUPS,
    MAX_AGE,
    MAX_ATTRIBUTES,
    MAX_CATEGORIES,
    PersonaDraft,
    age_group,
    content_uuid,
)
from benchlib.domain.material.text_tables import list_words, shorten
from benchlib.domain.vocabulary import UNKNOWN_CATEGORY

MAX_FACTORIAL: Final = 100_000
"""Most personas of a factorial design."""

OLDEST: Final = 90
"""Highest age drawn for the group 65+."""

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

_IPF_ROUNDS: Final = 500
_TOLERANCE: Final = 1e-9


def pool_positions(
    personas: pd.DataFrame, where: Mapping[str, Collection[str]] | None = None
) -> IntArray:
    """The rows of a persona frame that have one of the requested categories in every attribute.

    Args:
        personas: One categorical column per attribute.
        where: Attribute -> requested categories; empty = all rows.
    """
    chosen = np.ones(len(personas), dtype=bool)
    for attribute, categories in (where or {}).items():
        _check_attribute(personas, attribute)
        chosen &= personas[attribute].isin(list(categories)).to_numpy(dtype=bool)
    return np.flatnonzero(chosen)


def balanced_positions(
    personas: pd.DataFrame,
    attribute: str,
    rng: np.random.Generator,
    per_category: int | None = None,
) -> IntArray:
    """Draw the same number of personas from every category of an attribute.

    Args:
        personas: One categorical column per attribute. `Unknown` is left out.
        attribute: The attribute to balance.
        rng: Draws the personas.
        per_category: Personas of each category; None = as many as the smallest one has.

    Returns:
        Rows, ascending.

    Raises:
        InvalidInput: A category has fewer personas, or there are no categories.
    """
    _check_attribute(personas, attribute)
    values = personas[attribute].astype("str").to_numpy()
    known = values != UNKNOWN_CATEGORY
    names, counts = np.unique(values[known], return_counts=True)
    if not len(names):
        raise InvalidInput(f"No persona has a known {attribute}; choose another attribute.")
    n_each = int(counts.min()) if per_category is None else per_category
    if n_each < 1:
        raise InvalidInput("At least one persona per category is needed.")
    for name, count in zip(names, counts, strict=True):
        if count < n_each:
            raise InvalidInput(
                f"{shorten(str(name))} in {attribute} has {count} personas, fewer than the "
                f"{n_each} asked for; ask for at most {counts.min()}."
            )
    drawn = [rng.choice(np.flatnonzero(values == name), n_each, replace=False) for name in names]
    return np.sort(np.concatenate(drawn))


def reality_positions(
    personas: pd.DataFrame,
    shares: Mapping[str, Mapping[str, float]],
    n_personas: int,
    rng: np.random.Generator,
) -> IntArray:
    """Draw personas so that every attribute has the given shares of categories.

    Cells (combinations of the attributes) are weighted by iterative proportional fitting from how
    often the pool has them (Deming and Stephan 1940), bounded by how many it has, and rounded by
    systematic sampling; shares are met to within a persona or two per category.

    Args:
        personas: The pool, one categorical column per attribute.
        shares: Attribute -> category -> share; the shares of an attribute sum to 1. Categories
            that are not named are left out.
        n_personas: How many to draw.
        rng: Draws the personas.

    Returns:
        Rows, ascending.

    Raises:
        InvalidInput: Shares do not sum to 1, name an unknown category, or need more personas than
            the pool has.
    """
    if not shares:
        raise InvalidInput("Give the shares of at least one attribute.")
    if not 1 <= n_personas <= len(personas):
        raise InvalidInput(f"Ask for 1 to {len(personas)} personas; the pool has no more.")
    for attribute, wanted in shares.items():
        _check_shares(personas, attribute, wanted, n_personas)
    attributes = list(shares)
    codes = np.stack(
        [
            pd.Index(list(shares[name])).get_indexer(pd.Index(personas[name].astype("str")))
            for name in shares
        ]
    )
    usable = np.flatnonzero((codes >= 0).all(axis=0))
    cells, cell_of, available = np.unique(
        codes[:, usable], axis=1, return_inverse=True, return_counts=True
    )
    targets = [
        np.array(list(shares[name].values()), dtype=np.float64) * n_personas for name in attributes
    ]
    expected = _fit(cells, available.astype(np.float64), targets)
    for place, attribute in enumerate(attributes):
        reached = np.bincount(cells[place], expected, minlength=len(targets[place]))
        short = int(np.argmax(targets[place] - reached))
        if targets[place][short] - reached[short] > max(1.0, 0.005 * n_personas):
            raise InvalidInput(
                f"The pool cannot give all shares at once: of {attribute} "
                f"{shorten(list(shares[attribute])[short])}, {targets[place][short]:.0f} personas "
                f"are asked for, and {reached[short]:.0f} fit. Ask for fewer personas, or change "
                "the shares."
            )
    wanted_counts = _round_systematically(expected, available, n_personas, rng)
    drawn = []
    order = np.argsort(cell_of.ravel(), kind="stable")
    starts = np.concatenate([[0], np.cumsum(available)])
    for cell in np.flatnonzero(wanted_counts):
        members = usable[order[starts[cell] : starts[cell + 1]]]
        drawn.append(rng.choice(members, wanted_counts[cell], replace=False))
    return np.sort(np.concatenate(drawn))


def factorial_drafts(
    factors: Mapping[str, Sequence[str]],
    rng: np.random.Generator,
    n_personas: int | None = None,
    *,
    youngest: int = 0,
) -> list[PersonaDraft]:
    """Cross attributes, so that they are uncorrelated.

    Args:
        factors: Attribute -> its categories. For `age_group` the categories are age groups, and
            ages are spread evenly within them.
        rng: Decides ages and the order of a fraction.
        n_personas: None = the full crossing once. A larger number repeats it; a smaller one is a
            fraction in which every category is equally frequent (within one persona) and every
            pair of attributes as close to independent as possible.
        youngest: Lowest age.

    Raises:
        InvalidInput: Factors are empty, repeat a category, or make too many personas.
    """
    _check_factors(factors, youngest)
    n_full = prod(len(categories) for categories in factors.values())
    n_wanted = n_full if n_personas is None else n_personas
    if not 1 <= n_wanted <= MAX_FACTORIAL:
        raise InvalidInput(
            f"{n_wanted:,} personas are asked for; 1 to {MAX_FACTORIAL:,} are allowed. The full "
            f"crossing has {n_full:,}: ask for a number of personas to get a balanced fraction."
        )
    levels = [len(categories) for categories in factors.values()]
    n_repeats, n_rest = divmod(n_wanted, n_full)
    crossing = np.array(list(product(*map(range, levels)))) if n_repeats else np.empty((0, 0), int)
    blocks = [crossing] * n_repeats
    if n_rest:
        blocks.append(_fraction(levels, n_rest, rng))
    design = np.concatenate(blocks)
    names = list(factors)
    ages = _spread_ages(design, factors, youngest, rng)
    seen: dict[str, int] = {}
    drafts = []
    for row, age in zip(design.tolist(), ages, strict=True):
        attributes = {name: factors[name][code] for name, code in zip(names, row, strict=True)}
        draft = PersonaDraft("", attributes, age)
        drafts.append(draft._replace(uuid=content_uuid(draft, seen)))
    return drafts


def counterfactual_drafts(
    sources: Sequence[PersonaDraft],
    attribute: str,
    categories: Sequence[str],
    rng: np.random.Generator,
    *,
    every: bool = False,
) -> list[PersonaDraft]:
    """Copy each persona with one attribute changed; the copy names its source.

    Name, appearance and biography are copied too: leave them out of the sources if they reveal
    the attribute.

    Args:
        sources: Personas that have one of the categories.
        attribute: The attribute to change. With `age_group`, a known age moves into the new group.
        categories: Its categories to change between; at least two.
        rng: Draws ages and the category of each copy.
        every: Make one copy per other category; otherwise one copy per source, such that all
            changes between categories are equally frequent.

    Returns:
        All sources, then all copies.

    Raises:
        InvalidInput: There are fewer than two categories, no sources, or a source has none of the
            categories.
    """
    if len(set(categories)) < 2:
        raise InvalidInput(f"Choose at least two categories of {attribute} to change between.")
    if not sources:
        raise InvalidInput("Choose at least one source persona.")
    originals = [source._replace(source_uuid=None, changed_attribute=None) for source in sources]
    turn = dict.fromkeys(categories, int(rng.integers(len(categories))))
    seen: dict[str, int] = {}
    copies = []
    for source in originals:
        value = source.attributes.get(attribute, UNKNOWN_CATEGORY)
        others = [category for category in categories if category != value]
        if len(others) == len(categories):
            raise InvalidInput(
                f"The source {source.uuid} has {attribute} {shorten(value)}, which is none of "
                f"{list_words([shorten(category) for category in categories])}."
            )
        turn[value] += 1
        for category in others if every else [others[turn[value] % len(others)]]:
            age = source.age
            if attribute == AGE_GROUP and age is not None:
                age = int(rng.choice(_ages_of(category, 0)))
            copy = source._replace(
                uuid="",
                attributes={**source.attributes, attribute: category},
                age=age,
                source_uuid=source.uuid,
                changed_attribute=attribute,
            )
            copies.append(copy._replace(uuid=content_uuid(copy, seen)))
    return [*originals, *copies]


def _check_attribute(personas: pd.DataFrame, attribute: str) -> None:
    attributes = [str(name) for name in personas if name not in ("persona_id", "uuid", "age")]
    if attribute not in attributes:
        raise InvalidInput(
            f"These personas have no attribute {shorten(attribute)}; there are "
            f"{list_words(attributes)}."
        )


def _check_shares(
    personas: pd.DataFrame, attribute: str, wanted: Mapping[str, float], n_personas: int
) -> None:
    _check_attribute(personas, attribute)
    if any(not 0 <= share <= 1 for share in wanted.values()):
        raise InvalidInput(f"Shares of {attribute} must lie between 0 and 1.")
    if abs(sum(wanted.values()) - 1) > 1e-6:
        raise InvalidInput(
            f"The shares of {attribute} sum to {sum(wanted.values()):.4g}; they must sum to 1."
        )
    counts = personas[attribute].value_counts()
    for category, share in wanted.items():
        n_wanted, n_there = round(share * n_personas), int(counts.get(category, 0))
        if n_wanted > n_there:
            raise InvalidInput(
                f"{n_wanted} personas with {attribute} {shorten(category)} are asked for, and the "
                f"pool has {n_there}; ask for fewer, or change the share."
            )


def _fit(cells: IntArray, available: FloatArray, targets: Sequence[FloatArray]) -> FloatArray:
    """Expected counts per cell with the requested margins, none above what is available."""
    expected = available.copy()
    for _ in range(_IPF_ROUNDS):
        before = expected
        for place, target in enumerate(targets):
            reached = np.bincount(cells[place], expected, minlength=len(target))
            factor = np.divide(target, reached, out=np.zeros_like(target), where=reached > 0)
            expected = np.minimum(expected * factor[cells[place]], available)
        if np.abs(expected - before).max() < _TOLERANCE:
            break
    return expected


def _round_systematically(
    expected: FloatArray, available: IntArray, n_personas: int, rng: np.random.Generator
) -> IntArray:
    """Integers that sum to n_personas, each within one of its expected count."""
    total = expected.sum()
    steps = np.floor(np.cumsum(expected) * (n_personas / total) + rng.random())
    counts = np.diff(np.concatenate([[0.0], steps])).astype(np.int64)
    counts = np.minimum(counts, available)
    for cell in np.argsort(counts - expected, kind="stable"):  # make up for what the bounds cut off
        missing = n_personas - int(counts.sum())
        if missing == 0:
            break
        counts[cell] += min(missing, int(available[cell] - counts[cell]))
    return counts


def _check_factors(factors: Mapping[str, Sequence[str]], youngest: int) -> None:
    if not factors:
        raise InvalidInput("Give at least one attribute with its categories.")
    if len(factors) > MAX_ATTRIBUTES:
        raise InvalidInput(f"At most {MAX_ATTRIBUTES} attributes are allowed.")
    for name, categories in factors.items():
        if not 1 <= len(categories) <= MAX_CATEGORIES or len(set(categories)) < len(categories):
            raise InvalidInput(
                f"{shorten(name)} needs 1 to {MAX_CATEGORIES} categories, each of them once."
            )
    for group in factors.get(AGE_GROUP, ()):
        if not _ages_of(group, youngest):
            raise InvalidInput(
                f"{shorten(group)} is no age group with ages from {youngest} on; allowed are "
                f"{list_words(list(AGE_GROUPS))}."
            )


def _ages_of(group: str, youngest: int) -> list[int]:
    return [age for age in range(youngest, min(OLDEST, MAX_AGE) + 1) if age_group(age) == group]


def _spread_ages(
    design: IntArray, factors: Mapping[str, Sequence[str]], youngest: int, rng: np.random.Generator
) -> list[int | None]:
    """An age for each persona: all ages of a group about equally often, in random order."""
    ages: list[int | None] = [None] * len(design)
    if AGE_GROUP not in factors:
        return ages
    column = design[:, list(factors).index(AGE_GROUP)]
    for code, group in enumerate(factors[AGE_GROUP]):
        rows = np.flatnonzero(column == code)
        possible = _ages_of(group, youngest)
        spread = np.resize(rng.permutation(possible), len(rows))
        for row, age in zip(rows.tolist(), rng.permutation(spread).tolist(), strict=True):
            ages[row] = age
    return ages


def _fraction(levels: Sequence[int], n_rows: int, rng: np.random.Generator) -> IntArray:
    """A fraction of the full crossing: level margins equal within one, pairs near independent.

    Each factor in turn (most levels first) is dealt to the rows: a row gets the level that has so
    far occurred least often with the row's levels of the earlier factors, as in minimisation for
    clinical trials (Pocock and Simon 1975).
    """
    design = np.zeros((n_rows, len(levels)), dtype=np.int64)
    done: list[int] = []
    for factor in sorted(range(len(levels)), key=lambda place: -levels[place]):
        n_levels = levels[factor]
        quota = np.full(n_levels, n_rows // n_levels)
        quota[rng.permutation(n_levels)[: n_rows % n_levels]] += 1
        together = [np.zeros((levels[other], n_levels)) for other in done]
        for row in rng.permutation(n_rows).tolist():
            score = rng.random(n_levels) * 0.01  # breaks ties at random
            for other, counts in zip(done, together, strict=True):
                score += counts[design[row, other]] ** 2 / quota.max() * levels[other]
            score[quota == 0] = np.inf
            level = int(score.argmin())
            design[row, factor] = level
            quota[level] -= 1
            for other, counts in zip(done, together, strict=True):
                counts[design[row, other], level] += 1
        done.append(factor)
    return design
