"""From stored answers to one number per persona and trait.

The persona is the unit of replication: every statistic of a run is computed from `Cells`, the
persona x trait reduction made here, and from the persona scores drawn from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from benchlib.domain.analysis.answer_grid import AnswerGrid
from benchlib.domain.arrays import BoolArray, FloatArray, IntArray
from benchlib.domain.errors import InvalidInput, RatingOutOfScale
from benchlib.domain.vocabulary import (
    N_POINTS,
    SCALE_ORDERS,
    UNKNOWN_CATEGORY,
    UNKNOWN_TRAIT_CATEGORY,
)

MIN_RATED_SHARE = 0.5
"""A persona enters an analysis if at least this share of the traits in the set is rated."""

TRAIT_COLUMNS = ("case_id", "label", "trait_category", "valence")


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """The persona x trait reduction of a run; P personas, T traits, all arrays in that order.

    Attributes:
        persona_ids: (P,) ascending ids of all personas with a row, rated or not.
        trait_ids: (T,) ascending ids of all traits with a row, neutral ones included.
        traits: T rows: `case_id`, `label`, `trait_category` (`Unknown` where none is given),
            `valence`.
        attributes: P rows, one categorical column per attribute; a value not given is `Unknown`.
        centred: (P, T) aligned rating minus the mean of all personas for the same trait and scale
            order, averaged over the orders present, in rating points; NaN = not rated. Neutral
            traits are centred too, on the un-aligned scale.
        half_points: (P, T) twice the aligned answer (2..10; 0 = not rated), from the digits that
            were answered, never from distributions. A pair of both orders gives its mean, hence
            halves; so every persona counts once per trait.
        n_answers: (P, T) rated answers behind the cell (0, 1, or 2 for a pair of both orders).
        trait_means: (T,) mean of the aligned cells, 1..5; NaN for a trait nobody rated.
        expected_by_trait: (T,) rated answers that entered `centred` with their expected rating.
    """

    persona_ids: IntArray
    trait_ids: IntArray
    traits: pd.DataFrame
    attributes: pd.DataFrame
    centred: FloatArray
    half_points: NDArray[np.int8]
    n_answers: NDArray[np.int16]
    trait_means: FloatArray
    expected_by_trait: IntArray

    @property
    def n_personas(self) -> int:
        """Personas with a row, rated or not."""
        return len(self.persona_ids)

    @property
    def n_traits(self) -> int:
        """Traits with a row, neutral ones included."""
        return len(self.trait_ids)

    @property
    def n_ratings(self) -> int:
        """Rated answers; both answers of a pair count."""
        return int(self.n_answers.sum())

    @property
    def n_missing(self) -> int:
        """Persona x trait cells without any rating."""
        return int((self.n_answers == 0).sum())

    @property
    def n_expected(self) -> int:
        """Rated answers that count with their expected rating instead of their digit."""
        return int(self.expected_by_trait.sum())

    @property
    def has_valence(self) -> BoolArray:
        """(T,) True for favourable and unfavourable traits, False for neutral ones."""
        return np.asarray(self.traits["valence"].to_numpy(dtype=np.int8) != 0)

    @property
    def aligned_mean(self) -> float | None:
        """Grand mean of the aligned scale, 1..5, every rated trait with a valence counting once."""
        means = self.trait_means[self.has_valence]
        means = means[~np.isnan(means)]
        return float(means.mean()) if len(means) else None


def is_reversed(scale_order: pd.Series) -> BoolArray:
    """Tell which answers were given on the reversed scale.

    Args:
        scale_order: `in` or `rev` per answer.

    Raises:
        InvalidInput: Another value, or none.
    """
    in_order, reverse = ((scale_order == order).to_numpy(dtype=bool) for order in SCALE_ORDERS)
    if not (in_order | reverse).all():
        raise InvalidInput("A scale order is neither 'in' nor 'rev'; check the stored answers.")
    return np.asarray(reverse)


def reverse_scale(rating_raw: ArrayLike, reversed_order: ArrayLike) -> FloatArray:
    """Undo the scale order, so that 5 means "very ..." in every answer.

    Args:
        rating_raw: Answers as given (1..5, also fractions; NaN = none).
        reversed_order: True where the scale was shown in reverse.

    Returns:
        `rating_pre_valence`: 6 - r where reversed, r elsewhere.
    """
    raw = np.asarray(rating_raw, dtype=np.float64)
    return np.where(np.asarray(reversed_order, dtype=bool), N_POINTS + 1 - raw, raw)


def align_valence(rating_pre_valence: ArrayLike, valence: ArrayLike) -> FloatArray:
    """Turn ratings so that 5 is the most favourable answer.

    Args:
        rating_pre_valence: Ratings after `reverse_scale` (1..5; NaN = none).
        valence: +1 favourable, -1 unfavourable, 0 neutral, per answer or one for all.

    Returns:
        `rating`: 6 - r where the valence is -1, r elsewhere; neutral traits stay un-aligned.
    """
    ratings = np.asarray(rating_pre_valence, dtype=np.float64)
    return np.where(np.asarray(valence) == -1, N_POINTS + 1 - ratings, ratings)


def compute_cells(
    ratings: pd.DataFrame | AnswerGrid, attributes: Sequence[str], *, use_expected: bool = True
) -> Cells:
    """Reduce the answers of a run to persona x trait cells, in time linear in the rows.

    Each aligned rating is centred by the mean over all personas for its trait and scale order,
    then the orders present are averaged: trait levels, order bias and an imbalance of orders drop
    out, and a pair of both orders counts once.

    With `use_expected`, an answer with a digit distribution enters `centred` by its expected
    rating, which carries no sampling noise, and an answer without one by its digit. Both estimate
    the same mean if digits were sampled; in a run that mixes them `n_expected` lies between 0 and
    `n_ratings`, which is worth a note beside the numbers.

    Args:
        ratings: One row per answer; reads `persona_id`, `trait_id`, `case_id`, `label`,
            `trait_category`, `valence` (-1, 0, 1), `scale_order`, `rating` (aligned, 1..5, NaN =
            no valid answer), `expected_raw` if present, and the attribute columns. Or the grid of
            the answers, whose personas have no attributes yet.
        attributes: Names of the attribute columns; none for a grid.
        use_expected: Whether expected ratings replace digits where they exist.

    Returns:
        The cells; without rows, zero personas and zero traits.

    Raises:
        InvalidInput: A column is missing, or a scale order is unknown.
        RatingOutOfScale: A rating lies outside 1..5.
    """
    if isinstance(ratings, AnswerGrid):
        return _cells_of_grid(ratings, use_expected=use_expected)
    _require_columns(ratings, attributes)
    persona_codes, persona_ids = pd.factorize(ratings["persona_id"].to_numpy(np.int64), sort=True)
    trait_codes, trait_ids = pd.factorize(ratings["trait_id"].to_numpy(np.int64), sort=True)
    shape = (len(persona_ids), len(trait_ids))
    in_reverse = is_reversed(ratings["scale_order"])
    digits = ratings["rating"].to_numpy(dtype=np.float64, na_value=np.nan)
    _check_scale(digits)
    values, known = digits, np.zeros(len(digits), dtype=bool)
    if use_expected and "expected_raw" in ratings:
        expected = _aligned_expected(ratings, in_reverse)
        known = ~np.isnan(expected) & ~np.isnan(digits)
        values = np.where(known, expected, digits)

    rated = ~np.isnan(digits)
    cell = persona_codes * shape[1] + trait_codes + in_reverse * (shape[0] * shape[1])
    if not rated.all():
        cell, digits, values = cell[rated], digits[rated], values[rated]
    by_order = (2, *shape)
    count = np.bincount(cell, minlength=2 * shape[0] * shape[1]).reshape(by_order)
    divisor = np.maximum(count, 1)
    levels = _Levels(
        level=_sum_cells(cell, values, by_order) / divisor,
        digit_sum=(_sum_cells(cell, digits, by_order) / divisor).sum(axis=0),
        n_answers=count,
    )
    return _reduce(
        levels,
        persona_ids=persona_ids,
        trait_ids=trait_ids,
        traits=_trait_table(ratings, trait_codes, shape[1]),
        attributes=_attribute_table(ratings, attributes, persona_codes, shape[0]),
        expected_by_trait=np.bincount(trait_codes[known], minlength=shape[1]).astype(np.int64),
    )


class _Levels(NamedTuple):
    """Aligned answers of every persona, trait and scale order, made to be used up.

    Attributes:
        level: (2, P, T) mean aligned rating in each order; 0 where there is none.
        digit_sum: (P, T) sum of the aligned digits of both orders.
        n_answers: (2, P, T) answers.
    """

    level: FloatArray
    digit_sum: NDArray[Any]
    n_answers: NDArray[Any]


def _cells_of_grid(grid: AnswerGrid, *, use_expected: bool) -> Cells:
    present = grid.rated
    valence = grid.traits["valence"].to_numpy(dtype=np.int8)
    digits = np.where(present, grid.digits, np.int8(0))
    np.subtract(N_POINTS + 1, digits[1], out=digits[1])
    np.subtract(N_POINTS + 1, digits, out=digits, where=valence == -1)
    digits *= present
    level = digits.astype(np.float64)
    known = np.zeros(len(valence), dtype=np.int64)
    if use_expected and grid.expected is not None:
        _check_scale(grid.expected)
        told = present & ~np.isnan(grid.expected)
        known = told.sum(axis=(0, 1), dtype=np.int64)
        for order in (0, 1):
            aligned = align_valence(reverse_scale(grid.expected[order], order == 1), valence)
            np.copyto(level[order], aligned, where=told[order])
    levels = _Levels(level, digits.sum(axis=0, dtype=np.int8), present)
    return _reduce(
        levels,
        persona_ids=grid.persona_ids,
        trait_ids=grid.trait_ids,
        traits=grid.traits,
        attributes=pd.DataFrame(index=pd.RangeIndex(len(grid.persona_ids))),
        expected_by_trait=known,
    )


def _reduce(
    levels: _Levels,
    *,
    persona_ids: IntArray,
    trait_ids: IntArray,
    traits: pd.DataFrame,
    attributes: pd.DataFrame,
    expected_by_trait: IntArray,
) -> Cells:
    """Centre and average over the orders; in place, because a level has 16 bytes per cell."""
    level, digit_sum, count = levels
    present = count > 0
    n_orders = present.sum(axis=0, dtype=np.int8)
    answered, divisor = n_orders > 0, np.maximum(n_orders, 1)
    mean = level.sum(axis=1) / np.maximum(present.sum(axis=1), 1)
    n_raters = answered.sum(axis=0)
    trait_sum = (level.sum(axis=0) / divisor).sum(axis=0)
    level -= mean[:, None]
    level *= present
    centred = level.sum(axis=0)
    centred /= divisor
    centred[~answered] = np.nan
    return Cells(
        persona_ids=persona_ids,
        trait_ids=trait_ids,
        traits=traits,
        attributes=attributes,
        centred=centred,
        half_points=np.rint(2.0 * digit_sum / divisor).astype(np.int8),
        n_answers=count.sum(axis=0, dtype=np.int16),
        trait_means=np.where(n_raters > 0, trait_sum / np.maximum(n_raters, 1), np.nan),
        expected_by_trait=expected_by_trait,
    )


def select_traits(
    cells: Cells, category: str | None = None, *, neutral: bool = False, min_raters: int = 0
) -> Cells:
    """Keep the traits that are analysed together.

    Args:
        cells: Cells of the run.
        category: A trait category, or None for all.
        neutral: False keeps the traits with a valence, True the neutral ones.
        min_raters: Traits that fewer personas rated are left out.

    Returns:
        The same personas with fewer traits; zero traits if none fits.
    """
    keep = cells.has_valence != neutral
    if category is not None:
        keep &= cells.traits["trait_category"].to_numpy(dtype=object) == category
    if min_raters > 0:
        keep &= (cells.n_answers > 0).sum(axis=0) >= min_raters
    return take_traits(cells, np.asarray(keep))


def take_traits(cells: Cells, keep: BoolArray) -> Cells:
    """Keep the traits marked True in a (T,) mask; personas without any of them stay."""
    if keep.all():
        return cells
    return Cells(
        persona_ids=cells.persona_ids,
        trait_ids=cells.trait_ids[keep],
        traits=cells.traits[keep].reset_index(drop=True),
        attributes=cells.attributes,
        centred=cells.centred[:, keep],
        half_points=cells.half_points[:, keep],
        n_answers=cells.n_answers[:, keep],
        trait_means=cells.trait_means[keep],
        expected_by_trait=cells.expected_by_trait[keep],
    )


def take_personas(cells: Cells, keep: BoolArray) -> Cells:
    """Keep the personas marked True in a (P,) mask; centring and trait means stay as they are."""
    if keep.all():
        return cells
    attributes = cells.attributes[keep].reset_index(drop=True)
    return replace(
        cells,
        persona_ids=cells.persona_ids[keep],
        attributes=attributes.apply(lambda column: column.cat.remove_unused_categories()),
        centred=cells.centred[keep],
        half_points=cells.half_points[keep],
        n_answers=cells.n_answers[keep],
    )


def _require_columns(ratings: pd.DataFrame, attributes: Sequence[str]) -> None:
    needed = {"persona_id", "trait_id", "scale_order", "rating", *TRAIT_COLUMNS, *attributes}
    lacking = sorted(needed - set(ratings.columns))
    if lacking:
        raise InvalidInput(f"The ratings lack the columns {lacking}; load the run again.")


def _check_scale(values: FloatArray) -> None:
    outside = (values < 1) | (values > N_POINTS)
    if outside.any():
        raise RatingOutOfScale(sorted({float(value) for value in values[outside]})[:5], N_POINTS)


def _aligned_expected(ratings: pd.DataFrame, in_reverse: BoolArray) -> FloatArray:
    expected = ratings["expected_raw"].to_numpy(dtype=np.float64, na_value=np.nan)
    _check_scale(expected)
    return align_valence(reverse_scale(expected, in_reverse), ratings["valence"].to_numpy(np.int8))


def _sum_cells(cell: IntArray, values: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    total = np.bincount(cell, weights=values, minlength=int(np.prod(shape)))
    return np.asarray(total, dtype=np.float64).reshape(shape)


def _first_rows(codes: NDArray[np.intp], size: int) -> IntArray:
    first = np.empty(size, dtype=np.int64)
    first[codes[::-1]] = np.arange(len(codes))[::-1]  # the last write, the first row, stays
    return first


def _trait_table(ratings: pd.DataFrame, codes: NDArray[np.intp], size: int) -> pd.DataFrame:
    rows = _first_rows(codes, size)
    table = ratings[list(TRAIT_COLUMNS)].iloc[rows].reset_index(drop=True)
    names = table["trait_category"].astype(object)
    names = names.where(names.notna(), UNKNOWN_TRAIT_CATEGORY)
    return table.assign(
        trait_category=names.astype(str).astype("category"),
        valence=table["valence"].astype(np.int8),
    )


def _attribute_table(
    ratings: pd.DataFrame, attributes: Sequence[str], codes: NDArray[np.intp], size: int
) -> pd.DataFrame:
    rows = _first_rows(codes, size)
    columns = {}
    for name in attributes:
        values = ratings[name].iloc[rows].astype("category").cat.remove_unused_categories()
        if values.isna().any():
            values = values.astype(object).where(values.notna(), UNKNOWN_CATEGORY)
        columns[name] = pd.Categorical(values)
    return pd.DataFrame(columns, index=pd.RangeIndex(size))
