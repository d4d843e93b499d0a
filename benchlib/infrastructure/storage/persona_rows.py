"""Rows of personas and of their places in datasets, for storage/datasets.py."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, TypeVar

import orjson
from sqlalchemy import Connection, Select, Text, cast, func
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from benchlib.domain.errors import InvalidInput
from benchlib.domain.material.personas import PersonaDraft
from benchlib.domain.records import PersonaRecord
from benchlib.domain.vocabulary import UNKNOWN_CATEGORY
from benchlib.infrastructure.storage.models import DatasetMember, Persona

CHUNK: Final = 5_000
"""Personas read or written at a time."""

_Item = TypeVar("_Item")


def persona_select(*more: Any) -> Select[Any]:
    """Select all columns of a persona, and `more`, as plain rows."""
    # As text: neither the ORM nor the driver's JSON reader is fast enough for 100,000 personas.
    attributes = cast(col(Persona.attributes), Text).label("attributes")
    return Select(
        *more,
        col(Persona.id),
        col(Persona.uuid),
        attributes,
        col(Persona.age),
        col(Persona.name),
        col(Persona.appearance),
        col(Persona.biography),
    )


def persona_record(row: Any) -> PersonaRecord:
    """A row of `persona_select` as a record."""
    return PersonaRecord(
        id=row.id,
        uuid=row.uuid,
        attributes=orjson.loads(row.attributes),
        age=row.age,
        name=row.name,
        appearance=row.appearance,
        biography=row.biography,
    )


def content_line(draft: PersonaDraft) -> bytes:
    """What the content hash covers; the order of its fields must never change."""
    return orjson.dumps(tuple(draft)) + b"\n"


def put_personas(connection: Connection, chunk: Sequence[PersonaDraft]) -> list[int]:
    """Write those personas that are new; return the ids of all of them, in order."""
    ids = _reserve_ids(connection, len(chunk))
    mark, json_mark = ("?", "?") if connection.dialect.name == "sqlite" else ("%s", "%s::json")
    # Straight to the driver, with JSON written by orjson: a million rows in seconds, and no escapes
    # in names, which the JSON functions of older SQLite versions would not match.
    written = connection.exec_driver_sql(
        "INSERT INTO persona (id, uuid, attributes, age, name, appearance, biography) "
        f"VALUES ({mark}, {mark}, {json_mark}, {mark}, {mark}, {mark}, {mark}) "
        "ON CONFLICT (uuid) DO NOTHING",
        [
            (
                persona_id,
                draft.uuid,
                orjson.dumps(draft.attributes).decode(),
                draft.age,
                draft.name,
                draft.appearance,
                draft.biography,
            )
            for persona_id, draft in zip(ids, chunk, strict=True)
        ],
        execution_options={"preserve_rowcount": True},
    )
    if written.rowcount == len(chunk):
        return ids
    _check_same_content(connection, chunk)
    uuids = [draft.uuid for draft in chunk]
    known = select(Persona.uuid, Persona.id).where(col(Persona.uuid).in_(uuids))
    ids_now: dict[str, int] = {row.uuid: row.id for row in connection.execute(known)}
    return [ids_now[uuid] for uuid in uuids]


def _reserve_ids(connection: Connection, n: int) -> list[int]:
    if connection.dialect.name == "sqlite":  # no one else writes until this transaction ends
        last = connection.execute(select(func.max(col(Persona.id)))).scalar_one()
        return list(range((last or 0) + 1, (last or 0) + 1 + n))
    series = func.nextval(func.pg_get_serial_sequence("persona", "id"))
    numbers = connection.execute(select(series).select_from(func.generate_series(1, n)))
    return [int(number) for number in numbers.scalars()]


def _check_same_content(connection: Connection, chunk: Sequence[PersonaDraft]) -> None:
    drafts: dict[str, PersonaDraft] = {}
    for draft in chunk:
        if draft.uuid in drafts:
            raise _twice(draft.uuid)
        drafts[draft.uuid] = draft
    for row in connection.execute(persona_select().where(col(Persona.uuid).in_(list(drafts)))):
        stored, draft = persona_record(row), drafts[row.uuid]
        same = (
            _given(stored.attributes) == _given(draft.attributes)
            and stored.age == draft.age
            and stored.name == draft.name
            and stored.appearance == draft.appearance
            and stored.biography == draft.biography
        )
        if not same:
            raise InvalidInput(
                f"The persona {draft.uuid} is already stored with other content, and personas "
                "never change; give the changed persona a uuid of its own."
            )


def _given(attributes: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in attributes.items() if value != UNKNOWN_CATEGORY}


def _twice(uuid: str) -> InvalidInput:
    return InvalidInput(f"The persona {uuid} occurs twice; a dataset holds each persona once.")


def linked_members(
    connection: Connection, dataset_id: int, links: Sequence[tuple[int, int, str, str | None]]
) -> list[tuple[Any, ...]]:
    """Rows for counterfactuals, whose sources must be members already.

    Args:
        links: Position, id, uuid of the source, changed attribute.

    Raises:
        InvalidInput: A source is not in the dataset.
    """
    sources = (
        select(Persona.uuid, Persona.id)
        .join(DatasetMember, col(DatasetMember.persona_id) == col(Persona.id))
        .where(
            DatasetMember.dataset_id == dataset_id,
            col(Persona.uuid).in_({link[2] for link in links}),
        )
    )
    ids: dict[str, int] = {row.uuid: row.id for row in connection.execute(sources)}
    members: list[tuple[Any, ...]] = []
    for position, persona_id, source_uuid, changed_attribute in links:
        if source_uuid not in ids:
            raise InvalidInput(
                f"The source {source_uuid} of a counterfactual is not among the source personas "
                "of the dataset; add it."
            )
        source_id = ids[source_uuid]
        members.append(
            (dataset_id, position, persona_id, "counterfactual", source_id, changed_attribute)
        )
    return members


def put_members(connection: Connection, members: list[tuple[Any, ...]]) -> None:
    """Write members of a dataset.

    Raises:
        InvalidInput: A persona is in the dataset already.
    """
    if not members:
        return
    marks = ", ".join(["?" if connection.dialect.name == "sqlite" else "%s"] * len(members[0]))
    try:
        connection.exec_driver_sql(
            "INSERT INTO datasetmember (dataset_id, position, persona_id, role, "
            f"source_persona_id, changed_attribute) VALUES ({marks})",
            members,
        )
    except IntegrityError as error:
        raise InvalidInput("A persona occurs twice; a dataset holds each persona once.") from error


def chunks(items: Iterable[_Item]) -> Iterator[list[_Item]]:
    """Lists of up to `CHUNK` items, in order."""
    source = iter(items)
    while chunk := list(islice(source, CHUNK)):
        yield chunk
