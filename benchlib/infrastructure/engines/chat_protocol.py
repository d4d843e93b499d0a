"""The bodies of chat requests and the reading of their replies, for every way of asking.

Pure: bytes in, values out. An `AskPlan` fixes the way of asking for a whole run.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import orjson

from benchlib.domain.asking.answer_modes import ANSWER_MODES
from benchlib.domain.asking.answers import answer_from_logprobs, parse_structured
from benchlib.domain.records import Answer, AnswerFailure, Question
from benchlib.domain.vocabulary import AnswerMode, FailureKind

Route = Literal["batch", "single"]

PATHS: Final[Mapping[Route, str]] = {
    "batch": "/v1/chat/completions/batch",
    "single": "/v1/chat/completions",
}
PLAIN_DIGITS: Final[Mapping[str, int]] = {"1": 0, "2": 1, "3": 2, "4": 3, "5": 4}

REFUSED: Final = frozenset({400, 413, 422})
"""Status of a reply that blames the request."""

_SNIPPET: Final = 300


class MalformedReply(Exception):
    """A reply with status 200 that cannot be used; its text is the reason, without the address."""


@dataclass(frozen=True, slots=True)
class AskPlan:
    """How a server is asked.

    Attributes:
        mode: Answer mode the prompts are rendered for.
        route: One request for many conversations, or for one.
        fields: Of a request, besides model and messages.
        logprobs_source: Where a distribution comes from; None where there is none.
        digits: Token of a digit -> its place, 0..4.
        enforced: Whether the server enforces the answer's JSON format.
        separate_system: Whether the chat template knows a system role; otherwise the system prompt
            is put before the user's.
    """

    mode: AnswerMode
    route: Route
    fields: Mapping[str, Any] = field(default_factory=dict)
    logprobs_source: str | None = None
    digits: Mapping[str, int] = field(default_factory=lambda: PLAIN_DIGITS)
    enforced: bool = False
    separate_system: bool = True

    def extended(self, **fields: Any) -> "AskPlan":
        """This plan with more fields in its requests."""
        return replace(self, fields={**self.fields, **fields})


@dataclass(frozen=True, slots=True)
class ChatReply:
    """What a reply says.

    Attributes:
        outcomes: One per question, in the order asked.
        model: The model's name in the reply, if any.
        fingerprint: `system_fingerprint` of the reply, if any.
        prompt_tokens: Of the whole request; 0 if not reported.
        completion_tokens: Of the whole request; 0 if not reported.
    """

    outcomes: list[Answer | AnswerFailure]
    model: str | None
    fingerprint: str | None
    prompt_tokens: int
    completion_tokens: int


def request_body(plan: AskPlan, model: str, questions: Sequence[Question]) -> bytes:
    """The body for `PATHS[plan.route]`; the single route takes exactly one question."""
    if plan.separate_system:
        conversations = [
            [
                {"role": "system", "content": question.system},
                {"role": "user", "content": question.user},
            ]
            if question.system
            else [{"role": "user", "content": question.user}]
            for question in questions
        ]
    else:
        conversations = [
            [{"role": "user", "content": f"{question.system}\n\n{question.user}".lstrip("\n")}]
            for question in questions
        ]
    messages = conversations if plan.route == "batch" else conversations[0]
    return orjson.dumps({"model": model, "messages": messages, **plan.fields})


def read_reply(plan: AskPlan, body: bytes, n_questions: int, latency_ms: int) -> ChatReply:
    """Read the body of a reply with status 200.

    Raises:
        MalformedReply: Not JSON, the wrong number of choices, or cut short by the server; then
            nothing is known about any question.
    """
    reply = _decoded(body)
    choices = reply.get("choices") if isinstance(reply, dict) else None
    if not isinstance(choices, list):
        raise MalformedReply("its answer is not a chat completion")
    if len(choices) != n_questions:
        raise MalformedReply(f"it gave {len(choices)} answers to {n_questions} questions")
    outcomes: list[Answer | AnswerFailure | None] = [None] * n_questions
    read = _read_distribution if plan.logprobs_source is not None else _read_text
    for choice in choices:
        try:
            index = choice["index"] if n_questions > 1 else 0
            reason = choice.get("finish_reason")
            if reason in _CUT_SHORT:
                raise MalformedReply("it cut an answer short")
            if outcomes[index] is not None or index < 0:
                raise MalformedReply("it gave two answers to one question")
            outcomes[index] = read(plan, choice, reason, latency_ms)
        except (AttributeError, IndexError, KeyError, TypeError):
            raise MalformedReply("its answers cannot be matched to the questions") from None
    usage = reply.get("usage")
    prompt_tokens = _count(usage, "prompt_tokens")
    completion_tokens = _count(usage, "completion_tokens")
    whole = [outcome for outcome in outcomes if outcome is not None]
    if n_questions == 1 and isinstance(whole[0], Answer):
        whole[0] = whole[0]._replace(
            prompt_tokens=prompt_tokens or None, completion_tokens=completion_tokens or None
        )
    return ChatReply(
        outcomes=whole,
        model=_text(reply.get("model")),
        fingerprint=_text(reply.get("system_fingerprint")),
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
    )


_CUT_SHORT: Final = frozenset({"abort", "error"})


def _decoded(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(body)  # accepts NaN: one bad number must not cost the whole batch
    except (ValueError, RecursionError):
        raise MalformedReply("its answer is not complete JSON") from None


def _read_distribution(
    plan: AskPlan, choice: dict[str, Any], reason: object, latency_ms: int
) -> Answer | AnswerFailure:
    """The five digits' log-probabilities at the first token; all of them are required."""
    content = choice["message"].get("content") or ""
    place = plan.digits
    found: list[Any] = [None, None, None, None, None]
    try:
        for entry in choice["logprobs"]["content"][0]["top_logprobs"]:
            at = place.get(entry["token"])
            if at is not None:
                found[at] = entry["logprob"]
        if None not in found:
            return answer_from_logprobs(found, content, latency_ms)
    except (IndexError, KeyError, TypeError):
        pass
    n_found = 5 - found.count(None)
    return AnswerFailure(
        FailureKind.UNUSABLE,
        f"The engine reported log-probabilities for {n_found} of the digits 1 to 5.",
        str(content)[:_SNIPPET],
    )


def _read_text(
    plan: AskPlan, choice: dict[str, Any], reason: object, latency_ms: int
) -> Answer | AnswerFailure:
    content = choice["message"].get("content") or ""
    parse = parse_structured if plan.enforced else ANSWER_MODES[plan.mode].parse
    outcome = parse(content)
    if isinstance(outcome, Answer):
        return outcome._replace(latency_ms=latency_ms)
    if reason == "length":
        return outcome._replace(
            message=f"{outcome.message} It was cut off at {plan.fields.get('max_tokens')} tokens."
        )
    if reason == "content_filter":
        return outcome._replace(message="The server's content filter withheld the answer.")
    return outcome


def _count(usage: object, name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) else 0


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
