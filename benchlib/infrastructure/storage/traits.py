"""The trait catalogue: drafts in, frozen records out.

A row is one version of a trait, and its meaning never changes: editing a trait writes the next
version and retires the previous one, so old runs keep the wording they used.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import cast

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from benchlib.domain.errors import InvalidInput, NotFound, WrongState
from benchlib.domain.material.traits import TraitDraft, same_wording
from benchlib.domain.records import TraitRecord
from benchlib.domain.vocabulary import Language, Valence
from benchlib.infrastructure.storage.models import Trait


def list_traits(session: Session, *, active_only: bool = False) -> list[TraitRecord]:
    """The catalogue: the current version of every trait, in the order in which they were added."""
    rows = session.exec(select(Trait).order_by(col(Trait.id))).all()
    first = {row.case_id: place for place, row in reversed(list(enumerate(rows)))}
    current = [row for row in rows if not row.retired and (row.active or not active_only)]
    current.sort(key=lambda row: first[row.case_id])
    return [_record(row) for row in current]


def get_traits(session: Session, ids: Sequence[int]) -> list[TraitRecord]:
    """The trait versions with these ids, retired ones included, in the order of `ids`.

    Raises:
        NotFound: One of them does not exist.
    """
    rows = session.exec(select(Trait).where(col(Trait.id).in_(set(ids))))
    found = {row.id: _record(row) for row in rows}
    for trait_id in ids:
        if trait_id not in found:
            raise NotFound("trait", trait_id)
    return [found[trait_id] for trait_id in ids]


def add_traits(session: Session, drafts: Iterable[TraitDraft], *, now: datetime) -> list[int]:
    """Add these traits to the catalogue and return their ids, in order.

    A known trait stays as it is if its content is the same; otherwise it gets a new version.

    Raises:
        InvalidInput: A case_id occurs twice.
    """
    current = {trait.case_id: trait for trait in list_traits(session)}
    seen: set[str] = set()
    ids = []
    for draft in drafts:
        if draft.case_id in seen:
            raise InvalidInput(f'The trait "{draft.case_id}" occurs twice; keep one of them.')
        seen.add(draft.case_id)
        known = current.get(draft.case_id)
        ids.append(
            _put_version(session, draft, version=1, now=now)
            if known is None
            else edit_trait(session, known.id, draft, now=now)
        )
    return ids


def edit_trait(session: Session, trait_id: int, draft: TraitDraft, *, now: datetime) -> int:
    """Write a new version of a trait, retire the previous one, and return the new id.

    If the content is unchanged, only `active` is written and the id stays the same.

    Raises:
        NotFound: There is no such trait.
        WrongState: This version was already replaced by a newer one.
        InvalidInput: The draft has another case_id: that would be another trait.
    """
    row = _current(session, trait_id)
    if draft.case_id != row.case_id:
        raise InvalidInput(
            f'The case_id "{row.case_id}" names the trait over all versions and stays; '
            "add a new trait instead."
        )
    if same_wording(_record(row), draft):
        row.active = draft.active
        session.add(row)
        session.flush()
        return trait_id
    row.retired = True
    session.add(row)
    return _put_version(session, draft, version=row.version + 1, now=now)


def set_trait_active(session: Session, trait_id: int, active: bool) -> None:
    """Offer a trait for new runs, or stop offering it.

    Raises:
        NotFound: There is no such trait.
        WrongState: This version was already replaced by a newer one.
    """
    row = _current(session, trait_id)
    row.active = active
    session.add(row)
    session.flush()


def _current(session: Session, trait_id: int) -> Trait:
    row = session.get(Trait, trait_id, with_for_update=True)
    if row is None:
        raise NotFound("trait", trait_id)
    if row.retired:
        raise _replaced(row.case_id)
    return row


def _replaced(case_id: str) -> WrongState:
    return WrongState(
        f'The trait "{case_id}" has a newer version by now; reload the page and edit that one.'
    )


def _put_version(session: Session, draft: TraitDraft, *, version: int, now: datetime) -> int:
    row = Trait(
        case_id=draft.case_id,
        version=version,
        adjective={str(language): text for language, text in draft.adjective.items()},
        question={str(language): text for language, text in draft.question.items()},
        category=draft.category,
        valence=draft.valence,
        active=draft.active,
        created_at=now,
    )
    session.add(row)
    try:
        session.flush()
    except IntegrityError as error:  # somebody else wrote this version first
        raise _replaced(draft.case_id) from error
    assert row.id is not None
    return row.id


def _record(row: Trait) -> TraitRecord:
    assert row.id is not None
    return TraitRecord(
        id=row.id,
        case_id=row.case_id,
        adjective=cast(Mapping[Language, str], dict(row.adjective)),
        question=cast(Mapping[Language, str], dict(row.question)),
        category=row.category,
        valence=cast(Valence, row.valence),
        active=row.active and not row.retired,
        version=row.version,
    )
