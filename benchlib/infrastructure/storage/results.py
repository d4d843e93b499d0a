"""Answers and failed attempts of runs: written in batches by the run's owner, read page by page."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain
from typing import Any, Final, NamedTuple

import numpy as np
from sqlalchemy import func
from sqlmodel import Session, col, select

from benchlib.domain.asking.work_plan import CompletedKeys
from benchlib.domain.records import (
    EVERYTHING,
    Answer,
    AnswerFailure,
    AnswerFilter,
    Question,
    StoredAnswer,
    StoredFailure,
)
from benchlib.domain.vocabulary import N_POINTS, SCALE_ORDERS, FailureKind
from benchlib.infrastructure.storage.models import (
    PPB,
    AnswerText,
    BenchmarkResult,
    Failure,
    Persona,
    Trait,
)
from benchlib.infrastructure.storage.runs import empty_tally

_SHORT_ANSWER: Final = 16
"""Raw answers up to this length are stored in the result row, longer ones in `answertext`."""

_ROWS_AT_ONCE: Final = 256
"""A power of two. Rows x columns are parameters; SQLite takes 32,766 of them per statement."""

SNIPPET: Final = 500
"""Characters of an answer or prompt stored with a failed attempt."""

_KEY: Final = ("run_id", "persona_id", "trait_id", "scale_order")
_RESULT_COLUMNS: Final = (
    *_KEY,
    *("rating_raw", "p1", "p2", "p3", "p4", "p5", "valid_mass", "attempt", "latency_ms"),
    *("prompt_tokens", "completion_tokens", "answered_at", "raw_answer"),
)
_TEXT_COLUMNS: Final = (*_KEY, "text")
_TEXTS: Final = frozenset({"raw_answer", "text"})


class Rated(NamedTuple):
    """An answered question, ready to be stored."""

    question: Question
    answer: Answer
    answered_at: datetime


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """An attempt without a rating, ready to be stored; `question` is None for whole requests."""

    kind: FailureKind
    message: str
    failed_at: datetime
    question: Question | None = None
    n_items: int = 1
    attempt: int = 1
    final: bool = False
    raw_text: str = ""


def add_results(session: Session, run_id: int, rated: Sequence[Rated]) -> None:
    """Write answers, many rows per statement.

    Raises:
        IntegrityError: A key exists already; nothing of the batch is written.
    """
    rows, texts = [], []
    moment, milliseconds = None, 0
    for (item, _, _, attempt), answer, answered_at in rated:
        if answered_at is not moment:  # answers to one request share their time
            moment, milliseconds = answered_at, round(answered_at.timestamp() * 1000)
        key = (run_id, item.persona.id, item.trait.id, SCALE_ORDERS.index(item.scale_order))
        raw_answer = answer.raw_answer.replace("\x00", "�")
        short = len(raw_answer) <= _SHORT_ANSWER
        rows.append(
            (
                *key,
                answer.rating_raw,
                *_parts_per_billion(answer.probabilities),
                None if answer.valid_mass is None else round(answer.valid_mass * PPB),
                attempt,
                answer.latency_ms,
                answer.prompt_tokens,
                answer.completion_tokens,
                milliseconds,
                raw_answer if short else None,
            )
        )
        if not short:
            texts.append((*key, raw_answer))
    _insert(session, "benchmarkresult", _RESULT_COLUMNS, rows)
    _insert(session, "answertext", _TEXT_COLUMNS, texts)


def _parts_per_billion(shares: Sequence[float] | None) -> tuple[int | None, ...]:
    if shares is None:
        return (None,) * N_POINTS
    one, two, three, four, five = shares
    return (
        round(one * PPB),
        round(two * PPB),
        round(three * PPB),
        round(four * PPB),
        round(five * PPB),
    )


def add_failures(session: Session, run_id: int, failures: Iterable[FailedAttempt]) -> None:
    """Write failed attempts, each with the beginning of its reply and prompt."""
    for failure in failures:
        question = failure.question
        item = question.item if question else None
        prompt = question.user if question else ""
        session.add(
            Failure(
                run_id=run_id,
                persona_id=item.persona.id if item else None,
                trait_id=item.trait.id if item else None,
                scale_order=SCALE_ORDERS.index(item.scale_order) if item else None,
                attempt=question.attempt if question else failure.attempt,
                n_items=failure.n_items,
                kind=failure.kind,
                final=failure.final,
                message=_clean(failure.message),
                raw_snippet=_clean(failure.raw_text),
                prompt_snippet=_clean(prompt),
                created_at=failure.failed_at,
            )
        )


def failed_attempt(
    question: Question, failure: AnswerFailure, now: datetime, *, final: bool
) -> FailedAttempt:
    """The failed attempt at one question, ready to be stored."""
    return FailedAttempt(
        failure.kind, failure.message, now, question, 1, question.attempt, final, failure.raw_text
    )


def completed_keys(session: Session, run_id: int) -> CompletedKeys:
    """Keys of the questions of a run that are answered, packed and sorted; eight bytes each."""
    # One text per persona instead of a row per key: a third of the time, and little memory.
    connection = session.connection()
    packed = "(CAST(persona_id AS BIGINT) << 21) | (trait_id << 1) | scale_order"
    joined = f"GROUP_CONCAT({packed}, ' ')"
    if connection.dialect.name == "postgresql":
        joined = f"STRING_AGG(CAST({packed} AS TEXT), ' ')"
    personas = connection.exec_driver_sql(
        f"SELECT {joined} FROM benchmarkresult WHERE run_id = {run_id:d} GROUP BY persona_id"
    )
    keys = np.fromstring(" ".join(row[0] for row in personas), dtype=np.int64, sep=" ")
    keys.sort()
    return CompletedKeys(keys)


def count_results(session: Session, run_id: int) -> int:
    """How many questions of a run are answered, counted now."""
    counted = select(func.count()).where(col(BenchmarkResult.run_id) == run_id)
    return session.exec(counted).one()


def tally_of(session: Session, run_id: int) -> dict[str, Any]:
    """Count a run's answers and failed attempts now; see `empty_tally` for the shape."""
    tally = empty_tally()
    counted = session.exec(
        select(BenchmarkResult.scale_order, BenchmarkResult.rating_raw, func.count())
        .where(BenchmarkResult.run_id == run_id)
        .group_by(col(BenchmarkResult.scale_order), col(BenchmarkResult.rating_raw))
    )
    for order, rating, count in counted:
        tally[SCALE_ORDERS[order]][rating - 1] = count
    kinds = session.exec(
        select(Failure.kind, func.count())
        .where(Failure.run_id == run_id)
        .group_by(col(Failure.kind))
    )
    tally["failures"] = dict(kinds.all())
    return tally


def list_answers(
    session: Session, run_id: int, where: AnswerFilter, *, limit: int, offset: int = 0
) -> list[StoredAnswer]:
    """One page of a run's answers, by persona, trait and scale order."""
    query: Any = (
        select(BenchmarkResult, Persona.uuid, Trait.case_id, Trait.category)
        .add_columns(col(AnswerText.text))
        .join(Persona, col(Persona.id) == BenchmarkResult.persona_id)
        .join(Trait, col(Trait.id) == BenchmarkResult.trait_id)
        .join(
            AnswerText,
            (col(AnswerText.run_id) == BenchmarkResult.run_id)
            & (col(AnswerText.persona_id) == BenchmarkResult.persona_id)
            & (col(AnswerText.trait_id) == BenchmarkResult.trait_id)
            & (col(AnswerText.scale_order) == BenchmarkResult.scale_order),
            isouter=True,
        )
        .where(col(BenchmarkResult.run_id) == run_id)
    )
    if where.rating_raw is not None:
        query = query.where(BenchmarkResult.rating_raw == where.rating_raw)
    query = _filtered(query, where, BenchmarkResult.scale_order).order_by(
        col(BenchmarkResult.persona_id),
        col(BenchmarkResult.trait_id),
        col(BenchmarkResult.scale_order),
    )
    return [_stored(*row) for row in session.exec(query.limit(limit).offset(offset))]


def _filtered(query: Any, where: AnswerFilter, scale_order: Any) -> Any:
    """Restrict a query over Persona and Trait; `scale_order` is the column that holds the order."""
    if where.case_ids:
        query = query.where(col(Trait.case_id).in_(where.case_ids))
    if where.scale_order is not None:
        query = query.where(scale_order == SCALE_ORDERS.index(where.scale_order))
    if where.persona_uuid is not None:
        query = query.where(Persona.uuid == where.persona_uuid)
    for name, value in where.attributes.items():
        query = query.where(col(Persona.attributes)[name].as_string() == value)
    return query


def list_failures(
    session: Session,
    run_id: int,
    where: AnswerFilter = EVERYTHING,
    *,
    limit: int,
    offset: int = 0,
) -> list[StoredFailure]:
    """One page of a run's failed attempts, newest first.

    Attempts that belong to no single question (the server was away) match a filter by kind only.
    """
    query: Any = (
        select(Failure, Persona.uuid, Trait.case_id)
        .join(Persona, col(Persona.id) == Failure.persona_id, isouter=True)
        .join(Trait, col(Trait.id) == Failure.trait_id, isouter=True)
        .where(Failure.run_id == run_id)
    )
    if where.kind is not None:
        query = query.where(Failure.kind == where.kind)
    query = _filtered(query, where, Failure.scale_order).order_by(col(Failure.id).desc())
    rows = session.exec(query.limit(limit).offset(offset)).all()
    return [
        StoredFailure(
            kind=row.kind,
            persona_uuid=uuid,
            case_id=case_id,
            scale_order=None if row.scale_order is None else SCALE_ORDERS[row.scale_order],
            attempt=row.attempt,
            n_items=row.n_items,
            final=row.final,
            message=row.message,
            raw_snippet=row.raw_snippet,
            prompt_snippet=row.prompt_snippet,
            created_at=row.created_at,
        )
        for row, uuid, case_id in rows
    ]


def _insert(
    session: Session, table: str, columns: tuple[str, ...], rows: Sequence[tuple[Any, ...]]
) -> None:
    """Hand rows to the driver, many per statement: the hot path of a run."""
    connection = session.connection()
    if not rows:
        return
    if connection.dialect.name != "sqlite":
        # One array per column: the same statement for any number of rows.
        arrays = tuple(_array_literal(column) for column in zip(*rows, strict=True))
        kinds = (f"CAST(%s AS {'TEXT' if name in _TEXTS else 'BIGINT'}[])" for name in columns)
        connection.exec_driver_sql(
            f"INSERT INTO {table} ({', '.join(columns)}) SELECT * FROM UNNEST({', '.join(kinds)})",
            arrays,
        )
        return
    # Not executemany: the driver releases the GIL between rows, and other threads decide when it
    # gets it back.
    begin, size = 0, _ROWS_AT_ONCE
    while begin < len(rows):
        if size > len(rows) - begin:
            size //= 2
            continue
        values = tuple(chain.from_iterable(rows[begin : begin + size]))
        connection.exec_driver_sql(_insert_statement(table, columns, size), values)
        begin += size


def _array_literal(column: Sequence[int | str | None]) -> str:
    """A column as PostgreSQL writes arrays."""
    return "{" + ",".join([_element(value) for value in column]) + "}"


def _element(value: int | str | None) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, int):
        return str(value)
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


@lru_cache(maxsize=64)
def _insert_statement(table: str, columns: tuple[str, ...], n_rows: int) -> str:
    row = f"({', '.join('?' * len(columns))})"
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {', '.join([row] * n_rows)}"


def _clean(snippet: str) -> str:
    """The beginning of a text, without the one character that PostgreSQL cannot store."""
    return snippet[:SNIPPET].replace("\x00", "�")


def _stored(
    row: BenchmarkResult, uuid: str, case_id: str, category: str, long_text: str | None
) -> StoredAnswer:
    shares = (row.p1, row.p2, row.p3, row.p4, row.p5)
    known = tuple(share for share in shares if share is not None)
    return StoredAnswer(
        persona_id=row.persona_id,
        persona_uuid=uuid,
        trait_id=row.trait_id,
        case_id=case_id,
        trait_category=category,
        scale_order=SCALE_ORDERS[row.scale_order],
        rating_raw=row.rating_raw,
        probabilities=known if len(known) == len(shares) else None,
        valid_mass=row.valid_mass,
        raw_answer=long_text if long_text is not None else (row.raw_answer or ""),
        attempt=row.attempt,
        latency_ms=row.latency_ms,
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        answered_at=row.answered_at.astimezone(UTC),
    )
