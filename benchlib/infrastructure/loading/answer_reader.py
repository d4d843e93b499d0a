"""Read a run's answers once, block by block, into the grid and sums that analysis needs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlmodel import Session

from benchlib.domain.analysis.answer_grid import GIVEN_UP
from benchlib.domain.analysis.distributions import (
    DistributionSums,
    compute_distribution_sums,
    describe_distributions,
)
from benchlib.domain.vocabulary import N_POINTS
from benchlib.infrastructure.storage import answer_blocks
from benchlib.infrastructure.storage.answer_blocks import AnswerBlock, GivenUp

IntArray = NDArray[np.int64]


@dataclass(slots=True, eq=False)
class StoredAnswers:
    """Everything that analysis needs of a run's answers; P personas, T traits.

    Attributes:
        persona_ids: (P,) ascending.
        trait_ids: (T,) ascending.
        digits: (2, P, T) as in `AnswerGrid`, without questions that were given up.
        expected: (2, P, T) as in `AnswerGrid`.
        distributions: (T,) sums over the distributions behind the answers, scale order undone.
        n_strangers: Answers about other traits, which were left out.
    """

    persona_ids: IntArray
    trait_ids: IntArray
    digits: NDArray[np.int8]
    expected: NDArray[np.float64] | None
    distributions: DistributionSums
    n_strangers: int

    @property
    def n_rows(self) -> int:
        """Number of answers that were read."""
        return int(np.count_nonzero(self.digits)) + self.n_strangers


def read_answers(
    session: Session, run_id: int, persona_ids: IntArray, trait_ids: Sequence[int]
) -> StoredAnswers:
    """Read a run's answers.

    Args:
        session: Sees one consistent state of the store.
        run_id: The run.
        persona_ids: Its personas; others with answers are added.
        trait_ids: Its traits; answers about others are left out.
    """
    personas, asked = np.unique(persona_ids), np.unique(np.array(trait_ids, dtype=np.int64))
    found = StoredAnswers(
        persona_ids=personas,
        trait_ids=asked,
        digits=np.zeros((2, len(personas), len(asked)), dtype=np.int8),
        expected=None,
        distributions=_sums_of(np.empty((0, N_POINTS)), np.empty(0), False, None, len(asked)),
        n_strangers=0,
    )
    for block in answer_blocks.iter_answers(session, run_id):
        _add(found, block)
    return found


def mark_given_up(found: StoredAnswers, given_up: GivenUp, persona_ids: IntArray) -> None:
    """Mark the questions of these personas that were given up and never answered since."""
    persona = _position(found.persona_ids, given_up.persona_id)
    trait = _position(found.trait_ids, given_up.trait_id)
    known = (persona >= 0) & (trait >= 0) & np.isin(given_up.persona_id, persona_ids)
    where = given_up.scale_order[known], persona[known], trait[known]
    found.digits[where] = np.where(found.digits[where] > 0, found.digits[where], GIVEN_UP)


def _add(found: StoredAnswers, block: AnswerBlock) -> None:
    trait = _position(found.trait_ids, block.trait_id)
    if (trait < 0).any():
        known = trait >= 0
        found.n_strangers += int((~known).sum())
        block, trait = AnswerBlock._make(column[known] for column in block), trait[known]
    persona = _position(found.persona_ids, block.persona_id)
    if (persona < 0).any():
        _add_personas(found, block.persona_id[persona < 0])
        persona = _position(found.persona_ids, block.persona_id)
    found.digits[block.scale_order, persona, trait] = block.rating_raw
    if not block.has_shares.any():
        return
    total = block.shares.sum(axis=1)
    defined = total > 0
    if found.expected is None and defined.any():
        found.expected = np.full(found.digits.shape, np.nan)
    if found.expected is not None:
        weighted = block.shares[defined] @ np.arange(1, N_POINTS + 1)
        where = block.scale_order[defined], persona[defined], trait[defined]
        found.expected[where] = weighted / total[defined]
    found.distributions += _sums_of(
        block.probabilities, block.mass, block.scale_order == 1, trait, len(found.trait_ids)
    )


def _sums_of(
    shares: NDArray[np.float64],
    mass: NDArray[np.float64],
    in_reverse: NDArray[np.bool_] | bool,
    trait: IntArray | None,
    n_traits: int,
) -> DistributionSums:
    described = describe_distributions(shares, mass, in_reverse)
    return compute_distribution_sums(described, trait, n_traits)


def _add_personas(found: StoredAnswers, ids: IntArray) -> None:
    """Add places for personas that are not in the dataset."""
    known = found.persona_ids
    found.persona_ids = np.union1d(known, ids)
    places = np.searchsorted(found.persona_ids, known)
    shape = (2, len(found.persona_ids), len(found.trait_ids))
    digits = np.zeros(shape, dtype=np.int8)
    digits[:, places] = found.digits
    found.digits = digits
    if found.expected is not None:
        expected = np.full(shape, np.nan)
        expected[:, places] = found.expected
        found.expected = expected


def _position(ascending: IntArray, values: IntArray) -> IntArray:
    """Position of each value; -1 where there is none."""
    if not len(ascending):
        return np.full(len(values), -1, dtype=np.int64)
    place = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    return np.where(ascending[place] == values, place, -1)
