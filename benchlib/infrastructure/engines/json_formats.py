"""How a server is told the JSON format of an answer: regular expression, schema, OpenAI's way."""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple, assert_never

from benchlib.domain.asking.answer_modes import ANSWER_MODES, JsonField
from benchlib.domain.vocabulary import AnswerMode

_JSON_OVERHEAD_TOKENS: Final = 24
_SHORTEST_RATIONALE: Final = 40
_LONGEST_RATIONALE: Final = 600


def structured_fields(mode: AnswerMode, max_new_tokens: int) -> Iterator[dict[str, Any]]:
    """Ways to ask for the JSON of a mode, best first.

    The regular expression leaves no room for white space, in which small models get lost until
    their tokens are used up, and it bounds the rationale so that the rating still fits in.
    """
    longest = max(
        _SHORTEST_RATIONALE, min(_LONGEST_RATIONALE, max_new_tokens - _JSON_OVERHEAD_TOKENS)
    )
    fields = [_json_field(name, longest) for name in ANSWER_MODES[mode].json_fields]
    regex = ", ".join(rf"\"{field.name}\": {field.regex}" for field in fields)
    yield {"structured_outputs": {"regex": rf"\{{{regex}\}}"}}
    bounded = _object_schema({field.name: field.bounded for field in fields})
    yield {"structured_outputs": {"json": bounded}}
    schema = _object_schema({field.name: field.schema for field in fields})
    yield {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "rating", "strict": True, "schema": schema},
        }
    }


class _FieldFormat(NamedTuple):
    """How one field of a JSON answer is described; `bounded` also limits its length."""

    name: JsonField
    regex: str
    schema: dict[str, Any]
    bounded: dict[str, Any]


def _json_field(name: JsonField, longest: int) -> _FieldFormat:
    match name:
        case "rating":
            schema: dict[str, Any] = {"type": "integer", "enum": [1, 2, 3, 4, 5]}
            return _FieldFormat(name, "[1-5]", schema, schema)
        case "rationale":
            return _FieldFormat(
                name,
                rf"\"[^\"\\\x00-\x1f]{{1,{longest}}}\"",
                {"type": "string"},
                {"type": "string", "minLength": 1, "maxLength": longest},
            )
        case _:
            assert_never(name)


def _object_schema(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
