"""Words and numbers as pages show them; pure, so that tests need no page."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, Literal, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pandas as pd

from benchlib.domain.asking import answer_modes
from benchlib.domain.material.composition import Composition
from benchlib.domain.material.personas import PersonaDraft
from benchlib.domain.records import PersonaRecord, TraitRecord
from benchlib.domain.vocabulary import Language, RunStatus, Valence

Colour = Literal["gray", "blue", "green", "orange", "red"]


class StatusWords(NamedTuple):
    """How a status is shown; never by colour alone."""

    label: str
    icon: str
    colour: Colour
    sentence: str


STATUS: Final = {
    RunStatus.QUEUED: StatusWords(
        "queued", ":material/schedule:", "gray", "The run is waiting for its turn."
    ),
    RunStatus.RUNNING: StatusWords(
        "running", ":material/play_circle:", "blue", "The run is being executed."
    ),
    RunStatus.DONE: StatusWords(
        "done", ":material/check_circle:", "green", "Every planned question has a rating."
    ),
    RunStatus.PARTIAL: StatusWords(
        "partial",
        ":material/rule:",
        "orange",
        "Some questions got no usable answer. Resume to ask them again.",
    ),
    RunStatus.CANCELLED: StatusWords(
        "cancelled",
        ":material/cancel:",
        "gray",
        "Run cancelled. Its ratings are kept; resume to go on.",
    ),
    RunStatus.FAILED: StatusWords(
        "failed",
        ":material/error:",
        "red",
        "The run could not go on. Its ratings are kept; resume when the cause is gone.",
    ),
    RunStatus.INTERRUPTED: StatusWords(
        "interrupted",
        ":material/pause_circle:",
        "orange",
        "The run was interrupted. Its ratings are kept; resume to ask only what is missing.",
    ),
}

ENGINES: Final = {
    "vllm": "vLLM or compatible server",
    "managed": "Managed local server",
    "simulated": "Simulated rater",
}

ANSWER_MODES: Final = {mode: spec.label for mode, spec in answer_modes.ANSWER_MODES.items()}

LANGUAGES: Final[Mapping[Language, str]] = {"en": "English", "de": "German"}

SCALE_MODES: Final = {
    "random50": "Half of the pairs each way",
    "in": "1 = not at all … 5 = very",
    "rev": "1 = very … 5 = not at all",
}

SCALE_ORDERS: Final = {"in": "1 = not at all … 5 = very", "rev": "1 = very … 5 = not at all"}

SHORT_ORDERS: Final = {"in": "original", "rev": "reversed"}

NO_VALENCE: Final = (
    "There are no ratings of traits with a valence here. If the traits are neutral, switch on "
    "“Neutral traits” under Options."
)

FAILURES: Final = {
    "unreachable": "engine not reachable",
    "timeout": "no answer in time",
    "overloaded": "engine overloaded",
    "server_error": "engine reported a fault",
    "rejected": "engine refused the prompt",
    "unusable": "answer without a valid rating",
}

FIELDS: Final = {
    "vllm_base_url": "Address",
    "vllm_api_key": "API key",
    "model_name": "Model",
    "trait_ids": "Traits",
    "system_prompt": "System prompt",
    "temperature": "Temperature",
    "seed": "Seed",
    "max_attempts": "Attempts per question",
    "batch_size": "Requests in flight",
    "max_new_tokens": "Longest answer in tokens",
    "dual_fraction": "Asked in both orders",
    "simulated_items_per_second": "Answers per second",
    "simulated_fault_rate": "Share of attempts that fail",
    "simulated_preset": "Rater",
}

ABILITIES: Final = {
    "batch": "several questions per request",
    "distribution": "probability of each digit",
    "structured": "answers as JSON",
}

ENGINE_STATES: Final = {
    "asking": "asking",
    "reported": "reporting",
    "nothing": "reports nothing",
    "silent": "does not answer",
    "refused": "not asked: its host is not allowed",
}

ENCODINGS: Final[Mapping[str, str | None]] = {
    "UTF-8, or as the byte order mark says": None,
    "Windows-1252 (Western Europe)": "cp1252",
    "Windows-1250 (Central Europe)": "cp1250",
    "Windows-1251 (Cyrillic)": "cp1251",
    "Windows-1254 (Turkish)": "cp1254",
    "ISO 8859-1 (Latin 1)": "latin-1",
    "ISO 8859-15 (Latin 9)": "iso8859-15",
    "UTF-16, little-endian": "utf-16-le",
    "UTF-16, big-endian": "utf-16-be",
    "Mac Roman": "mac-roman",
    "GB 18030 (Chinese)": "gb18030",
    "Shift JIS (Japanese)": "shift_jis",
    "EUC-KR (Korean)": "euc_kr",
}

MATERIAL_FORMATS: Final[Mapping[Literal["csv", "parquet"], str]] = {
    "csv": "CSV",
    "parquet": "Parquet",
}
"""Formats of datasets and traits as files that can be imported again."""

VALENCES: Final[Mapping[Valence, str]] = {1: "favourable", -1: "unfavourable", 0: "neutral"}

_CATEGORIES_SHOWN: Final = 12
"""Categories of an attribute listed in a cell; more are hinted at by a …."""

_LITERAL_WORD: Final = re.compile(r"\S*(?:[@]|www\.|:[^\s:]|//)\S*")
_TRAILING: Final = re.compile(r"[.,;:)]+$")
_PUNCTUATION: Final = re.compile(r"([!-/:-@\[-`{-~])")


def plain_markdown(text: str) -> str:
    """An untrusted text as Markdown that shows it literally: no links, images, icons, formulas.

    Addresses and the like become code, because escaping does not keep a Markdown reader from
    making links of them; all other punctuation is escaped.
    """
    return "  \n".join(_plain_line(line) for line in text.splitlines())


def with_labels(message: str) -> str:
    """A message about fields, with the labels of the form instead of their names."""
    for name, label in FIELDS.items():
        message = re.sub(rf"\b{name}\b(?=:)", label, message)
    return message


def duration(seconds: float | None) -> str:
    """Seconds in the two largest fitting units; a dash where unknown."""
    if seconds is None:
        return "–"
    if seconds < 1:
        return "under 1 s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def rate(per_second: float | None) -> str:
    """Answers per second with sensible precision; a dash where unknown."""
    if per_second is None:
        return "–"
    return f"{per_second:,.0f} /s" if per_second >= 10 else f"{per_second:.2g} /s"


def about(number: int | None) -> str:
    """A rough count in two digits, "≈ 1.9 M"; a dash where unknown."""
    if number is None:
        return "–"
    for size, unit in ((10**9, " G"), (10**6, " M"), (10**3, " k")):
        if number >= 0.995 * size:
            return f"≈ {float(f'{number / size:.2g}'):g}{unit}"
    return f"≈ {number}"


def amount(value: float | None) -> str:
    """A whole number; a dash where unknown."""
    return "–" if value is None else f"{value:,.0f}"


def percent(part: float | None) -> str:
    """A share as a percentage; a dash where unknown. 0% and 100% are shown only where exact."""
    if part is None:
        return "–"
    if 0 < part <= 0.005:
        return "< 1%"
    return "> 99%" if 0.995 <= part < 1 else f"{part:.0%}"


def share(part: int, whole: int) -> float:
    """A progress between 0 and 1; 1 only if nothing is left."""
    return min(part / whole, 0.999 if part < whole else 1.0) if whole else 0.0


def moment(iso: str | None, timezone: str | None = None) -> str:
    """A stored time in the reader's zone, to the minute; a dash where there is none."""
    if iso is None:
        return "–"
    try:
        zone = ZoneInfo(timezone or "UTC")
    except (ZoneInfoNotFoundError, ValueError):
        zone = ZoneInfo("UTC")
    return f"{datetime.fromisoformat(iso).astimezone(zone):%Y-%m-%d %H:%M %Z}"


def sizes(names: Iterable[str]) -> dict[str, int]:
    """How often each name occurs, by name."""
    return dict(sorted(Counter(names).items()))


def tokens(prompt: int | None, completion: int | None) -> str:
    """Tokens of prompt and answer; a dash where the engine does not count them."""
    known = [f"{count:,}" for count in (prompt, completion) if count is not None]
    return " + ".join(known) or "–"


def matches(search: str, texts: Iterable[str]) -> bool:
    """Whether every word of a search occurs in the texts; an empty search matches all."""
    haystack = " ".join(texts).casefold()
    return all(word in haystack for word in search.casefold().split())


def _plain_line(line: str) -> str:
    return " ".join(_plain_word(word) for word in line.split())


def _plain_word(word: str) -> str:
    if not _LITERAL_WORD.fullmatch(word):
        return _PUNCTUATION.sub(r"\\\1", word)
    found = _TRAILING.search(word)
    tail = found.group() if found else ""
    body = word.removesuffix(tail)
    fence = "`" * (max(map(len, re.findall(r"`+", body)), default=0) + 1)
    inside = f" {body} " if "`" in body else body
    return fence + inside + fence + _PUNCTUATION.sub(r"\\\1", tail)


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
