"""Results of a run as columns: what analysis reads, without an object per row.

The key and the rating of an answer are packed into one number by the database, so that a million
answers cost three million numbers instead of seven.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlmodel import Session

from benchlib.infrastructure.storage.models import PPB

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

LOW_MASS_PPB: Final = 900_000_000
"""Answers with less probability on valid digits count as `n_low` in `MassSummary`."""

_CHUNK: Final = 2_000
_PACKED: Final = (
    "(CAST(persona_id AS BIGINT) << 24) | (CAST(trait_id AS BIGINT) << 4) "
    "| (scale_order << 3) | rating_raw"
)
# Sums of parts per billion need 64 bits; a NULL makes 0, which is no distribution.
_WEIGHTED: Final = (
    "COALESCE(CAST(1 AS BIGINT) * p1 + CAST(2 AS BIGINT) * p2 + CAST(3 AS BIGINT) * p3 "
    "+ CAST(4 AS BIGINT) * p4 + CAST(5 AS BIGINT) * p5, 0)"
)
_TOTAL: Final = "COALESCE(CAST(1 AS BIGINT) * p1 + p2 + p3 + p4 + p5, 0)"


class MassSummary(NamedTuple):
    """Probability of a valid digit over the answers that tell it.

    Attributes:
        n: Answers with a known mass.
        mean: 0..1; None without any.
        n_low: Answers below LOW_MASS_PPB.
    """

    n: int
    mean: float | None
    n_low: int


@dataclass(frozen=True, slots=True, eq=False)
class RatingColumns:
    """Every rating of a run, ordered by persona, trait and scale order.

    Attributes:
        packed: persona_id << 24 | trait_id << 4 | scale order << 3 | rating_raw.
        expected_raw: Expected digit 1..5, NaN without a distribution; None if no answer has one.
    """

    packed: IntArray
    expected_raw: FloatArray | None

    @property
    def persona_id(self) -> IntArray:
        """Persona of each answer, ascending."""
        return np.asarray(self.packed >> 24)

    @property
    def trait_id(self) -> IntArray:
        """Trait version of each answer."""
        return np.asarray((self.packed >> 4) & 0xFFFFF)

    @property
    def scale_order(self) -> NDArray[np.int8]:
        """0 = in, 1 = rev."""
        return np.asarray((self.packed >> 3) & 1).astype(np.int8)

    @property
    def rating_raw(self) -> NDArray[np.int8]:
        """The digit that was answered."""
        return np.asarray(self.packed & 7).astype(np.int8)


@dataclass(frozen=True, slots=True, eq=False)
class DistributionColumns:
    """The answers of a run that have a distribution.

    Attributes:
        trait_id: (n,) trait version.
        scale_order: (n,) 0 = in, 1 = rev.
        probabilities: (n, 5) probability of the raw digits, 0..1.
        valid_mass: (n,) probability of all digits before renormalising; NaN if unknown.
    """

    trait_id: IntArray
    scale_order: NDArray[np.int8]
    probabilities: FloatArray
    valid_mass: FloatArray


class GivenUp(NamedTuple):
    """Questions that were given up, (n,) each; some may have been rated after a resume."""

    persona_id: IntArray
    trait_id: IntArray
    scale_order: IntArray


def fetch_ratings(session: Session, run_id: int) -> RatingColumns:
    """Every rating of a run."""
    table = _fetch(
        session,
        f"SELECT {_PACKED}, {_WEIGHTED}, {_TOTAL} FROM benchmarkresult WHERE run_id = {run_id:d}",
        3,
    )
    packed, weighted, total = (np.ascontiguousarray(table[:, i]) for i in range(3))
    if len(packed) > 1 and not (packed[1:] > packed[:-1]).all():
        order = np.argsort(packed)
        packed, weighted, total = packed[order], weighted[order], total[order]
    known = total > 0
    expected = None
    if known.any():
        expected = np.full(len(packed), np.nan)
        np.divide(weighted, total, out=expected, where=known)
    return RatingColumns(packed, expected)


def fetch_trait_digest(session: Session, trait_ids: Sequence[int]) -> str:
    """Stands for what traits say, in their order; far cheaper than reading them."""
    if not trait_ids:
        return ""
    ids = ", ".join(f"{trait_id:d}" for trait_id in trait_ids)
    rows = session.connection().exec_driver_sql(
        "SELECT id, case_id, CAST(adjective AS TEXT), category, valence FROM trait "
        f"WHERE id IN ({ids}) ORDER BY id"
    )
    content = repr([tuple(row) for row in rows])
    return hashlib.sha256(content.encode()).hexdigest()


def fetch_mass(session: Session, run_id: int) -> MassSummary:
    """How much probability lay on valid digits, summed up by the database."""
    low = f"SUM(CASE WHEN valid_mass < {LOW_MASS_PPB} THEN 1 ELSE 0 END)"
    n, mean, n_low = (
        session.connection()
        .exec_driver_sql(
            f"SELECT COUNT(valid_mass), AVG(valid_mass), {low} FROM benchmarkresult "
            f"WHERE run_id = {run_id:d}"
        )
        .one()
    )
    return MassSummary(int(n), None if mean is None else float(mean) / PPB, int(n_low or 0))


def fetch_distributions(session: Session, run_id: int) -> DistributionColumns:
    """The answers of a run that have a distribution, with its five probabilities."""
    table = _fetch(
        session,
        f"SELECT {_PACKED}, p1, p2, p3, p4, p5, COALESCE(valid_mass, -1) FROM benchmarkresult "
        f"WHERE run_id = {run_id:d} AND p1 IS NOT NULL AND p2 IS NOT NULL AND p3 IS NOT NULL "
        "AND p4 IS NOT NULL AND p5 IS NOT NULL",
        7,
    )
    keys = RatingColumns(np.ascontiguousarray(table[:, 0]), None)
    mass = table[:, 6] / PPB
    return DistributionColumns(
        keys.trait_id, keys.scale_order, table[:, 1:6] / PPB, np.where(mass < 0, np.nan, mass)
    )


def fetch_given_up(session: Session, run_id: int) -> GivenUp:
    """Questions of a run whose last attempt failed, each once."""
    table = _fetch(
        session,
        "SELECT DISTINCT persona_id, trait_id, scale_order FROM failure "
        f"WHERE run_id = {run_id:d} AND final AND persona_id IS NOT NULL "
        "AND trait_id IS NOT NULL AND scale_order IS NOT NULL",
        3,
    )
    return GivenUp(*(np.ascontiguousarray(table[:, i]) for i in range(3)))


def _fetch(session: Session, query: str, width: int) -> IntArray:
    """Rows of whole numbers as an (n, width) array, a chunk of rows in memory at a time."""
    result = session.connection().exec_driver_sql(query)
    cursor: Any = result.cursor
    pieces = [np.empty(0, dtype=np.int64)]
    while rows := cursor.fetchmany(_CHUNK):
        numbers = chain.from_iterable(rows)
        pieces.append(np.fromiter(numbers, dtype=np.int64, count=width * len(rows)))
    result.close()
    return np.concatenate(pieces).reshape(-1, width)
