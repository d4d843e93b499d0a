"""A run's answers on a grid of scale orders x personas x traits: one byte each, no row per answer.

A question has at most one answer in each scale order, so the grid loses nothing; every statistic is
counted on it or reduced from it.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchlib.domain.arrays import BoolArray, FloatArray
from benchlib.domain.errors import InvalidInput, RatingOutOfScale
from benchlib.domain.vocabulary import N_POINTS, SCALE_ORDERS, UNKNOWN_TRAIT_CATEGORY

TRAIT_COLUMNS: Final = ("case_id", "label", "trait_category", "valence")
ANSWER_COLUMNS: Final = ("persona_id", "trait_id", "scale_order", "rating_raw", *TRAIT_COLUMNS)

GIVEN_UP: Final = -1
"""Marks a question that was asked but got no rating."""


@dataclass(frozen=True, slots=True, eq=False)
class AnswerGrid:
    """Every answer of a run; P personas, T traits, arrays are never changed.

    Attributes:
        persona_ids: (P,) ascending ids of all personas of the run, answered or not.
        trait_ids: (T,) ascending ids of all traits of the run.
        traits: T rows: `case_id`, `label`, `trait_category`, `valence`.
        digits: (2, P, T) raw digit 1..5 in the orders `in` and `rev`; 0 = no answer, GIVEN_UP.
        expected: (2, P, T) expected raw digit 1..5, NaN without a distribution; None if no answer
            has one.
    """

    persona_ids: NDArray[np.int64]
    trait_ids: NDArray[np.int64]
    traits: pd.DataFrame
    digits: NDArray[np.int8]
    expected: NDArray[np.float64] | None

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> "AnswerGrid":
        """Lay out the rows of a long frame; every statistic starts from a grid.

        Args:
            frame: One row per question that was asked; reads `persona_id`, `trait_id`,
                `scale_order` (`in` or `rev`), `rating_raw` (1..5 as answered, NaN = no rating
                came), `case_id`, `label`, `trait_category` (missing = `Unknown`), `valence`
                (-1, 0, 1) and, if present, `expected_raw` (1..5, NaN = no distribution). A
                fraction in `rating_raw` counts as an expected rating; the digit is the nearest.

        Returns:
            The grid of the personas and traits in the frame; without rows, none of either.

        Raises:
            InvalidInput: A column is missing, a scale order is unknown, or a question occurs
                twice.
            RatingOutOfScale: A rating lies outside 1..5.
        """
        absent = sorted(set(ANSWER_COLUMNS) - set(frame.columns))
        if absent:
            raise InvalidInput(f"The ratings have no {', '.join(absent)}; load the run again.")
        persona, persona_ids = pd.factorize(frame["persona_id"].to_numpy(np.int64), sort=True)
        trait, trait_ids = pd.factorize(frame["trait_id"].to_numpy(np.int64), sort=True)
        at = _is_reversed(frame["scale_order"]).astype(np.int64), persona, trait
        raw = frame["rating_raw"].to_numpy(dtype=np.float64, na_value=np.nan)
        check_scale(raw)
        digits = np.zeros((2, len(persona_ids), len(trait_ids)), dtype=np.int8)
        if len(np.unique(np.ravel_multi_index(at, digits.shape))) < len(frame):
            raise InvalidInput(
                "A question occurs twice; keep one row per persona, trait and scale order."
            )
        digits[at] = np.where(np.isnan(raw), GIVEN_UP, np.rint(raw))
        expected_raw = np.where(raw == np.rint(raw), np.nan, raw)
        if "expected_raw" in frame:
            given = frame["expected_raw"].to_numpy(dtype=np.float64, na_value=np.nan)
            check_scale(given)
            expected_raw = np.where(np.isnan(given) | np.isnan(raw), expected_raw, given)
        expected = None
        if not np.isnan(expected_raw).all():
            expected = np.full(digits.shape, np.nan)
            expected[at] = expected_raw
        return cls(persona_ids, trait_ids, _trait_table(frame), digits, expected)

    @property
    def rated(self) -> NDArray[np.bool_]:
        """(2, P, T) True where there is a rating."""
        return np.asarray(self.digits > 0)

    @property
    def n_answers(self) -> int:
        """Ratings; both answers of a pair count."""
        return int(np.count_nonzero(self.digits > 0))

    @property
    def n_rated_personas(self) -> int:
        """Personas with a rating."""
        return int(self.rated.any(axis=(0, 2)).sum())

    @property
    def n_expected_personas(self) -> int:
        """Personas with a rating that has a distribution."""
        if self.expected is None:
            return 0
        return int((~np.isnan(self.expected)).any(axis=(0, 2)).sum())

    def take_category(self, trait_category: str | None) -> "AnswerGrid":
        """Keep the traits of one category; None keeps all."""
        if trait_category is None:
            return self
        keep = self.traits["trait_category"].to_numpy(dtype=object) == trait_category
        return AnswerGrid(
            self.persona_ids,
            self.trait_ids[keep],
            self.traits[keep].reset_index(drop=True),
            self.digits[:, :, keep],
            None if self.expected is None else self.expected[:, :, keep],
        )

    def without(self, persona_ids: NDArray[np.int64]) -> "AnswerGrid":
        """Leave out some personas."""
        if not len(persona_ids):
            return self
        keep = ~np.isin(self.persona_ids, persona_ids)
        return AnswerGrid(
            self.persona_ids[keep],
            self.trait_ids,
            self.traits,
            self.digits[:, keep],
            None if self.expected is None else self.expected[:, keep],
        )

    def count_digits(self) -> NDArray[np.int64]:
        """(2, T, 5) how often each raw digit was answered."""
        points = range(1, N_POINTS + 1)
        counts = [np.count_nonzero(self.digits == point, axis=1) for point in points]
        return np.stack(counts, axis=-1).astype(np.int64)

    def count_points(self, *, aligned: bool = False) -> NDArray[np.int64]:
        """(T, 5) answers per point, scale order undone; `aligned`: valence aligned too."""
        shown_in, shown_rev = self.count_digits()
        counts = shown_in + shown_rev[:, ::-1]
        if aligned:
            negative = self.traits["valence"].to_numpy(dtype=np.int8) < 0
            counts[negative] = counts[negative, ::-1]
        return np.asarray(counts)


def check_scale(ratings: FloatArray) -> None:
    """Refuse ratings outside 1..5; NaN passes.

    Raises:
        RatingOutOfScale: It names up to five of them.
    """
    outside = (ratings < 1) | (ratings > N_POINTS)
    if outside.any():
        raise RatingOutOfScale(np.unique(ratings[outside]).tolist()[:5], N_POINTS)


def _is_reversed(scale_order: pd.Series) -> BoolArray:
    in_order, reverse = ((scale_order == order).to_numpy(dtype=bool) for order in SCALE_ORDERS)
    if not (in_order | reverse).all():
        raise InvalidInput("A scale order is neither 'in' nor 'rev'; check the stored answers.")
    return np.asarray(reverse)


def _trait_table(frame: pd.DataFrame) -> pd.DataFrame:
    """What the first row of each trait says about it, in the order of the ids."""
    rows = frame.drop_duplicates("trait_id").sort_values("trait_id").reset_index(drop=True)
    names = rows["trait_category"].astype(object)
    names = names.where(names.notna(), UNKNOWN_TRAIT_CATEGORY)
    return rows[list(TRAIT_COLUMNS)].assign(
        trait_category=names.astype(str).astype("category"),
        valence=rows["valence"].astype(np.int8),
    )
