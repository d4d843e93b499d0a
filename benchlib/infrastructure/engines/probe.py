"""Finding out what an engine really does, before a run and for the form.

Servers accept unknown fields with status 200 and ignore them. So a capability counts only if a test
question has shown it: five digits that came back, a format that held although the prompt asks for
something else.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, assert_never

import orjson

from benchlib.domain.asking.prompts import PromptBook
from benchlib.domain.errors import EngineFault
from benchlib.domain.records import Answer, PersonaRecord, Question, TraitRecord, WorkItem
from benchlib.domain.vocabulary import SCALE_ORDERS, AnswerMode, FailureKind
from benchlib.infrastructure.engines.backoff import Backoff
from benchlib.infrastructure.engines.chat_protocol import (
    PATHS,
    AskPlan,
    ChatReply,
    MalformedReply,
    Route,
    read_reply,
    request_body,
)
from benchlib.infrastructure.engines.http import (
    EngineHttp,
    Reply,
)
from benchlib.infrastructure.engines.identity import (
    EngineRefusal,
    fault_of,
)
from benchlib.infrastructure.engines.json_formats import structured_fields

_DIGITS: Final = ("1", "2", "3", "4", "5")
_LOW_MASS: Final = 0.5
_VERY_LOW_MASS: Final = 0.1
_MOVED: Final = 0.02
"""Distributions of one question that differ by more than this are taken to be different."""

_PATIENCE: Final = 3
_BUSY_BACKOFF: Final = Backoff(0.4, 5.0)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a probe found.

    Attributes:
        plan: The best way of asking in the requested mode, or the next best mode.
        model_answered: The model's name in replies, if they give one.
        notes: Sentences for the user.
    """

    plan: AskPlan
    model_answered: str | None
    notes: tuple[str, ...]


async def ask_once(
    http: EngineHttp, plan: AskPlan, model: str, questions: Sequence[Question]
) -> ChatReply | Reply:
    """Send one request as `plan` says; a reply with another status than 200 is returned as it is.

    Raises:
        EngineFault: No answer came, or it cannot be read.
    """
    reply = await http.post(PATHS[plan.route], request_body(plan, model, questions))
    if reply.status != 200:
        return reply
    try:
        return read_reply(plan, reply.body, len(questions), latency_ms=0)
    except MalformedReply as error:
        raise EngineFault(
            FailureKind.SERVER_ERROR, f"{http.address} sent an unusable reply: {error}."
        ) from None


def sample_questions(mode: AnswerMode) -> list[Question]:
    """Two harmless questions, one in each scale order, rendered as in a run."""
    book = PromptBook(language="en", answer_mode=mode)
    return [book.question(WorkItem(_PERSONA, _TRAIT, order)) for order in SCALE_ORDERS]


async def probe(
    http: EngineHttp,
    model: str,
    requested: AnswerMode,
    *,
    is_vllm: bool,
    temperature: float,
    max_new_tokens: int,
) -> Capabilities:
    """Find the best way of asking this server in the requested mode, or the next best mode.

    Raises:
        EngineFault: The server stopped answering.
        EngineRefusal: It answers no chat request at all.
    """
    prober = Prober(http, model, is_vllm, temperature, max_new_tokens)
    plan = await prober.find_plan(requested)
    return Capabilities(plan, prober.model_answered, tuple(prober.notes))


# -- the probe ------------------------------------------------------------------------------------

_PERSONA: Final = PersonaRecord(
    id=0, uuid="probe", attributes={"gender": "female", "occupation": "gardener"}, age=40
)
_TRAIT: Final = TraitRecord(
    id=0,
    case_id="probe",
    adjective={"en": "patient"},
    question={"en": "How {adjective} is this person?"},
    category="probe",
    valence=1,
)
_OFF_TOPIC: Final = Question(
    WorkItem(_PERSONA, _TRAIT, "in"),
    "You are a helpful assistant.",
    "Say hello and write one sentence about the weather.",
)
"""No model answers this with a digit or with JSON: a format that holds here is enforced."""


@dataclass(frozen=True, slots=True)
class _DigitTokens:
    """The tokens of "1".."5".

    Attributes:
        ids: In the order of the digits.
        ambiguous: The tokenizer puts a token of its own before a text. Such a tokenizer has other
            tokens that look like the digit, so replies must name tokens by their ids.
    """

    ids: tuple[int, ...]
    ambiguous: bool


class Prober:
    """One search for a way of asking; collects notes meanwhile."""

    def __init__(
        self, http: EngineHttp, model: str, is_vllm: bool, temperature: float, max_new_tokens: int
    ) -> None:
        self.http = http
        self.model = model
        self.is_vllm = is_vllm
        self.temperature = temperature
        self.max_new_tokens = max_new_tokens
        self.notes: list[str] = []
        self.model_answered: str | None = None
        self.routes: list[Route] = []
        self.separate_system = True

    async def find_plan(self, requested: AnswerMode) -> AskPlan:
        """The best plan for the requested mode; sets `notes` and `model_answered`."""
        await self._find_routes()
        match requested:
            case "distribution":
                return await self._distribution_plan()
            case "rating":
                return await self._rating_plan()
            case "rationale":
                return await self._rationale_plan()
            case "text":
                return self._text_plan("text")
            case _:
                assert_never(requested)

    async def _distribution_plan(self) -> AskPlan:
        plan = await self._find_distribution()
        if plan is not None:
            return plan
        self.notes.append(
            "This server does not report the probabilities of all five digits; ratings are "
            "asked for without a distribution."
        )
        return await self._rating_plan()

    async def _rating_plan(self) -> AskPlan:
        plan = await self.find_structured("rating")
        if plan is not None:
            return plan
        self.notes.append(
            "This server does not keep answers to a JSON format; ratings are read from free text."
        )
        return self._text_plan("text")

    async def _rationale_plan(self) -> AskPlan:
        plan = await self.find_structured("rationale")
        if plan is not None:
            return plan
        self.notes.append(
            "This server does not keep answers to a JSON format; rationale and rating are "
            "read from free text."
        )
        return self._text_plan("rationale")

    def _text_plan(self, mode: AnswerMode) -> AskPlan:
        return self._plan(mode, max_tokens=self.max_new_tokens)

    async def find_structured(self, mode: AnswerMode) -> AskPlan | None:
        """A plan for JSON answers whose format the server enforces."""
        for fields in structured_fields(mode, self.max_new_tokens):
            plan = replace(self._text_plan(mode).extended(**fields), enforced=True)
            found = await self._first_that_works(plan, [_OFF_TOPIC, _OFF_TOPIC])
            if found is not None:
                return found[0]
        return None

    def _plan(self, mode: AnswerMode, **fields: Any) -> AskPlan:
        return AskPlan(
            mode=mode,
            route=self.routes[0],
            fields={"temperature": self.temperature, **fields},
            separate_system=self.separate_system,
        )

    async def _find_routes(self) -> None:
        """Check that chat works at all, and whether with a system prompt and in batches."""
        plain = AskPlan(mode="text", route="single", fields={"max_tokens": 1})
        reply = await self._send(plain, [_OFF_TOPIC])
        if isinstance(reply, Reply):
            first = reply
            plain = replace(plain, separate_system=False)
            reply = await self._send(plain, [_OFF_TOPIC])
            if isinstance(reply, Reply):
                said = first.message()
                raise EngineRefusal(
                    f"answers {first.status} to a test question{f' ({said})' if said else ''}"
                )
            self.separate_system = False
            self.notes.append(
                "The model's chat template knows no system prompt; it is sent at the beginning of "
                "the question instead."
            )
        self.model_answered = reply.model
        batch = await self._send(replace(plain, route="batch"), [_OFF_TOPIC, _OFF_TOPIC])
        if isinstance(batch, Reply):
            self.routes = ["single"]
            self.notes.append(
                "This server takes no batches of chats; questions are sent one by one."
            )
        else:
            self.routes = ["batch", "single"]

    async def _find_distribution(self) -> AskPlan | None:
        one_token = {"max_tokens": 1, "logprobs": True}
        tokens = await self._digit_tokens()
        if tokens is not None:
            ids = list(tokens.ids)
            plan = replace(
                self._plan("distribution", **one_token, top_logprobs=0, logprob_token_ids=ids),
                logprobs_source="logprob_token_ids",
                digits={f"token_id:{number}": place for place, number in enumerate(ids)}
                | {digit: place for place, digit in enumerate(_DIGITS)},
            )
            if tokens.ambiguous:
                plan = plan.extended(return_tokens_as_token_ids=True)
            best = await self._first_that_works(plan, sample_questions("distribution"))
            if best is not None:
                return await self._settle(*best)
        plan = replace(
            self._plan(
                "distribution",
                **one_token,
                top_logprobs=5,
                structured_outputs={"choice": list(_DIGITS)},
            ),
            logprobs_source="choice",
        )
        best = await self._first_that_works(plan, [_OFF_TOPIC, _OFF_TOPIC])
        if best is None:
            return None
        self.notes.append(
            "This server does not report log-probabilities of chosen tokens. The digits are "
            "enforced instead: the distribution is the same, but how often the model would have "
            "answered validly is not known."
        )
        return best[0]

    async def _settle(self, plan: AskPlan, mass: float) -> AskPlan:
        """Switch thinking off if that helps the digits; add notes on mass and temperature."""
        if mass < _LOW_MASS and self.is_vllm and "chat_template_kwargs" not in plan.fields:
            quiet = plan.extended(chat_template_kwargs={"enable_thinking": False})
            other = await self._works(quiet, sample_questions("distribution"))
            if other is not None and other > mass * 1.5:
                plan, mass = quiet, other
                self.notes.append("The model's thinking was switched off: ratings come at once.")
        if mass < _VERY_LOW_MASS:
            self.notes.append(
                f"In a test question the model gave the digits 1 to 5 only {mass:.1%} of its "
                "probability; its distributions say little about what it would answer freely."
            )
        if self.temperature not in (0.0, 1.0):
            await self._note_temperature(plan)
        return plan

    async def _note_temperature(self, plan: AskPlan) -> None:
        as_requested = await self._send(plan, sample_questions("distribution"))
        at_one = await self._send(plan.extended(temperature=1.0), sample_questions("distribution"))
        if isinstance(as_requested, Reply) or isinstance(at_one, Reply):
            return
        moves = [
            abs(p - q)
            for first, second in zip(as_requested.outcomes, at_one.outcomes, strict=True)
            if isinstance(first, Answer) and isinstance(second, Answer)
            for p, q in zip(first.probabilities or (), second.probabilities or (), strict=True)
        ]
        self.notes.append(
            f"This server's probabilities follow the temperature of {self.temperature:g}."
            if max(moves, default=0.0) > _MOVED
            else "This server's probabilities are those before temperature, which has no effect."
        )

    async def _digit_tokens(self) -> _DigitTokens | None:
        """The tokens of the five digits, if each is one token."""
        found: list[list[int]] = []
        for digit in _DIGITS:
            reply = await self.http.post(
                "/tokenize",
                orjson.dumps({"model": self.model, "prompt": digit, "add_special_tokens": False}),
            )
            value = reply.json() if reply.status == 200 else None
            tokens = value.get("tokens") if isinstance(value, dict) else None
            if not isinstance(tokens, list) or not all(isinstance(t, int) for t in tokens):
                return None
            found.append(tokens)
        if len({tuple(tokens[:-1]) for tokens in found}) != 1:
            return None
        last = tuple(tokens[-1] for tokens in found if tokens)
        if len(set(last)) != len(_DIGITS):
            return None
        return _DigitTokens(last, ambiguous=len(found[0]) > 1)

    async def _first_that_works(
        self, plan: AskPlan, questions: Sequence[Question]
    ) -> tuple[AskPlan, float] | None:
        """The plan on the first route where it works, with thinking off if necessary."""
        for route in self.routes:
            variants = [replace(plan, route=route)]
            if self.is_vllm:
                variants.append(
                    variants[0].extended(chat_template_kwargs={"enable_thinking": False})
                )
            for variant in variants:
                mass = await self._works(variant, questions)
                if mass is not None:
                    if "chat_template_kwargs" in variant.fields:
                        self.notes.append(
                            "The model's thinking was switched off: ratings come at once."
                        )
                    return variant, mass
        return None

    async def _works(self, plan: AskPlan, questions: Sequence[Question]) -> float | None:
        """The lowest valid mass if the plan gets valid answers to all questions, else None."""
        asked = questions if plan.route == "batch" else questions[:1]
        reply = await self._send(plan, asked)
        if isinstance(reply, Reply):
            return None
        masses = [
            1.0 if outcome.valid_mass is None else outcome.valid_mass
            for outcome in reply.outcomes
            if isinstance(outcome, Answer)
        ]
        if len(masses) < len(asked) or min(masses) <= 0.0:
            return None
        return min(masses)

    async def _send(self, plan: AskPlan, questions: Sequence[Question]) -> ChatReply | Reply:
        """Ask, waiting a little while the server is busy; a refusal is returned as it is."""
        attempt = 0
        while True:
            try:
                reply = await ask_once(self.http, plan, self.model, questions)
            except EngineFault as fault:
                if fault.kind is not FailureKind.SERVER_ERROR:
                    raise
                return Reply(502, orjson.dumps({"detail": str(fault)}))
            if not isinstance(reply, Reply) or reply.status not in (429, 503):
                return reply
            attempt += 1
            if attempt == _PATIENCE:
                raise fault_of(self.http.address, reply)
            wait = _BUSY_BACKOFF.seconds(attempt, reply.retry_after_seconds)
            await asyncio.sleep(min(wait, _BUSY_BACKOFF.longest_seconds))
