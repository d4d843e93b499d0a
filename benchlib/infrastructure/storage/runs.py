"""Runs: rows in, frozen records out. Conditional UPDATEs decide here who owns a run."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import func
from sqlalchemy import select as sql_select
from sqlmodel import Session, col, delete, select, update

from benchlib.domain.errors import NotFound
from benchlib.domain.records import RunConfig, RunRecord
from benchlib.domain.run_state import ACTIVE, check_move
from benchlib.domain.vocabulary import RunStatus
from benchlib.infrastructure.storage.models import (
    AnswerText,
    BenchCache,
    BenchmarkResult,
    BenchmarkRun,
    Dataset,
    Failure,
    Model,
)


def empty_tally() -> dict[str, Any]:
    """Counts of a run without answers: digits 1..5 per scale order, failed attempts by kind."""
    return {"in": [0] * 5, "rev": [0] * 5, "failures": {}}


def add_run(session: Session, config: RunConfig, total: int, now: datetime) -> int:
    """Write a queued run and return its id."""
    row = BenchmarkRun(
        model_id=_model_id(session, config.model_name),
        dataset_id=config.dataset_id,
        status=RunStatus.QUEUED,
        config=config_to_json(config),
        manifest={},
        total=total,
        tally=empty_tally(),
        tags=[],
        created_at=now,
    )
    session.add(row)
    session.flush()
    return _key(row.id)


def list_runs(session: Session, *, statuses: Sequence[RunStatus] = ()) -> list[RunRecord]:
    """All runs, newest first; only those in `statuses`, if any are given."""
    query = _query().order_by(col(BenchmarkRun.id).desc())
    if statuses:
        query = query.where(col(BenchmarkRun.status).in_(statuses))
    return [_record(*row) for row in session.exec(query).all()]


class RunCounters(NamedTuple):
    """The counters of a run's row; `failures` counts failed attempts by kind."""

    id: int
    status: RunStatus
    total: int
    done: int
    failed: int
    failures: Mapping[str, int]
    heartbeat: int


def list_counters(session: Session) -> list[RunCounters]:
    """The counters of all runs, oldest first; reads no results."""
    columns = (
        col(BenchmarkRun.id),
        col(BenchmarkRun.status),
        col(BenchmarkRun.total),
        col(BenchmarkRun.done),
        col(BenchmarkRun.failed),
        col(BenchmarkRun.tally),
        col(BenchmarkRun.heartbeat),
    )
    rows = session.connection().execute(sql_select(*columns).order_by(col(BenchmarkRun.id)))
    return [
        RunCounters(run_id, RunStatus(status), total, done, failed, tally["failures"], heartbeat)
        for run_id, status, total, done, failed, tally, heartbeat in rows
    ]


def get_run(session: Session, run_id: int) -> RunRecord:
    """One run.

    Raises:
        NotFound: There is none with this id.
    """
    row = session.exec(_query().where(col(BenchmarkRun.id) == run_id)).first()
    if row is None:
        raise NotFound("run", run_id)
    return _record(*row)


def active_run_of_dataset(session: Session, dataset_id: int) -> RunRecord | None:
    """The newest queued or running run on a dataset, or None."""
    row = session.exec(
        _query()
        .where(col(BenchmarkRun.dataset_id) == dataset_id)
        .where(col(BenchmarkRun.status).in_(ACTIVE))
        .order_by(col(BenchmarkRun.id).desc())
    ).first()
    return None if row is None else _record(*row)


def list_models(session: Session) -> list[str]:
    """Names of all models that ever had a run, sorted."""
    return list(session.exec(select(Model.name).order_by(Model.name)).all())


def claim_next(session: Session, owner: str, now: datetime) -> int | None:
    """Take the oldest queued run for `owner`; None if none waits or another worker was faster."""
    run_id = session.exec(
        select(BenchmarkRun.id)
        .where(BenchmarkRun.status == RunStatus.QUEUED)
        .order_by(col(BenchmarkRun.id))
        .limit(1)
    ).first()
    if run_id is None:
        return None
    claimed = session.exec(
        update(BenchmarkRun)
        .where(col(BenchmarkRun.id) == run_id)
        .where(col(BenchmarkRun.status) == RunStatus.QUEUED)
        .values(
            status=RunStatus.RUNNING,
            owner=owner,
            heartbeat=BenchmarkRun.heartbeat + 1,
            started_at=func.coalesce(BenchmarkRun.started_at, _milliseconds(now)),
            finished_at=None,
            error=None,
            activity="Starting",
        )
    )
    return run_id if claimed.rowcount == 1 else None


def renew(
    session: Session, run_id: int, owner: str, *, changed: bool, values: Mapping[str, Any]
) -> bool:
    """Renew the owner's lease, and write `values` in the same statement.

    Args:
        changed: Whether results change in this transaction, which makes cached panels stale.

    Returns:
        Whether the run still belongs to this owner; if not, nothing was written, and the caller
        must roll back its transaction.
    """
    renewed = session.exec(
        update(BenchmarkRun)
        .where(col(BenchmarkRun.id) == run_id)
        .where(col(BenchmarkRun.owner) == owner)
        .where(col(BenchmarkRun.status) == RunStatus.RUNNING)
        .values(
            heartbeat=BenchmarkRun.heartbeat + 1,
            data_version=BenchmarkRun.data_version + int(changed),
            **values,
        )
    )
    return renewed.rowcount == 1


def is_cancel_requested(session: Session, run_id: int) -> bool:
    """Whether somebody asked for the run to be cancelled."""
    requested = select(BenchmarkRun.cancel_requested).where(col(BenchmarkRun.id) == run_id)
    return bool(session.exec(requested).one())


def finish(
    session: Session, run_id: int, owner: str, status: RunStatus, error: str | None, now: datetime
) -> bool:
    """End the owner's execution; False if the run no longer belongs to the owner."""
    ended = session.exec(
        update(BenchmarkRun)
        .where(col(BenchmarkRun.id) == run_id)
        .where(col(BenchmarkRun.owner) == owner)
        .values(
            status=status,
            error=error,
            owner=None,
            activity=None,
            cancel_requested=False,
            finished_at=now,
        )
    )
    return ended.rowcount == 1


def mark_interrupted(session: Session, run: RunRecord, now: datetime, reason: str) -> bool:
    """Take a run from a worker whose lease ran out; False if the run has changed since."""
    moved = session.exec(
        update(BenchmarkRun)
        .where(col(BenchmarkRun.id) == run.id)
        .where(col(BenchmarkRun.status) == RunStatus.RUNNING)
        .where(col(BenchmarkRun.owner) == run.owner)
        .where(col(BenchmarkRun.heartbeat) == run.heartbeat)
        .values(
            status=RunStatus.CANCELLED if run.cancel_requested else RunStatus.INTERRUPTED,
            owner=None,
            activity=None,
            cancel_requested=False,
            error=reason,
            finished_at=now,
        )
    )
    return moved.rowcount == 1


def requeue(session: Session, run_id: int, config: RunConfig | None = None) -> None:
    """Put an incomplete run back into the queue, with a new configuration if one is given.

    Raises:
        WrongState: It is complete, queued or running.
    """
    run = get_run(session, run_id)
    check_move(run_id, run.status, RunStatus.QUEUED)
    values: dict[str, Any] = {} if config is None else {"config": config_to_json(config)}
    session.exec(
        update(BenchmarkRun)
        .where(col(BenchmarkRun.id) == run_id)
        .where(col(BenchmarkRun.status) == run.status)
        .values(status=RunStatus.QUEUED, cancel_requested=False, error=None, **values)
    )


def request_cancel(session: Session, run_id: int, now: datetime) -> None:
    """Cancel a queued run at once; ask the worker of a running one to stop.

    Raises:
        WrongState: The run is neither queued nor running.
    """
    run = get_run(session, run_id)
    if run.status is not RunStatus.RUNNING:
        check_move(run_id, run.status, RunStatus.CANCELLED)
        moved = session.exec(
            update(BenchmarkRun)
            .where(col(BenchmarkRun.id) == run_id)
            .where(col(BenchmarkRun.status) == run.status)
            .values(status=RunStatus.CANCELLED, finished_at=now, error=None)
        )
        if moved.rowcount == 1:
            return
    session.exec(
        update(BenchmarkRun).where(col(BenchmarkRun.id) == run_id).values(cancel_requested=True)
    )


def annotate(session: Session, run_id: int, *, note: str, tags: Sequence[str]) -> None:
    """Store the note and tags that a person gave a run."""
    get_run(session, run_id)
    session.exec(
        update(BenchmarkRun)
        .where(col(BenchmarkRun.id) == run_id)
        .values(note=note, tags=list(tags))
    )


def delete_run(session: Session, run_id: int) -> int:
    """Delete a run with everything that belongs to it; return how many results were deleted."""
    if session.connection().dialect.name == "sqlite":
        # The run first: the trigger of each result then finds no data version to raise.
        session.connection().exec_driver_sql("PRAGMA defer_foreign_keys = ON")
        session.exec(delete(BenchmarkRun).where(col(BenchmarkRun.id) == run_id))
    for table in (BenchCache, Failure, AnswerText):
        session.exec(delete(table).where(col(table.run_id) == run_id))
    deleted = session.exec(delete(BenchmarkResult).where(col(BenchmarkResult.run_id) == run_id))
    session.exec(delete(BenchmarkRun).where(col(BenchmarkRun.id) == run_id))
    return int(deleted.rowcount)


def _model_id(session: Session, name: str) -> int:
    model = session.exec(select(Model).where(Model.name == name)).first()
    if model is None:
        model = Model(name=name)
        session.add(model)
        session.flush()
    return _key(model.id)


def _key(value: int | None) -> int:
    if value is None:
        raise AssertionError("a flushed row has its key")
    return value


def _milliseconds(now: datetime) -> int:
    return round(now.timestamp() * 1000)


def _query() -> Any:
    return (
        select(BenchmarkRun, Model.name, Dataset.name, Dataset.kind)
        .join(Model, col(Model.id) == BenchmarkRun.model_id)
        .join(Dataset, col(Dataset.id) == BenchmarkRun.dataset_id)
    )


def config_to_json(config: RunConfig) -> dict[str, Any]:
    """A configuration as it is stored; `max_concurrency` keeps its first name, `batch_size`."""
    named = {"max_concurrency": "batch_size"}
    return {named.get(name, name): value for name, value in asdict(config).items()}


def config_from_json(stored: Mapping[str, Any]) -> RunConfig:
    """A stored configuration; fields of a later version raise a TypeError that names them."""
    named = {"batch_size": "max_concurrency"}
    fields = {named.get(name, name): value for name, value in stored.items()}
    return RunConfig(**{**fields, "trait_ids": tuple(fields["trait_ids"])})


def _record(row: BenchmarkRun, model: str, dataset: str, dataset_kind: str) -> RunRecord:
    return RunRecord(
        id=_key(row.id),
        model_name=model,
        dataset_id=row.dataset_id,
        dataset_name=dataset,
        dataset_kind=dataset_kind,
        status=RunStatus(row.status),
        config=config_from_json(row.config),
        manifest=row.manifest,
        total=row.total,
        done=row.done,
        failed=row.failed,
        tally=row.tally,
        data_version=row.data_version,
        owner=row.owner,
        heartbeat=row.heartbeat,
        cancel_requested=row.cancel_requested,
        activity=row.activity,
        error=row.error,
        note=row.note,
        tags=tuple(row.tags),
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        seconds_active=row.seconds_active,
    )
