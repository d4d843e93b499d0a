"""The record of who did what: written with the action, never changed."""

from datetime import datetime
from typing import Final

from sqlalchemy import func
from sqlmodel import Session, col, select

from benchlib.domain.users import AuditRecord
from benchlib.infrastructure.storage.models import AuditEntry

_LONGEST_DETAIL: Final = 300


def add_entry(
    session: Session,
    user_name: str,
    action: str,
    kind: str,
    object_id: int | None,
    detail: str,
    now: datetime,
) -> None:
    """Record an action in the transaction that performs it."""
    session.add(
        AuditEntry(
            at=now,
            user_name=user_name,
            action=action,
            kind=kind,
            object_id=object_id,
            detail=detail[:_LONGEST_DETAIL],
        )
    )


def list_entries(session: Session, *, limit: int, offset: int) -> list[AuditRecord]:
    """A page of the record, newest first."""
    query = select(AuditEntry).order_by(col(AuditEntry.id).desc()).limit(limit).offset(offset)
    return [
        AuditRecord(row.at, row.user_name, row.action, row.kind, row.object_id, row.detail)
        for row in session.exec(query).all()
    ]


def count_entries(session: Session) -> int:
    """How many entries there are."""
    return session.exec(select(func.count(col(AuditEntry.id)))).one()


def launched_by(session: Session, run_id: int) -> str | None:
    """Who launched a run; None for runs older than the record."""
    return session.exec(
        select(AuditEntry.user_name)
        .where(AuditEntry.kind == "run", AuditEntry.object_id == run_id)
        .where(AuditEntry.action == "launched")
    ).first()
