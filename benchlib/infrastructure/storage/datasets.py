"""Datasets and their personas: drafts in, frozen records and frames out.

A persona is written once, shared by every dataset that holds it, and never changed.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import orjson
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import delete, exists, func, or_
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from benchlib.domain.errors import InvalidInput, NotFound, WrongState
from benchlib.domain.material.personas import PersonaDraft, order_categories
from benchlib.domain.records import DatasetRecord, PersonaRecord
from benchlib.domain.vocabulary import UNKNOWN_CATEGORY
from benchlib.infrastructure.storage.database import Store
from benchlib.infrastructure.storage.models import BenchmarkRun, Dataset, DatasetMember, Persona
from benchlib.infrastructure.storage.persona_rows import (
    CHUNK,
    chunks,
    content_line,
    linked_members,
    persona_record,
    persona_select,
    put_members,
    put_personas,
)


def list_datasets(session: Session) -> list[DatasetRecord]:
    """All datasets, newest first."""
    rows = session.exec(select(Dataset).order_by(col(Dataset.id).desc()))
    return [_dataset_record(row) for row in rows]


def get_dataset(session: Session, dataset_id: int) -> DatasetRecord:
    """One dataset.

    Raises:
        NotFound: There is none with this id.
    """
    row = session.get(Dataset, dataset_id)
    if row is None:
        raise NotFound("dataset", dataset_id)
    return _dataset_record(row)


def add_dataset(
    session: Session,
    name: str,
    kind: str,
    personas: Iterable[PersonaDraft],
    *,
    parameters: Mapping[str, Any],
    now: datetime,
    note: str = "",
) -> int:
    """Write a dataset of these personas, in this order, and return its id.

    A persona whose uuid is already stored with the same content is shared, not written again.

    Args:
        personas: Read once, in chunks; a source may come before or after its counterfactuals.
        parameters: How the dataset was made; must survive JSON.

    Raises:
        WrongState: The name is taken.
        InvalidInput: There are no personas, a uuid occurs twice, a uuid is stored with other
            content, or a source is not in the dataset.
    """
    if session.exec(select(Dataset.id).where(Dataset.name == name)).first() is not None:
        raise _name_taken(name)
    row = Dataset(
        name=name,
        kind=kind,
        note=note,
        parameters=dict(parameters),
        n_personas=0,
        content_hash="",
        created_at=now,
    )
    session.add(row)
    try:
        session.flush()
    except IntegrityError as error:
        raise _name_taken(name) from error
    assert row.id is not None
    connection = session.connection()
    digest = hashlib.sha256()
    position = 0
    links: list[tuple[int, int, str, str | None]] = []
    for chunk in chunks(personas):
        digest.update(b"".join(map(content_line, chunk)))
        ids = put_personas(connection, chunk)
        members: list[tuple[Any, ...]] = []
        for place, (draft, persona_id) in enumerate(zip(chunk, ids, strict=True), position):
            if draft.source_uuid is None:
                members.append((row.id, place, persona_id, "source", None, None))
            else:
                links.append((place, persona_id, draft.source_uuid, draft.changed_attribute))
        put_members(connection, members)
        position += len(chunk)
    if position == 0:
        raise InvalidInput("A dataset needs at least one persona.")
    for part in chunks(links):
        put_members(connection, linked_members(connection, row.id, part))
    row.n_personas = position
    row.content_hash = digest.hexdigest()
    session.flush()
    return row.id


def iter_personas(
    store: Store, dataset_id: int, *, after_position: int = -1, chunk: int = 512
) -> Iterator[PersonaRecord]:
    """The personas of a dataset in order, a page at a time: flat memory, no long transaction."""
    for row in _iter_members(store, dataset_id, after_position, chunk):
        yield persona_record(row)


def iter_drafts(store: Store, dataset_id: int, *, chunk: int = CHUNK) -> Iterator[PersonaDraft]:
    """The personas of a dataset in order, with their links, ready to be stored again."""
    for row in _iter_members(store, dataset_id, -1, chunk):
        yield PersonaDraft(
            row.uuid,
            orjson.loads(row.attributes),
            row.age,
            row.name,
            row.appearance,
            row.biography,
            row.source_uuid,
            row.changed_attribute,
        )


def _iter_members(store: Store, dataset_id: int, after: int, chunk: int) -> Iterator[Any]:
    source = aliased(Persona)
    place = col(DatasetMember.position)
    members = (
        persona_select(
            place,
            col(DatasetMember.changed_attribute),
            col(source.uuid).label("source_uuid"),
        )
        .join(DatasetMember, col(DatasetMember.persona_id) == col(Persona.id))
        .outerjoin(source, col(DatasetMember.source_persona_id) == col(source.id))
        .where(col(DatasetMember.dataset_id) == dataset_id)
        .order_by(place)
    )
    with store.read() as session:
        last = session.exec(
            select(func.max(place)).where(DatasetMember.dataset_id == dataset_id)
        ).one()
    # Pages are ranges of positions: any query planner reads those from the primary key, even
    # without statistics.
    for start in range(after + 1, 0 if last is None else last + 1, chunk):
        page = members.where(place.between(start, start + chunk - 1))
        with store.read() as session:
            rows = session.connection().execute(page).all()
        yield from rows


def find_personas(
    session: Session,
    dataset_id: int,
    *,
    where: Mapping[str, str],
    search: str = "",
    offset: int = 0,
    limit: int = 50,
) -> tuple[list[PersonaRecord], int]:
    """A page of the personas that match, in dataset order, and how many match in total.

    Args:
        where: Attribute -> category; `Unknown` also matches personas without the attribute.
        search: Part of the uuid, name, appearance or biography; "" matches all.
    """
    conditions: list[Any] = [col(DatasetMember.dataset_id) == dataset_id]
    for attribute, category in where.items():
        value = col(Persona.attributes)[attribute].as_string()
        matches = value == category
        if category == UNKNOWN_CATEGORY:
            matches |= value.is_(None)
        conditions.append(matches)
    if search:
        conditions.append(
            or_(
                *(
                    col(column).icontains(search, autoescape=True)
                    for column in (
                        Persona.uuid,
                        Persona.name,
                        Persona.appearance,
                        Persona.biography,
                    )
                )
            )
        )
    joined = col(DatasetMember.persona_id) == col(Persona.id)
    connection = session.connection()
    page = persona_select().join(DatasetMember, joined).order_by(col(DatasetMember.position))
    if len(conditions) == 1:  # positions count from 0 without gaps
        total = get_dataset(session, dataset_id).n_personas
        conditions.append(col(DatasetMember.position).between(offset, offset + limit - 1))
        rows = connection.execute(page.where(*conditions)).all()
    else:
        count = select(func.count()).select_from(Persona).join(DatasetMember, joined)
        total = int(connection.execute(count.where(*conditions)).scalar_one())
        rows = connection.execute(page.where(*conditions).offset(offset).limit(limit)).all()
    return [persona_record(row) for row in rows], total


def get_personas(session: Session, ids: Sequence[int]) -> list[PersonaRecord]:
    """The personas with these ids, in the order of `ids`.

    Raises:
        NotFound: One of them does not exist.
    """
    found: dict[int, PersonaRecord] = {}
    for part in chunks(dict.fromkeys(ids)):
        wanted = persona_select().where(col(Persona.id).in_(part))
        for row in session.connection().execute(wanted):
            found[row.id] = persona_record(row)
    for persona_id in ids:
        if persona_id not in found:
            raise NotFound("persona", persona_id)
    return [found[persona_id] for persona_id in ids]


def load_personas(session: Session, dataset_id: int) -> pd.DataFrame:
    """The personas of a dataset for analysis.

    Returns:
        One row per persona in the order of the dataset: `persona_id` (int64), `uuid`, `age`
        (Int16, <NA> = unknown), then one categorical column per attribute; a missing value is
        `Unknown`. Age groups are ordered by age, other categories by name, `Unknown`
        last.

    Raises:
        NotFound: There is no such dataset.
    """
    get_dataset(session, dataset_id)
    rows = session.connection().execute(
        persona_select()
        .join(DatasetMember, col(DatasetMember.persona_id) == col(Persona.id))
        .where(col(DatasetMember.dataset_id) == dataset_id)
        .order_by(col(DatasetMember.position))
    )
    ids: list[int] = []
    uuids: list[str] = []
    ages: list[int | None] = []
    codes: dict[str, list[int]] = {}
    categories: dict[str, dict[str, int]] = {}
    for number, row in enumerate(rows):
        ids.append(row.id)
        uuids.append(row.uuid)
        ages.append(row.age)
        for attribute, value in orjson.loads(row.attributes).items():
            if attribute not in codes:
                codes[attribute] = []
                categories[attribute] = {UNKNOWN_CATEGORY: 0}
            known, column = categories[attribute], codes[attribute]
            if len(column) < number:  # this attribute is missing from earlier personas
                column.extend([0] * (number - len(column)))
            column.append(known.setdefault(value, len(known)))
    frame = pd.DataFrame(
        {
            "persona_id": pd.array(ids, dtype="int64"),
            "uuid": pd.array(uuids, dtype="str"),
            "age": pd.array(ages, dtype="Int16"),
        }
    )
    columns = {"persona_id": frame["persona_id"], "uuid": frame["uuid"], "age": frame["age"]}
    for attribute, column in codes.items():
        column.extend([0] * (len(ids) - len(column)))
        columns[attribute] = pd.Series(_categorical(attribute, column, list(categories[attribute])))
    return pd.DataFrame(columns)


def load_copies(session: Session, dataset_id: int) -> NDArray[np.int64]:
    """Ids of the personas of a dataset that are counterfactuals, ascending."""
    rows = session.exec(
        select(DatasetMember.persona_id)
        .where(DatasetMember.dataset_id == dataset_id, DatasetMember.role == "counterfactual")
        .order_by(col(DatasetMember.persona_id))
    ).all()
    return np.array(rows, dtype=np.int64)


def load_links(session: Session, dataset_id: int) -> pd.DataFrame:
    """The counterfactuals of a dataset and their sources.

    Returns:
        One row per counterfactual: `persona_id`, `source_persona_id`, `changed_attribute`.
    """
    rows = session.exec(
        select(
            DatasetMember.persona_id,
            DatasetMember.source_persona_id,
            DatasetMember.changed_attribute,
        )
        .where(DatasetMember.dataset_id == dataset_id, DatasetMember.role == "counterfactual")
        .order_by(col(DatasetMember.position))
    ).all()
    frame = pd.DataFrame(
        [tuple(row) for row in rows],
        columns=["persona_id", "source_persona_id", "changed_attribute"],
    )
    return frame.astype(
        {"persona_id": "int64", "source_persona_id": "int64", "changed_attribute": "str"}
    )


def dataset_in_use(session: Session, dataset_id: int) -> bool:
    """Whether there is a run, in any state, on this dataset."""
    run = session.exec(select(BenchmarkRun.id).where(BenchmarkRun.dataset_id == dataset_id)).first()
    return run is not None


def delete_dataset(session: Session, dataset_id: int) -> None:
    """Delete a dataset, and those of its personas that are in no other one.

    Raises:
        NotFound: There is none with this id.
        WrongState: Runs use it; they would lose their meaning.
    """
    record = get_dataset(session, dataset_id)
    in_use = WrongState(
        f'The dataset "{record.name}" is used by runs; delete those runs first, or keep it.'
    )
    if dataset_in_use(session, dataset_id):
        raise in_use
    connection = session.connection()
    in_a_dataset = exists().where(col(DatasetMember.persona_id) == Persona.id)
    try:
        connection.execute(delete(DatasetMember).where(col(DatasetMember.dataset_id) == dataset_id))
        connection.execute(delete(Dataset).where(col(Dataset.id) == dataset_id))
        connection.execute(delete(Persona).where(~in_a_dataset))
    except IntegrityError as error:  # a run began to use it just now
        raise in_use from error


def _name_taken(name: str) -> WrongState:
    return WrongState(f'There is already a dataset "{name}"; choose another name.')


def _dataset_record(row: Dataset) -> DatasetRecord:
    assert row.id is not None
    return DatasetRecord(
        id=row.id,
        name=row.name,
        kind=row.kind,
        note=row.note,
        parameters=row.parameters,
        n_personas=row.n_personas,
        content_hash=row.content_hash,
        created_at=row.created_at,
    )


def _categorical(attribute: str, codes: list[int], found: list[str]) -> "pd.Categorical[str]":
    used = set(codes)
    categories = order_categories(attribute, [name for i, name in enumerate(found) if i in used])
    places = {name: place for place, name in enumerate(categories)}
    new_codes = np.array([places.get(name, -1) for name in found])[codes]
    return pd.Categorical.from_codes(new_codes, categories=pd.Index(categories))
