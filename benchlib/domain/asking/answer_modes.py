"""What each answer mode is: its name on screen, how its prompt ends, how its answer is read.

The table is a `match`, so that mypy reports a mode without an entry; so do `wording.Instructions`
and every other place that differs by mode.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, assert_never, get_args

from benchlib.domain.asking.answers import parse_rating_text
from benchlib.domain.records import Answer, AnswerFailure
from benchlib.domain.vocabulary import AnswerMode

JsonField = Literal["rationale", "rating"]


@dataclass(frozen=True, slots=True)
class ModeSpec:
    """One answer mode. Its instructions are in `wording`, one per language.

    Attributes:
        label: For forms.
        parse: Reads the text of an answer whose format the server did not enforce.
        json_fields: Fields of a JSON answer, in the order asked for; empty if it is not JSON.
        ends_on_cue: The prompt ends on a cue for the digit. With it SmolLM2 puts 0.60 of its
            probability on digits, without it 0.48.
    """

    label: str
    parse: Callable[[str], Answer | AnswerFailure]
    json_fields: tuple[JsonField, ...] = ()
    ends_on_cue: bool = False


def _spec(mode: AnswerMode) -> ModeSpec:
    match mode:
        case "distribution":
            return ModeSpec("Probability of each digit", parse_rating_text, ends_on_cue=True)
        case "rating":
            return ModeSpec("Rating as JSON", parse_rating_text, json_fields=("rating",))
        case "rationale":
            return ModeSpec(
                "Rationale and rating as JSON",
                parse_rating_text,
                json_fields=("rationale", "rating"),
            )
        case "text":
            return ModeSpec("Plain text", parse_rating_text, ends_on_cue=True)
        case _:
            assert_never(mode)


ANSWER_MODES: Final[Mapping[AnswerMode, ModeSpec]] = {
    mode: _spec(mode) for mode in get_args(AnswerMode)
}
