"""The addresses of a client: how busy each is, how it has done, when it may be asked again."""

import asyncio
import math
from collections.abc import Sequence
from typing import Final

from benchlib.domain.asking.engine_reports import AddressState
from benchlib.domain.errors import EngineFault
from benchlib.domain.vocabulary import FailureKind
from benchlib.infrastructure.engines.backoff import Backoff
from benchlib.infrastructure.engines.chat_protocol import ChatReply
from benchlib.infrastructure.engines.concurrency import ConcurrencyLimiter
from benchlib.infrastructure.engines.http import EngineHttp

ENDPOINT_BACKOFF: Final = Backoff(1.0, 60.0)
"""How long an address that failed is left alone."""

_MEMORY_OF_SPEED: Final = 0.8


class Endpoint:
    """One address with what is known of it. Used inside one event loop.

    Attributes:
        limiter: How much is sent to it at a time.
        revision: Of the model it serves, once known.
        failures_in_a_row: Back-offs without an answer in between.
        backoff_until: It is not asked before; on the loop's clock.
        fingerprints: Of its replies so far.
        needs_check: To be checked before it is asked again.
        unverified: It has not answered the test question yet.
        next_queue_check: When to look at its queue again, on the loop's clock.
    """

    def __init__(
        self, http: EngineHttp, revision: str | None = None, backoff: Backoff = ENDPOINT_BACKOFF
    ) -> None:
        self.http = http
        self.backoff = backoff
        self.limiter = ConcurrencyLimiter(1, 1)
        self.revision = revision
        self.requests_in_flight = 0
        self.items_in_flight = 0
        self.items_answered = 0
        self.faults = 0
        self.failures_in_a_row = 0
        self.backoff_until = -math.inf
        self.seconds_per_request: float | None = None
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.last_problem: str | None = None
        self.fingerprints: set[str | None] = set()
        self.needs_check = False
        self.unverified = False
        self.next_queue_check = -math.inf
        # While one request checks the address, all others to it wait.
        self.check_lock = asyncio.Lock()

    def succeeded(self, reply: ChatReply, n_items: int, seconds: float) -> None:
        """Note an answered request."""
        self.failures_in_a_row = 0
        self.last_problem = None
        self.backoff_until = -math.inf
        self.items_answered += n_items
        self.prompt_tokens += reply.prompt_tokens
        self.completion_tokens += reply.completion_tokens
        old = seconds if self.seconds_per_request is None else self.seconds_per_request
        self.seconds_per_request = _MEMORY_OF_SPEED * old + (1 - _MEMORY_OF_SPEED) * seconds

    def failed(self, fault: EngineFault, now: float) -> None:
        """Note a fault, and back off."""
        self.faults += 1
        self.last_problem = str(fault)
        if fault.kind in (FailureKind.OVERLOADED, FailureKind.TIMEOUT):
            self.limiter.overloaded(now)
        else:
            self.limiter.connection_lost()
        if fault.kind is not FailureKind.OVERLOADED:
            self.needs_check = True
        if now < self.backoff_until:
            return  # several requests were in flight: one loss, one back-off
        self.failures_in_a_row += 1
        self.backoff_until = now + self.backoff.seconds(
            self.failures_in_a_row, fault.retry_after_seconds
        )

    def state(self, now: float) -> AddressState:
        """What the endpoint is like now."""
        return AddressState(
            address=self.http.address,
            usable=self.backoff_until <= now,
            requests_in_flight=self.requests_in_flight,
            items_in_flight=self.items_in_flight,
            items_answered=self.items_answered,
            faults=self.faults,
            backoff_seconds=max(0.0, self.backoff_until - now),
            seconds_per_request=self.seconds_per_request,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            last_problem=self.last_problem,
        )


def absent_endpoint(http: EngineHttp, problem: str, now: float, backoff: Backoff) -> Endpoint:
    """The endpoint of an address that did not answer yet; it is checked before it is used."""
    endpoint = Endpoint(http, backoff=backoff)
    endpoint.needs_check = endpoint.unverified = True
    endpoint.last_problem = problem
    endpoint.failures_in_a_row = 1
    endpoint.backoff_until = now + backoff.seconds(1)
    return endpoint


def pick_endpoint(endpoints: Sequence[Endpoint], tried: set[int], now: float) -> int | None:
    """Choose the usable endpoint with most room.

    If all are backing off and none was tried, it is the one whose back-off ends first.
    """
    left = [
        (
            endpoint.backoff_until > now,
            endpoint.requests_in_flight / endpoint.limiter.concurrency,
            endpoint.seconds_per_request or 0.0,
            index,
        )
        for index, endpoint in enumerate(endpoints)
        if index not in tried
    ]
    if not left:
        return None
    backing_off, _, _, index = min(left)
    if not backing_off:
        return index
    if tried:
        return None
    return min(range(len(endpoints)), key=lambda index: endpoints[index].backoff_until)
