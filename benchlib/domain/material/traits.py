"""Traits: wording, category and valence, and the checks of a trait table."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from benchlib.domain.material.text_tables import (
    Problems,
    TextColumn,
    check_headers,
    check_texts,
    clean_column,
    list_words,
    shorten,
)
from benchlib.domain.records import TraitRecord
from benchlib.domain.vocabulary import UNKNOWN_TRAIT_CATEGORY, Language, Valence

DEFAULT_QUESTIONS: Final[Mapping[Language, str]] = {
    "en": "How {adjective} is this person?",
    "de": "Wie {adjective} ist diese Person?",
}
"""The question of a trait without one of its own."""

TRAIT_COLUMNS: Final = (
    "case_id",
    "adjective_en",
    "adjective_de",
    "question_en",
    "question_de",
    "category",
    "valence",
    "active",
)
"""The columns of a trait table."""

MAX_TRAITS: Final = 2_000
_LANGUAGES: Final[tuple[Language, ...]] = ("en", "de")
_PLACEHOLDER: Final = "{adjective}"
_MAX_LENGTH: Final = {"case_id": 64, "category": 64, "valence": 20, "active": 20}
_MAX_WORDING: Final = 200
_CASE_ID: Final = re.compile(r"\w[\w .:/()-]*")
_VALENCES: Final[Mapping[str, Valence]] = {
    spelling: valence
    for valence in (-1, 0, 1)
    for spelling in (str(valence), f"{valence}.0", f"{valence:+d}")
}
_FLAGS: Final = {"": True, "true": True, "1": True, "yes": True} | dict.fromkeys(
    ("false", "0", "no"), False
)


@dataclass(frozen=True, slots=True)
class TraitDraft:
    """A trait before it is stored, or after an edit.

    Attributes:
        case_id: Stable name over versions ("competent").
        adjective: Wording per language, in the form used after "is" or "ist".
        question: Template per language; `{adjective}` stands for the wording.
        category: Trait category (competence, warmth, ...).
        valence: +1 favourable, -1 unfavourable, 0 neutral.
    """

    case_id: str
    adjective: Mapping[Language, str]
    question: Mapping[Language, str]
    category: str
    valence: Valence
    active: bool = True


def same_wording(one: TraitRecord | TraitDraft, other: TraitRecord | TraitDraft) -> bool:
    """Whether both are the same trait, asked in the same words."""
    return _content(one) == _content(other)


def traits_hash(traits: Iterable[TraitRecord | TraitDraft]) -> str:
    """SHA-256 over the content of traits, in order; ids and versions do not matter."""
    digest = hashlib.sha256()
    for trait in traits:
        digest.update(_content(trait).encode() + b"\n")
    return digest.hexdigest()


def _content(trait: TraitRecord | TraitDraft) -> str:
    return json.dumps(
        [
            trait.case_id,
            dict(sorted(trait.adjective.items())),
            dict(sorted(trait.question.items())),
            trait.category,
            trait.valence,
        ],
        ensure_ascii=False,
    )


def check_traits(frame: pd.DataFrame) -> list[TraitDraft]:
    """Check a whole trait table; report all its problems at once.

    Args:
        frame: One row per trait, every cell a text or missing, with columns of `TRAIT_COLUMNS`:
            case_id, valence and at least one adjective are required. The index holds the numbers
            of the rows, as the user counts.

    Raises:
        InvalidInput: What is wrong, by row and column, and what is allowed.
    """
    problems = Problems(frame.index)
    names = check_headers(problems, frame.columns, {name: name for name in TRAIT_COLUMNS})
    _check_columns(problems, names)
    if frame.empty:
        problems.add("The table holds no traits; it needs a row of names and one per trait.")
    if len(frame) > MAX_TRAITS:
        problems.add(f"The table has {len(frame):,} rows; at most {MAX_TRAITS:,} are allowed.")
    problems.raise_if_any()
    blank = TextColumn(np.zeros(len(frame), dtype=np.int64), [""])
    columns = dict.fromkeys(TRAIT_COLUMNS, blank) | {
        name: clean_column(frame.iloc[:, place]) for place, name in enumerate(names)
    }
    _check_cells(problems, columns)
    problems.raise_if_any()
    rows = zip(*(columns[name].take(0, len(frame)) for name in TRAIT_COLUMNS), strict=True)
    return [_draft(dict(zip(TRAIT_COLUMNS, row, strict=True))) for row in rows]


def check_trait(draft: TraitDraft) -> TraitDraft:
    """Check one trait from a form by the same rules; return it cleaned.

    Raises:
        InvalidInput: What is wrong, and what is allowed.
    """
    table = pd.DataFrame([trait_row(draft)], columns=list(TRAIT_COLUMNS), dtype="str")
    return check_traits(table)[0]


def trait_row(trait: TraitRecord | TraitDraft) -> list[str]:
    """A trait as a row of texts in `TRAIT_COLUMNS`; `check_traits` reads it back."""
    return [
        trait.case_id,
        *(trait.adjective.get(language, "") for language in _LANGUAGES),
        *(trait.question.get(language, "") for language in _LANGUAGES),
        trait.category,
        str(trait.valence),
        str(trait.active).lower(),
    ]


def _check_columns(problems: Problems, names: Iterable[str]) -> None:
    present = set(names)
    for name in sorted(present - set(TRAIT_COLUMNS) - {""}):
        problems.add(
            f"The column {shorten(name)} is not known; allowed are "
            f"{list_words(list(TRAIT_COLUMNS))}."
        )
    for name in ("case_id", "valence"):
        if name not in present:
            problems.add(f"The column {name} is missing.")
    if not present & {"adjective_en", "adjective_de"}:
        problems.add("A column adjective_en or adjective_de is missing.")


def _check_cells(problems: Problems, columns: Mapping[str, TextColumn]) -> None:
    for name, column in columns.items():
        check_texts(problems, name, column, _MAX_LENGTH.get(name, _MAX_WORDING))
    case_id = columns["case_id"]
    problems.add_cells(
        case_id.where(lambda text: not _CASE_ID.fullmatch(text)),
        "case_id",
        case_id,
        "use letters, digits, spaces and _ . : / ( ) -, as in competent.",
    )
    seen: dict[str, int] = {}
    for position, name in enumerate(case_id.take(0, len(case_id.codes))):
        first = seen.setdefault(name, position)
        if name and first != position:
            problems.add_row(
                position,
                "case_id",
                f"{shorten(name)} is in row {problems.row_number(first)} too; each may occur only "
                "once.",
            )
    wordless = columns["adjective_en"].empty & columns["adjective_de"].empty
    problems.add_cells(
        wordless,
        "adjective_en",
        columns["adjective_en"],
        "a trait needs an adjective in English or German.",
    )
    for language in _LANGUAGES:
        question = columns[f"question_{language}"]
        problems.add_cells(
            question.where(lambda text: bool(text) and text.count(_PLACEHOLDER) != 1),
            f"question_{language}",
            question,
            f"a question holds {_PLACEHOLDER} exactly once, or is empty for the default one.",
        )
    valence, active = columns["valence"], columns["active"]
    problems.add_cells(
        valence.where(lambda text: text not in _VALENCES),
        "valence",
        valence,
        "allowed are 1 (favourable), -1 (unfavourable) and 0 (neutral).",
    )
    problems.add_cells(
        active.where(lambda text: text.lower() not in _FLAGS),
        "active",
        active,
        "allowed are true and false, or nothing for true.",
    )


def _draft(row: Mapping[str, str]) -> TraitDraft:
    languages = [language for language in _LANGUAGES if row[f"adjective_{language}"]]
    return TraitDraft(
        case_id=row["case_id"],
        adjective={language: row[f"adjective_{language}"] for language in languages},
        question={
            language: row[f"question_{language}"] or DEFAULT_QUESTIONS[language]
            for language in languages
        },
        category=row["category"] or UNKNOWN_TRAIT_CATEGORY,
        valence=_VALENCES[row["valence"]],
        active=_FLAGS[row["active"].lower()],
    )
