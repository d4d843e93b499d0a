"""From stored answers to one number per persona and trait.

The persona is the unit of replication: every statistic of a run is computed from `Cells`, the
persona x trait reduction made here, and from the persona scores drawn from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from benchlib.domain.analysis.answer_grid import AnswerGrid, check_scale
from benchlib.domain.arrays import BoolArray, FloatArray, IntArray
from benchlib.domain.errors import InvalidInput
from benchlib.domain.stats.additive_fit import compute_order_fit, weigh_orders
from benchlib.domain.vocabulary import N_POINTS, UNKNOWN_CATEGORY

MIN_RATED_SHARE = 0.5
"""A persona enters an analysis if at least this share of the traits in the set is rated."""


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """The persona x trait reduction of a run; P personas, T traits, all arrays in that order.

    Attributes:
        persona_ids: (P,) ascending ids of all personas with a row, rated or not.
        trait_ids: (T,) ascending ids of all traits with a row, neutral ones included.
        traits: T rows: `case_id`, `label`, `trait_category` (`Unknown` where none is given),
            `valence`.
        attributes: P rows, one categorical column per attribute; a missing value is `Unknown`.
        centred: (P, T) aligned rating minus the level of its trait and scale order, averaged over
            the orders present, in rating points; NaN = not rated. Levels come from the additive fit
            rating = persona + (trait x order), one for the traits with a valence and one for the
            neutral ones, these on the unaligned scale.
        orders: (P, T) scale orders rated: 0 = none, 1 = in, 2 = reversed, 3 = both.
        order_sums: (2, T) sum of what `centred` averages, by scale order; the two ratings of a pair
            count half each. With `centred` and `orders` all that another fit needs.
        order_components: (2, T) component of the trait in that order in the additive fit, -1 =
            nobody rated it; two levels can be compared within a component only.
        half_points: (P, T) twice the aligned answer (2..10; 0 = not rated), from the digits
            answered, never from distributions. A pair of both orders gives its mean, hence
            halves; so every persona counts once per trait.
        n_answers: (P, T) rated answers behind the cell (0, 1, or 2 for a pair of both orders).
        trait_means: (T,) aligned level of the trait for an average persona, 1..5, both scale orders
            counting alike where both were asked; NaN for a trait nobody rated.
        expected_by_trait: (T,) rated answers that entered `centred` with their expected rating.
    """

    persona_ids: IntArray
    trait_ids: IntArray
    traits: pd.DataFrame
    attributes: pd.DataFrame
    centred: FloatArray
    orders: NDArray[np.uint8]
    order_sums: FloatArray
    order_components: IntArray
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
        `rating`: 6 - r where the valence is -1, r elsewhere; neutral traits stay unaligned.
    """
    ratings = np.asarray(rating_pre_valence, dtype=np.float64)
    return np.where(np.asarray(valence) == -1, N_POINTS + 1 - ratings, ratings)


def compute_cells(
    ratings: pd.DataFrame | AnswerGrid, attributes: Sequence[str], *, use_expected: bool = True
) -> Cells:
    """Reduce the answers of a run to persona x trait cells, in time linear in the grid.

    From each aligned rating the level of its trait and scale order is taken, as fitted together
    with one effect per persona, then the orders present are averaged: trait levels, order bias and
    who was asked what drop out, and a pair of both orders counts once. Where all personas were
    asked the same, the level is the plain mean.

    With `use_expected`, an answer with a digit distribution enters `centred` by its expected
    rating, which carries no sampling noise, and an answer without one by its digit. Both estimate
    the same mean if digits were sampled; in a run that mixes them `n_expected` lies between 0 and
    `n_ratings`, which is worth a note next to the numbers.

    Args:
        ratings: The answers as a grid, whose personas have no attributes yet; or as a long frame,
            as `AnswerGrid.from_frame` reads it, with the attribute columns.
        attributes: Names of the attribute columns; none for a grid.
        use_expected: Whether expected ratings replace digits where they exist.

    Returns:
        The cells; without rows, zero personas and zero traits.

    Raises:
        InvalidInput: A column is missing, a scale order is unknown, or a question occurs twice.
        RatingOutOfScale: A rating lies outside 1..5.
    """
    if isinstance(ratings, AnswerGrid):
        return _reduce(ratings, use_expected=use_expected)
    absent = sorted(set(attributes) - set(ratings.columns))
    if absent:
        raise InvalidInput(f"The ratings have no {', '.join(absent)}; load the run again.")
    cells = _reduce(AnswerGrid.from_frame(ratings), use_expected=use_expected)
    return replace(cells, attributes=_attribute_table(ratings, attributes))


def _reduce(grid: AnswerGrid, *, use_expected: bool) -> Cells:
    """Align, centre and average over the orders; in place, as the levels take 16 bytes per cell."""
    present = grid.rated
    valence = grid.traits["valence"].to_numpy(dtype=np.int8)
    digits = np.where(present, grid.digits, np.int8(0))
    np.subtract(N_POINTS + 1, digits[1], out=digits[1])
    np.subtract(N_POINTS + 1, digits, out=digits, where=valence == -1)
    digits *= present
    level = digits.astype(np.float64)  # (2, P, T) aligned ratings, 0 where there is none
    expected_by_trait = np.zeros(len(valence), dtype=np.int64)
    if use_expected and grid.expected is not None:
        check_scale(grid.expected)
        known = present & ~np.isnan(grid.expected)
        expected_by_trait = known.sum(axis=(0, 1), dtype=np.int64)
        for order in (0, 1):
            aligned = align_valence(reverse_scale(grid.expected[order], order == 1), valence)
            np.copyto(level[order], aligned, where=known[order])
    n_orders = present.sum(axis=0, dtype=np.int8)
    answered, divisor = n_orders > 0, np.maximum(n_orders, 1)
    level /= divisor  # the two answers of a pair count half each
    order_sums = level.sum(axis=1)
    centred = level.sum(axis=0)
    del level
    orders = present[0].astype(np.uint8)
    orders += 2 * present[1].astype(np.uint8)
    levels, components = _fit_levels(centred, order_sums, orders, valence != 0)
    known = np.nan_to_num(levels)
    for order in (0, 1):
        order_sums[order] -= known[order] * (present[order] / divisor).sum(axis=0)
        np.subtract(centred, known[order] / divisor, out=centred, where=present[order])
    centred[~answered] = np.nan
    n_levels = np.isfinite(levels).sum(axis=0)
    return Cells(
        persona_ids=grid.persona_ids,
        trait_ids=grid.trait_ids,
        traits=grid.traits,
        attributes=pd.DataFrame(index=pd.RangeIndex(len(grid.persona_ids))),
        centred=centred,
        orders=orders,
        order_sums=order_sums,
        order_components=components,
        half_points=np.rint(2.0 * digits.sum(axis=0, dtype=np.int8) / divisor).astype(np.int8),
        n_answers=n_orders.astype(np.int16),
        trait_means=np.where(n_levels > 0, known.sum(axis=0) / np.maximum(n_levels, 1), np.nan),
        expected_by_trait=expected_by_trait,
    )


def _fit_levels(
    ratings: FloatArray, order_sums: FloatArray, orders: NDArray[np.uint8], aligned: BoolArray
) -> tuple[FloatArray, IntArray]:
    """Levels and components (2, T) of the additive fits, of traits with a valence and of others."""
    levels = np.full(order_sums.shape, np.nan)
    components = np.full(order_sums.shape, -1, dtype=np.int64)
    for side in (aligned, ~aligned):
        if side.any():
            own = orders if side.all() else orders[:, side]
            mean = ratings @ side.astype(np.float64) / np.maximum((own > 0).sum(axis=1), 1)
            fit = compute_order_fit(mean, order_sums[:, side], own)
            levels[:, side] = fit.column.reshape(2, -1)
            components[:, side] = fit.column_component.reshape(2, -1)
    return levels, components


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
        orders=cells.orders[:, keep],
        order_sums=cells.order_sums[:, keep],
        order_components=cells.order_components[:, keep],
        half_points=cells.half_points[:, keep],
        n_answers=cells.n_answers[:, keep],
        trait_means=cells.trait_means[keep],
        expected_by_trait=cells.expected_by_trait[keep],
    )


def take_personas(cells: Cells, keep: BoolArray) -> Cells:
    """Keep the personas marked True in a (P,) mask; centring and trait means stay as they are.

    Scores of the rest are fitted as if both ratings of a pair had deviated alike.
    """
    if keep.all():
        return cells
    attributes = cells.attributes[keep].reset_index(drop=True)
    orders = cells.orders[keep]
    centred = np.nan_to_num(cells.centred[keep])
    weights = weigh_orders(orders).reshape(len(orders), 2, cells.n_traits)
    return replace(
        cells,
        persona_ids=cells.persona_ids[keep],
        attributes=attributes.apply(lambda column: column.cat.remove_unused_categories()),
        centred=cells.centred[keep],
        orders=orders,
        order_sums=np.einsum("pot,pt->ot", weights, centred),
        half_points=cells.half_points[keep],
        n_answers=cells.n_answers[keep],
    )


def _attribute_table(ratings: pd.DataFrame, attributes: Sequence[str]) -> pd.DataFrame:
    """What the first row of each persona says about it, in the order of the ids."""
    rows = ratings.drop_duplicates("persona_id").sort_values("persona_id")
    columns = {}
    for name in attributes:
        values = rows[name].astype("category").cat.remove_unused_categories()
        if values.isna().any():
            values = values.astype(object).where(values.notna(), UNKNOWN_CATEGORY)
        columns[name] = pd.Categorical(values)
    return pd.DataFrame(columns, index=pd.RangeIndex(len(rows)))
