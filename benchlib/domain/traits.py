"""Traits: wording, category and valence, and what a table of them may hold."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from benchlib.domain.results import TraitRecord
from benchlib.domain.vocabulary import Language, Valence


@dataclass(frozen=True, slots=True)
class TraitDraft:
    """A trait before it is stored, or as it shall read after an edit.

    Attributes:
        case_id: Stable name over versions ("competent").
        adjective: Wording per language, as it stands after "is" or "ist".
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
    """Whether both mean the same trait and ask for it in the same words."""
    return _content(one) == _content(other)


def traits_hash(traits: Iterable[TraitRecord | TraitDraft]) -> str:
    """SHA-256 over the content of traits in their order; ids and versions do not enter."""
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
