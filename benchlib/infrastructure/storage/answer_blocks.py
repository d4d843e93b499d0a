"""A run's results as columns, for analysis: no object per row.

The database packs the key, rating and distribution of an answer into four integers. They are read
a block of rows at a time, so that the rows of a run are never all in memory.
"""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection
from sqlmodel import Session

from benchlib.infrastructure.storage.models import PPB

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

_CHUNK: Final = 2_000
_BLOCK_CHUNKS: Final = 32
_SHARE_BITS: Final = 31  # of a whole number in the store
_SHARE_MASK: Final = (1 << _SHARE_BITS) - 1
_KEY: Final = (
    "(CAST(persona_id AS BIGINT) << 24) | (CAST(trait_id AS BIGINT) << 4) "
    "| (scale_order << 3) | rating_raw"
)


def _pair(first: str, second: str) -> str:
    """Two shares in one integer; NULL if either is NULL."""
    return f"(CAST({first} AS BIGINT) << {_SHARE_BITS}) | {second}"


_PACKED: Final = (
    _KEY,
    f"COALESCE({_pair('p1', 'p2')}, -1)",
    f"COALESCE({_pair('p3', 'p4')}, -1)",
    f"COALESCE({_pair('p5', 'COALESCE(valid_mass + 1, 0)')}, -1)",
)


class AnswerBlock(NamedTuple):
    """Some answers of a run, as stored; n rows.

    Attributes:
        persona_id: (n,) persona.
        trait_id: (n,) trait version.
        scale_order: (n,) 0 = in, 1 = rev.
        rating_raw: (n,) the digit the model gave.
        has_shares: (n,) whether the answer has all five probabilities.
        shares: (n, 5) probability of the raw digits in parts per billion; 0 where there are none.
        valid_mass: (n,) parts per billion; -1 = unknown.
    """

    persona_id: IntArray
    trait_id: IntArray
    scale_order: NDArray[np.int8]
    rating_raw: NDArray[np.int8]
    has_shares: NDArray[np.bool_]
    shares: IntArray
    valid_mass: IntArray

    @property
    def probabilities(self) -> FloatArray:
        """(n, 5) the same as `shares`, 0..1."""
        return self.shares / PPB

    @property
    def mass(self) -> FloatArray:
        """(n,) the same as `valid_mass`, 0..1; NaN = unknown."""
        return np.where(self.valid_mass < 0, np.nan, self.valid_mass / PPB)


class GivenUp(NamedTuple):
    """Questions that were given up, (n,) each; some may have been answered after a resume."""

    persona_id: IntArray
    trait_id: IntArray
    scale_order: IntArray


def iter_answers(session: Session, run_id: int) -> Iterator[AnswerBlock]:
    """Every rating of a run, in the order of the store."""
    query = f"SELECT {', '.join(_PACKED)} FROM benchmarkresult WHERE run_id = {run_id:d}"
    for table in _iter_tables(session, query, len(_PACKED)):
        key, *packed = np.ascontiguousarray(table.T)
        has_shares = np.minimum.reduce(packed) >= 0
        shares = np.empty((6, len(key)), dtype=np.int64)
        for place, numbers in enumerate(packed):
            np.right_shift(numbers, _SHARE_BITS, out=shares[2 * place])
            np.bitwise_and(numbers, _SHARE_MASK, out=shares[2 * place + 1])
        shares *= has_shares
        yield AnswerBlock(
            persona_id=key >> 24,
            trait_id=(key >> 4) & 0xFFFFF,
            scale_order=((key >> 3) & 1).astype(np.int8),
            rating_raw=(key & 7).astype(np.int8),
            has_shares=has_shares,
            shares=shares[:5].T,
            valid_mass=shares[5] - 1,
        )


def fetch_trait_digest(session: Session, trait_ids: Sequence[int]) -> str:
    """A hash of the content of traits, by id; far cheaper than reading them."""
    if not trait_ids:
        return ""
    ids = ", ".join(f"{trait_id:d}" for trait_id in trait_ids)
    rows = session.connection().exec_driver_sql(
        "SELECT id, case_id, CAST(adjective AS TEXT), category, valence FROM trait "
        f"WHERE id IN ({ids}) ORDER BY id"
    )
    content = repr([tuple(row) for row in rows])
    return hashlib.sha256(content.encode()).hexdigest()


def fetch_given_up(session: Session, run_id: int) -> GivenUp:
    """The questions of a run whose last attempt failed, each once."""
    query = (
        "SELECT DISTINCT persona_id, trait_id, scale_order FROM failure "
        f"WHERE run_id = {run_id:d} AND final AND persona_id IS NOT NULL "
        "AND trait_id IS NOT NULL AND scale_order IS NOT NULL"
    )
    nothing = np.empty((0, 3), dtype=np.int64)
    return GivenUp(*np.concatenate([nothing, *_iter_tables(session, query, 3)]).T)


def _iter_tables(session: Session, query: str, width: int) -> Iterator[IntArray]:
    """Rows of integers as (n, width) arrays, a block at a time."""
    pieces: list[IntArray] = []
    for rows in _iter_rows(session.connection(), query):
        numbers = chain.from_iterable(rows)
        pieces.append(np.fromiter(numbers, dtype=np.int64, count=width * len(rows)))
        if len(pieces) == _BLOCK_CHUNKS:
            yield np.concatenate(pieces).reshape(-1, width)
            pieces = []
    if pieces:
        yield np.concatenate(pieces).reshape(-1, width)


def _iter_rows(connection: Connection, query: str) -> Iterator[list[tuple[int, ...]]]:
    """Rows from the driver, some at a time; that of PostgreSQL would otherwise send all at once."""
    if connection.dialect.name == "sqlite":
        cursor: Any = connection.exec_driver_sql(query).cursor
        while rows := cursor.fetchmany(_CHUNK):
            yield rows
        cursor.close()
        return
    connection.exec_driver_sql(f"DECLARE answers NO SCROLL CURSOR FOR {query}")
    while True:
        cursor = connection.exec_driver_sql(f"FETCH {_CHUNK} FROM answers").cursor
        if not (rows := cursor.fetchall()):
            break
        yield rows
    connection.exec_driver_sql("CLOSE answers")
