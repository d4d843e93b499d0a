"""The addresses of a client: how busy each is, how it did, when it may be asked again."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from benchlib.domain.errors import EngineFault
from benchlib.domain.vocabulary import FailureKind
from benchlib.infrastructure.engines.chat_protocol import ChatReply
from benchlib.infrastructure.engines.concurrency import Pace
from benchlib.infrastructure.engines.http import EngineHttp

_FIRST_REST_SECONDS: Final = 1.0
_LONGEST_REST_SECONDS: Final = 60.0
_MEMORY_OF_SPEED: Final = 0.8


@dataclass(frozen=True, slots=True)
class AddressState:
    """How one address does, for display.

    Attributes:
        address: Base URL.
        usable: Not resting after a fault.
        requests_in_flight: Sent and not answered.
        items_in_flight: Questions in them.
        items_answered: Since the client was made.
        faults: Since the client was made.
        rests_seconds: Until it is asked again; 0 if usable.
        seconds_per_request: Running mean; None before the first answer.
        prompt_tokens: As the server counted since the client was made.
        completion_tokens: As the server counted since the client was made.
        last_problem: The latest fault, if the address has not answered since.
    """

    address: str
    usable: bool
    requests_in_flight: int
    items_in_flight: int
    items_answered: int
    faults: int
    rests_seconds: float
    seconds_per_request: float | None
    prompt_tokens: int
    completion_tokens: int
    last_problem: str | None


class Slot:
    """One address with what is known of it. Used inside one event loop.

    Attributes:
        pace: How much it is given.
        revision: Of the model it serves, once known.
        row: Rests without an answer in between.
        rests_until: On the loop's clock.
        fingerprints: Of its replies so far.
        suspect: To be checked before it is asked again.
        unproven: It has not answered the test question yet.
        look_at: When to look at its queue again, on the loop's clock.
    """

    def __init__(self, http: EngineHttp, revision: str | None = None) -> None:
        self.http = http
        self.pace = Pace(1, 1)
        self.revision = revision
        self.requests = 0
        self.items = 0
        self.answered = 0
        self.faults = 0
        self.row = 0
        self.rests_until = -math.inf
        self.seconds: float | None = None
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.problem: str | None = None
        self.fingerprints: set[str | None] = set()
        self.suspect = False
        self.unproven = False
        self.look_at = -math.inf
        # Whoever finds the address suspect checks it; nobody asks it before that is done.
        self.checking = asyncio.Lock()

    def succeeded(self, reply: ChatReply, n_items: int, seconds: float) -> None:
        """Note an answered request."""
        self.row = 0
        self.problem = None
        self.rests_until = -math.inf
        self.answered += n_items
        self.prompt_tokens += reply.prompt_tokens
        self.completion_tokens += reply.completion_tokens
        old = seconds if self.seconds is None else self.seconds
        self.seconds = _MEMORY_OF_SPEED * old + (1 - _MEMORY_OF_SPEED) * seconds

    def failed(self, fault: EngineFault, now: float) -> None:
        """Note a fault, and rest."""
        self.faults += 1
        self.problem = str(fault)
        if fault.kind in (FailureKind.OVERLOADED, FailureKind.TIMEOUT):
            self.pace.refused(now)
        else:
            self.pace.lost()
        if fault.kind is not FailureKind.OVERLOADED:
            self.suspect = True
        if now < self.rests_until:
            return  # several requests were in flight: one loss, one rest
        rest = min(_FIRST_REST_SECONDS * 2**self.row, _LONGEST_REST_SECONDS)
        self.row = min(self.row + 1, 16)
        if fault.retry_after_seconds is not None:
            rest = fault.retry_after_seconds
        self.rests_until = now + rest

    def state(self, now: float) -> AddressState:
        """What the slot is like now."""
        return AddressState(
            address=self.http.address,
            usable=self.rests_until <= now,
            requests_in_flight=self.requests,
            items_in_flight=self.items,
            items_answered=self.answered,
            faults=self.faults,
            rests_seconds=max(0.0, self.rests_until - now),
            seconds_per_request=self.seconds,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            last_problem=self.problem,
        )


def absent_slot(http: EngineHttp, problem: str, now: float) -> Slot:
    """The slot of an address that did not answer yet; it is checked before it is used."""
    slot = Slot(http)
    slot.suspect = slot.unproven = True
    slot.problem = problem
    slot.row = 1
    slot.rests_until = now + _FIRST_REST_SECONDS
    return slot


def pick_slot(slots: Sequence[Slot], tried: set[int], now: float) -> int | None:
    """The usable slot with most room; if all rest and none was tried, the first to wake."""
    left = [
        (slot.rests_until > now, slot.requests / slot.pace.requests, slot.seconds or 0.0, index)
        for index, slot in enumerate(slots)
        if index not in tried
    ]
    if not left:
        return None
    resting, _, _, index = min(left)
    if not resting:
        return index
    if tried:
        return None
    return min(range(len(slots)), key=lambda index: slots[index].rests_until)
