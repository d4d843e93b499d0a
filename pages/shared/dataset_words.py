"""Words and tables about personas and traits as pages show them; pure."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

import pandas as pd

from benchlib.application.dataset_service import Composition
from benchlib.domain.material.personas import PersonaDraft
from benchlib.domain.records import PersonaRecord, TraitRecord

ENCODINGS: Final[Mapping[str, str | None]] = {
    "UTF-8, or as the file's mark says": None,
    "Windows-1252 (Western Europe)": "cp1252",
    "Windows-1250 (Central Europe)": "cp1250",
    "Windows-1251 (Cyrillic)": "cp1251",
    "Windows-1254 (Turkish)": "cp1254",
    "ISO 8859-1 (Latin 1)": "latin-1",
    "ISO 8859-15 (Latin 9)": "iso8859-15",
    "UTF-16, little end first": "utf-16-le",
    "UTF-16, big end first": "utf-16-be",
    "Mac Roman": "mac-roman",
    "GB 18030 (Chinese)": "gb18030",
    "Shift JIS (Japanese)": "shift_jis",
    "EUC-KR (Korean)": "euc_kr",
}

VALENCES: Final = {1: "favourable", -1: "unfavourable", 0: "neutral"}

_CATEGORIES_SHOWN: Final = 12


def file_stem(name: str) -> str:
    """A name as part of a file name: letters, digits, hyphens."""
    return re.sub(r"[^\w]+", "-", name).strip("-_")[:60] or "export"


def span(low: int | None, high: int | None) -> str:
    """A range of numbers; a dash where there is none."""
    return "–" if low is None or high is None else f"{low} to {high}"


def persona_frame(personas: Sequence[PersonaRecord | PersonaDraft]) -> pd.DataFrame:
    """Personas as a table, without columns that are empty throughout."""
    attributes = dict.fromkeys(name for persona in personas for name in persona.attributes)
    columns = {
        "uuid": [persona.uuid for persona in personas],
        "name": [persona.name for persona in personas],
        "age": pd.array([persona.age for persona in personas], dtype="Int16"),
        **{name: [persona.attributes.get(name) for persona in personas] for name in attributes},
        "appearance": [persona.appearance for persona in personas],
        "biography": [persona.biography for persona in personas],
    }
    return pd.DataFrame(columns).dropna(axis="columns", how="all")


def attribute_frame(composition: Composition) -> pd.DataFrame:
    """One row per attribute: its categories with their counts."""
    rows = []
    for one in composition["attributes"]:
        shown = [f"{c['category']} ({c['count']:,})" for c in one["categories"]]
        more = [" …"] if len(shown) > _CATEGORIES_SHOWN else []
        text = ", ".join(shown[:_CATEGORIES_SHOWN]) + "".join(more)
        rows.append((one["attribute"], text, one["n_missing"]))
    return pd.DataFrame(rows, columns=["Attribute", "Categories", "Not given"])


def trait_frame(traits: Sequence[TraitRecord]) -> pd.DataFrame:
    """The catalogue as a table, in both languages."""
    return pd.DataFrame(
        {
            "trait": [trait.case_id for trait in traits],
            "category": [trait.category for trait in traits],
            "valence": [VALENCES[trait.valence] for trait in traits],
            "english": [trait.adjective.get("en") for trait in traits],
            "german": [trait.adjective.get("de") for trait in traits],
            "question_en": [trait.question.get("en") for trait in traits],
            "question_de": [trait.question.get("de") for trait in traits],
            "active": [trait.active for trait in traits],
            "version": [trait.version for trait in traits],
        }
    )
