"""A model client without a model: answers from the planted rater, whose bias is known."""

import asyncio
import json
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, assert_never

from benchlib.domain.asking.answer_modes import ANSWER_MODES
from benchlib.domain.asking.engine_reports import AddressState
from benchlib.domain.errors import EngineFault, InvalidInput
from benchlib.domain.records import Answer, AnswerFailure, EngineReport, Question, TraitRecord
from benchlib.domain.simulation.presets import PRESETS
from benchlib.domain.simulation.response_model import (
    PlantedAnswers,
    PlantedModel,
    PlantedPersona,
    PlantedTrait,
)
from benchlib.domain.vocabulary import N_POINTS, AnswerMode, FailureKind, SimulatedPreset

SIMULATED_MODEL_NAME: Final = "simulated-rater"

_BATCH_ITEMS: Final = 256
_REQUESTS_IN_FLIGHT: Final = 2
_LOST_MASS: Final = 0.03
"""Probability outside the digits for an answer of no certainty; 0 for a certain one."""

_NOTE: Final = (
    "Simulated: the answers are drawn from a model with planted effects and say nothing about any "
    "language model."
)
_RATIONALE: Final = "Simulated answer without a reason: it is drawn from a planted model."
_REFUSAL: Final = "Simulated refusal: I would rather not rate this person."


class SimulatedClient:
    """Rates with planted effects; a ModelClient for demonstrations, tests and benchmarks.

    An answer depends on the seed, the persona's uuid and attributes, the trait and the scale order
    only, so a resumed or repeated run gets the same ones. Used within one event loop.

    Args:
        seed: Of personas, answers and faults.
        items_per_second: Limit of the rate over all calls together; None answers at once.
        fault_rate: Share of attempts, 0..1, that come back as `unusable`; which ones depends on the
            item and its attempt only.
        transport_fault_rate: Share of requests, 0..1, that raise EngineFault; which ones depends on
            their number within this client only.
        answer_mode: What answers look like: `distribution` gives the exact probabilities and the
            most likely digit, the others a drawn digit.
        preset: Which rater is simulated; refusals depend on the question, not on the attempt.
        model: The planted effects; its seed is replaced. None takes those of the preset.

    Raises:
        InvalidInput: A rate is out of range.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        items_per_second: float | None = None,
        fault_rate: float = 0.0,
        transport_fault_rate: float = 0.0,
        answer_mode: AnswerMode = "distribution",
        preset: SimulatedPreset = "usual",
        model: PlantedModel | None = None,
    ) -> None:
        if not (0 <= fault_rate <= 1 and 0 <= transport_fault_rate <= 1):
            raise InvalidInput("A fault rate of the simulated rater is outside 0..1; correct it.")
        if items_per_second is not None and not items_per_second > 0:
            raise InvalidInput(
                "The simulated rater needs more than 0 items per second; raise it or leave it out."
            )
        self.report = EngineReport(
            kind="simulated",
            addresses=(),
            model_name=SIMULATED_MODEL_NAME,
            model_revision=None,
            engine_version=None,
            answer_mode=answer_mode,
            answer_mode_used=answer_mode,
            route="batch",
            logprobs_source="simulated" if answer_mode == "distribution" else None,
            notes=(_NOTE,) if preset == "usual" else (_NOTE, f"{PRESETS[preset].label}."),
        )
        self._preset = PRESETS[preset]
        self._model = (model or self._preset.model).with_seed(seed)
        self._seed = seed
        self._items_per_second = items_per_second
        self._fault_rate = fault_rate
        self._transport_fault_rate = transport_fault_rate
        self._answer_mode = answer_mode
        self._traits: dict[tuple[str, str, int], PlantedTrait] = {}
        self._n_requests = 0
        self._free_at = 0.0
        self._closed = asyncio.Event()

    @property
    def max_batch_size(self) -> int:
        """Limit of questions in a request: what takes a second, so that progress shows."""
        if self._items_per_second is None:
            return _BATCH_ITEMS
        return max(1, min(_BATCH_ITEMS, round(self._items_per_second)))

    @property
    def batch_size(self) -> int:
        """Best number of questions for the next request."""
        return self.max_batch_size

    @property
    def concurrency(self) -> int:
        """Requests in flight that keep the rater busy."""
        return _REQUESTS_IN_FLIGHT

    @property
    def addresses(self) -> tuple[AddressState, ...]:
        """None: nothing is sent anywhere."""
        return ()

    async def ask(self, questions: Sequence[Question]) -> list[Answer | AnswerFailure]:
        """Rate all questions; how they are batched does not matter.

        Returns:
            One outcome per question, in the same order.

        Raises:
            EngineFault: The client is closed, or this request is one of the planted faults.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._n_requests += 1
        number = str(self._n_requests)
        await self._wait_for_turn(len(questions))
        if self._share("transport", number) < self._transport_fault_rate:
            raise EngineFault(FailureKind.OVERLOADED, "Simulated fault: the rater is overloaded.")
        latency_ms = round((loop.time() - began) * 1000)
        answers = self._rate(questions, latency_ms)
        if not self._fault_rate and not self._preset.refusal_share:
            return answers
        return [
            AnswerFailure(FailureKind.UNUSABLE, "The answer holds no rating.", _REFUSAL)
            if self._fails(question)
            else answer
            for question, answer in zip(questions, answers, strict=True)
        ]

    async def close(self) -> None:
        """End in-flight calls with EngineFault and refuse new ones."""
        self._closed.set()

    async def _wait_for_turn(self, n_items: int) -> None:
        """Keep to the rate: each call takes its stretch of one common timeline."""
        if self._items_per_second is None:
            await asyncio.sleep(0)
        else:
            now = asyncio.get_running_loop().time()
            self._free_at = max(now, self._free_at) + n_items / self._items_per_second
            try:
                await asyncio.wait_for(self._closed.wait(), self._free_at - now)
            except TimeoutError:
                return
        if self._closed.is_set():
            raise EngineFault(FailureKind.UNREACHABLE, "The simulated rater is closed.")

    def _rate(self, questions: Sequence[Question], latency_ms: int) -> list[Answer | AnswerFailure]:
        # Object ids identify objects only while `questions` keeps them alive.
        persona_at: dict[int, int] = {}
        trait_at: dict[int, int] = {}
        personas: list[PlantedPersona] = []
        traits: list[PlantedTrait] = []
        who, what, in_reverse = [], [], []
        for question in questions:
            persona, trait, order = question.item
            if id(persona) not in persona_at:
                persona_at[id(persona)] = len(personas)
                personas.append(self._model.persona(persona.uuid, persona.attributes))
            if id(trait) not in trait_at:
                trait_at[id(trait)] = len(traits)
                traits.append(self._trait(trait))
            who.append(persona_at[id(persona)])
            what.append(trait_at[id(trait)])
            in_reverse.append(order == "rev")
        planted = self._model.rate(personas, traits, who, what, in_reverse)
        digits = range(1, N_POINTS + 1)
        match self._answer_mode:
            case "distribution":
                return _distributions(planted, latency_ms)
            case "rating" | "rationale":
                texts = [_json_text(digit, self._answer_mode) for digit in digits]
            case "text":
                texts = [str(digit) for digit in digits]
            case _:
                assert_never(self._answer_mode)
        return [
            Answer(digit, None, None, texts[digit - 1], latency_ms)
            for digit in planted.rating_raw.tolist()
        ]

    def _trait(self, trait: TraitRecord) -> PlantedTrait:
        key = (trait.case_id, trait.category, trait.valence)
        if key not in self._traits:
            self._traits[key] = self._model.trait(*key)
        return self._traits[key]

    def _fails(self, question: Question) -> bool:
        persona, trait, order = question.item
        share = self._share(persona.uuid, trait.case_id, order, str(question.attempt))
        if share < self._fault_rate:
            return True
        refused = self._preset.refusal_chance(persona.attributes)
        return refused > 0 and self._share(persona.uuid, trait.case_id, order, "refusal") < refused

    def _share(self, *names: str) -> float:
        """A number in [0, 1) fixed by the seed and the names."""
        text = "\x1f".join((str(self._seed), *names))
        return int.from_bytes(blake2b(text.encode(), digest_size=7).digest()) / 2**56


def _distributions(planted: PlantedAnswers, latency_ms: int) -> list[Answer | AnswerFailure]:
    most_likely = planted.probabilities.argmax(axis=1) + 1
    certainty = planted.probabilities.max(axis=1, initial=0.0)
    mass = 1 - _LOST_MASS * (1 - certainty)
    return [
        Answer(digit, tuple(shares), valid_mass, str(digit), latency_ms)
        for digit, shares, valid_mass in zip(
            most_likely.tolist(), planted.probabilities.tolist(), mass.tolist(), strict=True
        )
    ]


def _json_text(digit: int, answer_mode: AnswerMode) -> str:
    values = {"rationale": _RATIONALE, "rating": digit}
    return json.dumps({name: values[name] for name in ANSWER_MODES[answer_mode].json_fields})
