"""The prompt: persona first, then trait, scale and answer instruction.

The order is part of the prompt version: it decides what prefix caching can share and, as measured,
changes the ratings themselves. Persona and trait texts are data: each is put on one line, and
cannot pose as another section or as a control token of a chat template.
"""

import json
import re
import unicodedata
from hashlib import sha256
from typing import Final

from benchlib.domain.asking.answer_modes import ANSWER_MODES
from benchlib.domain.asking.wording import WORDINGS
from benchlib.domain.errors import InvalidInput
from benchlib.domain.records import PersonaRecord, Question, TraitRecord, WorkItem
from benchlib.domain.vocabulary import (
    SCALE_ORDERS,
    UNKNOWN_CATEGORY,
    AnswerMode,
    Language,
    ScaleOrder,
)

PROMPT_VERSION: Final = "1"
"""Changes whenever a rendered prompt changes; runs of different versions do not compare."""

_MEMO_ENTRIES: Final = 4096

_DIRECTION_MARKS: Final = re.compile("[\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_CONTROL_TOKEN: Final = re.compile(r"<(?=[|｜/\w])|(?<=[|｜])>|\[(?=/?[A-Z_]{2,}\])")
_ADJECTIVE: Final = "{adjective}"


def render_persona(persona: PersonaRecord, language: Language) -> str:
    """The description of a person, one line per known attribute; ends with an empty line.

    With an age, `age_group` is left out, as are values that are empty or "Unknown".
    """
    wording = WORDINGS[language]
    lines = [wording.persona_heading]

    def add(column: str, value: str, translate: bool) -> None:
        text = _as_data(value)
        if not text or text == UNKNOWN_CATEGORY:
            return
        if translate:
            text = wording.values.get(text.lower(), text)
        label = wording.labels.get(column)
        lines.append(f"- {label or _readable(column)}: {text}")

    if persona.name:
        add("name", persona.name, translate=False)
    if persona.age is not None:
        add("age", str(persona.age), translate=False)
    for column, value in persona.attributes.items():
        if persona.age is None or column not in ("age", "age_group"):
            add(column, str(value), translate=True)
    if persona.appearance:
        add("appearance", persona.appearance, translate=False)
    if persona.biography:
        add("biography", persona.biography, translate=False)
    return "\n".join(lines) + "\n\n"


def render_question(
    trait: TraitRecord,
    scale_order: ScaleOrder,
    language: Language,
    answer_mode: AnswerMode,
    attempt: int = 1,
) -> str:
    """The trait question, its five numbered options, and how to answer.

    Args:
        trait: Must have a wording in `language`; its question template is optional.
        scale_order: `in` numbers from "not at all" (1) to "very" (5); `rev` shows the same five
            texts in reverse order, still numbered 1 to 5.
        language: Of everything in the prompt.
        answer_mode: Decides the answer instruction.
        attempt: From 2 on, a stricter instruction follows.

    Raises:
        InvalidInput: The trait has no wording in this language.
    """
    wording = WORDINGS[language]
    adjective = _as_data(trait.adjective.get(language, ""))
    if not adjective:
        raise InvalidInput(
            f"Trait {trait.case_id} has no wording in language {language}; "
            "add one, or leave the trait out of the run."
        )
    template = _as_data(trait.question.get(language, "")) or wording.default_question
    degrees = wording.degrees if scale_order == "in" else wording.degrees[::-1]
    lines = [template.replace(_ADJECTIVE, adjective), ""]
    lines += [f"{number} = {degree} {adjective}" for number, degree in enumerate(degrees, 1)]
    lines += ["", wording.instructions[answer_mode]]
    if attempt > 1:
        lines.append(wording.stricter[answer_mode])
    if ANSWER_MODES[answer_mode].ends_on_cue:
        lines.append(wording.digit_cue)
    return "\n".join(lines)


def build_question(
    item: WorkItem,
    *,
    language: Language,
    answer_mode: AnswerMode,
    system_prompt: str | None = None,
    attempt: int = 1,
) -> Question:
    """One rendered question; for many, a `PromptBook` costs less.

    Args:
        item: Persona, trait and scale order.
        language: Of the prompt.
        answer_mode: How the rating is asked for.
        system_prompt: Replaces the default system prompt; empty means the default one.
        attempt: Counts from 1.
    """
    book = PromptBook(language=language, answer_mode=answer_mode, system_prompt=system_prompt)
    return book.question(item, attempt)


class PromptBook:
    """Renders the questions of a run, each persona block and question block only once.

    Blocks are cached per record object, up to a limit. Not thread-safe.
    """

    def __init__(
        self,
        language: Language,
        answer_mode: AnswerMode,
        system_prompt: str | None = None,
    ) -> None:
        self.language: Final = language
        self.answer_mode: Final = answer_mode
        own = (system_prompt or "").strip()
        self.system: Final = own or WORDINGS[language].system
        self._persona: PersonaRecord | None = None
        self._persona_block = ""
        self._personas: dict[int, tuple[PersonaRecord, str]] = {}
        self._questions: dict[tuple[int, ScaleOrder, int], tuple[TraitRecord, str]] = {}

    def question(self, item: WorkItem, attempt: int = 1) -> Question:
        """The prompt of one item; takes about a microsecond if both blocks are cached.

        Raises:
            InvalidInput: The trait has no wording in this language.
        """
        persona, trait, scale_order = item
        if persona is not self._persona:
            self._persona_block = self._describe(persona)
            self._persona = persona
        # An id is unique among living objects only: each cache entry keeps its object alive.
        key = (id(trait), scale_order, attempt)
        known = self._questions.get(key)
        if known is None:
            block = render_question(trait, scale_order, self.language, self.answer_mode, attempt)
            if len(self._questions) >= _MEMO_ENTRIES:
                self._questions.clear()
            self._questions[key] = (trait, block)
        else:
            block = known[1]
        return Question(item, self.system, self._persona_block + block, attempt)

    def _describe(self, persona: PersonaRecord) -> str:
        known = self._personas.get(id(persona))
        if known is not None:
            return known[1]
        block = render_persona(persona, self.language)
        if len(self._personas) >= _MEMO_ENTRIES:
            self._personas.clear()
        self._personas[id(persona)] = (persona, block)
        return block


def prompt_template_hash() -> str:
    """SHA-256, in hex, of all texts and of one rendered sample of each kind of prompt."""
    persona = PersonaRecord(
        id=1,
        uuid="sample",
        attributes={"gender": "female", "age_group": "30-44", "shoe_size": "40"},
        age=34,
        name="Kim",
        appearance="tall",
        biography="Grew up by the sea.",
    )
    trait = TraitRecord(
        id=1,
        case_id="sample",
        adjective={"en": "competent", "de": "kompetent"},
        question={"en": "How {adjective} is this person?"},
        category="competence",
        valence=1,
    )
    samples = [
        build_question(
            WorkItem(persona, trait, order), language=language, answer_mode=mode, attempt=attempt
        )[1:3]
        for language in WORDINGS
        for mode in ANSWER_MODES
        for order in SCALE_ORDERS
        for attempt in (1, 2)
    ]
    tables = [
        [sorted(table.items()) for table in (w.instructions, w.stricter, w.labels, w.values)]
        for w in WORDINGS.values()
    ]
    text = json.dumps([PROMPT_VERSION, tables, samples], ensure_ascii=True)
    return sha256(text.encode()).hexdigest()


def _as_data(text: str) -> str:
    """Put a value on one line and break up what a chat template would read as control tokens."""
    text = _DIRECTION_MARKS.sub("", text)
    if not text.isprintable():
        text = "".join(" " if unicodedata.category(c) in _UNPRINTABLE else c for c in text)
    text = " ".join(text.split())
    return _CONTROL_TOKEN.sub(lambda found: _apart(found.group()), text)


_UNPRINTABLE: Final = frozenset({"Cc", "Cs", "Zl", "Zp", "Zs"})


def _apart(bracket: str) -> str:
    return f" {bracket}" if bracket == ">" else f"{bracket} "


def _readable(column: str) -> str:
    text = _as_data(column.replace("_", " "))
    return text[:1].upper() + text[1:] if text else "Attribute"
