"""Personas: their attributes, their age groups, and what a table of them may hold."""

import re
from bisect import bisect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchlib.domain.material.counterfactual_links import check_links
from benchlib.domain.material.text_tables import (
    Problems,
    TextColumn,
    check_headers,
    check_texts,
    clean_column,
    list_words,
    shorten,
)
from benchlib.domain.vocabulary import UNKNOWN_CATEGORY

AGE_GROUP: Final = "age_group"
"""The attribute derived from the age."""

AGE_GROUPS: Final = ("0-9", "10-19", "20-29", "30-44", "45-64", "65+")
_GROUP_STARTS: Final = (0, 10, 20, 30, 45, 65)

MAX_AGE: Final = 120
MAX_ATTRIBUTES: Final = 60
MAX_CATEGORIES: Final = 200
"""Categories an attribute may have; with more it is probably an identifier or free text."""

KNOWN_COLUMNS: Final = (
    "uuid",
    "name",
    "age",
    "appearance",
    "biography",
    "source_uuid",
    "changed_attribute",
)
"""Columns of a persona table that have a fixed meaning; all others are attributes."""

_TEXT_COLUMNS: Final = frozenset(KNOWN_COLUMNS) - {"age"}

RESERVED_NAMES: Final = frozenset(
    (
        *("id", "persona_id", "trait_id", "case_id", "run_id", "dataset_id", "source_persona_id"),
        *("label", "category", "attribute", "trait_category", "valence", "position", "role"),
        *("rating", "rating_raw", "rating_pre_valence", "expected_raw", "scale_order"),
        *("p1", "p2", "p3", "p4", "p5", "valid_mass"),
    )
)
"""Names with another meaning in the tables of a run, so no attribute may have them."""

_ALIASES: Final = {name: name for name in (*KNOWN_COLUMNS, AGE_GROUP)} | {"persona_uuid": "uuid"}
_MAX_LENGTH: Final = {"uuid": 64, "source_uuid": 64, "name": 200, "changed_attribute": 64}
_MAX_TEXT: Final = {"appearance": 5_000, "biography": 20_000}
_MAX_CATEGORY: Final = 100
_MAX_NAME: Final = 64
_AGE: Final = re.compile(r"0*([0-9]{1,3})(\.0*)?", re.ASCII)
_ATTRIBUTE_NAME: Final = re.compile(r"\w[^\"\\<>`\[\]{}$*|~^]*")
_LOOKS_LIKE_IDENTIFIER: Final = 20
_CHUNK: Final = 5_000
_DRAFT_TEXTS: Final = ("name", "appearance", "biography", "source_uuid", "changed_attribute")
_SEPARATOR: Final = (
    "\x1f"  # control characters are refused in every text, so no text can imitate it
)


class PersonaDraft(NamedTuple):
    """A persona before it is stored.

    Attributes:
        uuid: Stable identifier, also across stores.
        attributes: Categorical attributes in the order shown to the model.
        source_uuid: For a counterfactual, the persona of the dataset that it was made from.
        changed_attribute: For a counterfactual, the attribute in which it differs.
    """

    uuid: str
    attributes: Mapping[str, str]
    age: int | None = None
    name: str | None = None
    appearance: str | None = None
    biography: str | None = None
    source_uuid: str | None = None
    changed_attribute: str | None = None


_FIELDS: Final = {name: PersonaDraft._fields.index(name) for name in KNOWN_COLUMNS}


@dataclass(frozen=True, slots=True, eq=False)
class PersonaTable:
    """A table that passed all checks.

    Attributes:
        attributes: The categories of each attribute; "" = none (age groups only).
        ages: Years; -1 = unknown.
        texts: Those of the known text columns that the table has.
        warnings: Sentences about what is allowed but may be a mistake.
    """

    n_personas: int
    attributes: Mapping[str, TextColumn]
    ages: NDArray[np.int16]
    texts: Mapping[str, TextColumn]
    warnings: tuple[str, ...]

    @property
    def has_links(self) -> bool:
        """Whether some personas are counterfactuals of others."""
        return "source_uuid" in self.texts and not bool(self.texts["source_uuid"].empty.all())

    def drafts(self) -> Iterator[PersonaDraft]:
        """The personas in order; those without a uuid get one derived from their content."""
        names = list(self.attributes)
        nothing: list[str | None] = [None] * _CHUNK
        seen: dict[str, int] = {}
        for start in range(0, self.n_personas, _CHUNK):
            stop = start + _CHUNK
            values = zip(*(c.take(start, stop) for c in self.attributes.values()), strict=True)
            attributes = [
                {name: value for name, value in zip(names, row, strict=True) if value}
                for row in values
            ]
            texts: dict[str, list[str | None]] = {
                name: [text or None for text in column.take(start, stop)]
                for name, column in self.texts.items()
            }
            ages = [age if age >= 0 else None for age in self.ages[start:stop].tolist()]
            rest = zip(*(texts.get(name, nothing) for name in _DRAFT_TEXTS), strict=False)
            for uuid, given, age, more in zip(
                texts.get("uuid", nothing), attributes, ages, rest, strict=False
            ):
                draft = PersonaDraft(uuid or "", given, age, *more)
                yield draft if uuid else draft._replace(uuid=content_uuid(draft, seen))


def check_personas(frame: pd.DataFrame) -> PersonaTable:
    """Check a whole persona table; report all its problems at once.

    Args:
        frame: One row per persona, every cell a text or missing; the index holds the numbers of
            the rows, as the user counts.

    Raises:
        InvalidInput: What is wrong, by row and column, and what is allowed.
    """
    problems = Problems(frame.index)
    names = check_headers(problems, frame.columns, _ALIASES)
    if frame.empty:
        problems.add("The table holds no personas; it needs a row of names and one per persona.")
    problems.raise_if_any()
    columns = {name: clean_column(frame.iloc[:, place]) for place, name in enumerate(names)}
    texts = {name: column for name, column in columns.items() if name in _TEXT_COLUMNS}
    for name, column in texts.items():
        if name in _MAX_TEXT:
            check_texts(problems, name, column, _MAX_TEXT[name], lines=True)
        else:
            check_texts(problems, name, column, _MAX_LENGTH[name])
    ages = _check_ages(problems, columns.get("age"), len(frame))
    attributes = {name: column for name, column in columns.items() if name not in KNOWN_COLUMNS}
    warnings = _check_attributes(problems, attributes, len(frame))
    if not attributes and (ages == -1).all():
        problems.add("There is no attribute to compare; add a column such as gender, or age.")
    if "uuid" in texts:
        _check_uuids(problems, texts["uuid"])
    problems.raise_if_any()  # the checks below compare columns and need each of them to be valid
    attributes = {
        name: column if name == AGE_GROUP else _name_empty(column)
        for name, column in attributes.items()
    }
    if AGE_GROUP in attributes or (ages >= 0).any():
        attributes[AGE_GROUP] = _age_groups(problems, ages, attributes.get(AGE_GROUP))
    warnings += check_links(problems, texts, attributes, {"age": AGE_GROUP})
    problems.raise_if_any()
    return PersonaTable(len(frame), attributes, ages, texts, tuple(warnings))


def persona_columns(drafts: Iterable[PersonaDraft]) -> list[str]:
    """The columns, without empty ones, of a persona table that holds these personas."""
    attributes: dict[str, None] = {}
    absent = set(_FIELDS)
    for draft in drafts:
        if draft.attributes.keys() - attributes.keys():
            attributes.update(dict.fromkeys(draft.attributes))
        if absent:
            absent = {name for name in absent if draft[_FIELDS[name]] is None}
    present = [name for name in KNOWN_COLUMNS if name not in absent]
    front = [name for name in ("uuid", "name", "age") if name in present]
    return [*front, *attributes, *(name for name in present if name not in front)]


def persona_rows(drafts: Iterable[PersonaDraft], columns: Sequence[str]) -> Iterator[list[str]]:
    """Personas as rows of texts in these columns; `check_personas` reads them back."""
    places = [_FIELDS.get(name) for name in columns]
    for draft in drafts:
        cells = [
            draft.attributes.get(name) if place is None else draft[place]
            for name, place in zip(columns, places, strict=True)
        ]
        yield ["" if cell is None else str(cell) for cell in cells]


def order_categories(attribute: str, categories: Iterable[str]) -> list[str]:
    """Age groups from young to old, other categories by name, `Unknown` last."""

    def rank(category: str) -> tuple[bool, int, str]:
        in_order = attribute == AGE_GROUP and category in AGE_GROUPS
        place = AGE_GROUPS.index(category) if in_order else len(AGE_GROUPS)
        return category == UNKNOWN_CATEGORY, place, category

    return sorted(categories, key=rank)


def age_group(age: int) -> str:
    """The age group of an age in whole years, 0..120."""
    return AGE_GROUPS[bisect(_GROUP_STARTS, age) - 1]


def content_uuid(draft: PersonaDraft, seen: dict[str, int]) -> str:
    """A uuid derived from the content of a persona, so that it is the same everywhere.

    Args:
        draft: The persona; its own uuid does not matter.
        seen: Counts the uuids given so far; a persona with the content of an earlier one gets
            the next number. This call changes it.
    """
    content = _SEPARATOR.join(
        (
            *chain.from_iterable(draft.attributes.items()),
            "",  # no attribute has this name, so no other content reads the same
            "" if draft.age is None else str(draft.age),
            draft.name or "",
            draft.appearance or "",
            draft.biography or "",
            draft.source_uuid or "",
            draft.changed_attribute or "",
        )
    )
    first = _hex_uuid(content)
    number = seen.get(first, 0)
    seen[first] = number + 1
    return _hex_uuid(f"{content}{_SEPARATOR}{number}") if number else first


def _hex_uuid(content: str) -> str:
    digits = blake2b(content.encode(), digest_size=16).hexdigest()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _check_ages(problems: Problems, column: TextColumn | None, n_rows: int) -> NDArray[np.int16]:
    if column is None:
        return np.full(n_rows, -1, dtype=np.int16)
    years = [_parse_age(text) for text in column.values]
    ages = np.array([-2 if age is None else age for age in years], dtype=np.int16)[column.codes]
    problems.add_cells(
        ages == -2, "age", column, f"allowed are whole numbers from 0 to {MAX_AGE}, or nothing."
    )
    return ages


def _parse_age(text: str) -> int | None:
    if not text or text == UNKNOWN_CATEGORY:
        return -1
    match = _AGE.fullmatch(text)
    age = int(match[1]) if match else MAX_AGE + 1
    return age if age <= MAX_AGE else None


def _check_attributes(
    problems: Problems, attributes: Mapping[str, TextColumn], n_rows: int
) -> list[str]:
    warnings = []
    if len(attributes) > MAX_ATTRIBUTES:
        problems.add(
            f"There are {len(attributes)} attribute columns; at most {MAX_ATTRIBUTES} are allowed."
        )
    for name, column in attributes.items():
        if name.lower() in RESERVED_NAMES:
            problems.add(f"The column name {shorten(name)} has a meaning of its own; rename it.")
        if len(name) > _MAX_NAME or not name.isprintable() or not _ATTRIBUTE_NAME.fullmatch(name):
            problems.add(
                f"The column name {shorten(name)} is not allowed: begin with a letter or digit, "
                f'use at most {_MAX_NAME} characters, and none of " \\ < > ` [ ] {{ }} $ * | ~ ^.'
            )
        n_categories = len(column.values) - ("" in column.values)
        if n_categories > MAX_CATEGORIES:
            problems.add(
                f"The column {shorten(name)} has {n_categories:,} different values; an attribute "
                f"may have {MAX_CATEGORIES}. Group its values, or leave the column out."
            )
            continue
        check_texts(problems, name, column, _MAX_CATEGORY)
        if n_categories == n_rows >= _LOOKS_LIKE_IDENTIFIER:
            warnings.append(
                f"Every persona has its own value of {shorten(name)}, so no groups can be "
                "compared; if it is an identifier, leave the column out."
            )
        warnings += _look_alikes(name, column)
    return warnings


def _look_alikes(name: str, column: TextColumn) -> list[str]:
    spellings: dict[str, list[str]] = {}
    for value in column.values:
        spellings.setdefault(value.casefold(), []).append(value)
    return [
        f"In the column {shorten(name)}, {list_words([shorten(v) for v in values])} are different "
        "categories; if they mean the same, write them the same."
        for values in spellings.values()
        if len(values) > 1
    ]


def _check_uuids(problems: Problems, column: TextColumn) -> None:
    problems.add_cells(column.empty, "uuid", column, "all personas need one, or none of them.")
    first, again = _first_rows(column)
    for position in np.flatnonzero(again & ~column.empty).tolist():
        value = column.values[column.codes[position]]
        earlier = problems.row_number(int(first[column.codes[position]]))
        problems.add_row(
            position, "uuid", f"{shorten(value)} is in row {earlier} too; each may occur only once."
        )


def _first_rows(column: TextColumn) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The first row of each value, and for each row whether an earlier one has its value."""
    _, first = np.unique(column.codes, return_index=True)
    again = np.ones(len(column.codes), dtype=bool)
    again[first] = False
    return first, again


def _name_empty(column: TextColumn) -> TextColumn:
    """Replace empty cells by Unknown, and merge them with an Unknown that is there already."""
    places: dict[str, int] = {}
    remap = [places.setdefault(value or UNKNOWN_CATEGORY, len(places)) for value in column.values]
    return TextColumn(np.array(remap, dtype=np.int64)[column.codes], list(places))


def _age_groups(
    problems: Problems, ages: NDArray[np.int16], given: TextColumn | None
) -> TextColumn:
    """The group derived from the age; if the age is unknown, the group that was given."""
    if given is None:
        given = TextColumn(np.zeros(len(ages), dtype=np.int64), [""])
    places: dict[str, int] = {}
    remap = [
        places.setdefault("" if value == UNKNOWN_CATEGORY else value, len(places))
        for value in given.values
    ]
    stated = np.array(remap, dtype=np.int64)[given.codes]
    of_age = np.array(
        [places.setdefault(age_group(age), len(places)) for age in range(MAX_AGE + 1)]
    )
    known = ages >= 0
    groups = np.where(known, of_age[ages], stated)
    for position in np.flatnonzero(known & (groups != stated) & (stated != places.get("", -1))):
        problems.add_row(
            int(position),
            AGE_GROUP,
            f"{shorten(list(places)[stated[position]])} does not fit the age {ages[position]}; "
            "leave it empty where an age is given.",
        )
    return TextColumn(groups, list(places))
