"""A run's answers on the grid of personas x traits x scale orders: a byte each, no row per answer.

A question has at most one answer in each scale order, so the grid loses nothing, and everything
that panels need is counted or reduced from it.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchlib.domain.vocabulary import N_POINTS

GIVEN_UP: Final = -1
"""Stands for a question that was asked and got no rating."""


@dataclass(frozen=True, slots=True, eq=False)
class AnswerGrid:
    """Every answer of a run; P personas, T traits, arrays never changed once they are in here.

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

    @property
    def rated(self) -> NDArray[np.bool_]:
        """(2, P, T) where a rating stands."""
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
        """(T, 5) answers per point, scale order undone; `aligned` undoes the valence too."""
        shown_in, shown_rev = self.count_digits()
        counts = shown_in + shown_rev[:, ::-1]
        if aligned:
            negative = self.traits["valence"].to_numpy(dtype=np.int8) < 0
            counts[negative] = counts[negative, ::-1]
        return np.asarray(counts)
