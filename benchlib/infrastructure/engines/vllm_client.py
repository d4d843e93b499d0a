"""Asking vLLM, or any OpenAI-compatible server, at one address or at several.

A call goes to the address with the least work in flight. What fails there is tried at the others
before the caller sees a fault. An address that failed is left alone for a growing time, and must
show that it still serves the same model before it is asked again.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Final, Self

import aiohttp

from benchlib.domain.asking.engine_reports import AddressState
from benchlib.domain.errors import EngineChanged, EngineFault
from benchlib.domain.records import Answer, AnswerFailure, Question
from benchlib.domain.vocabulary import AnswerMode, FailureKind
from benchlib.infrastructure.engines.allowed_hosts import normalise_address
from benchlib.infrastructure.engines.backoff import Backoff
from benchlib.infrastructure.engines.chat_protocol import (
    PATHS,
    REFUSED,
    ChatReply,
    MalformedReply,
    read_reply,
    request_body,
)
from benchlib.infrastructure.engines.concurrency import FIRST_REQUESTS, ConcurrencyLimiter
from benchlib.infrastructure.engines.endpoints import (
    ENDPOINT_BACKOFF,
    Endpoint,
    pick_endpoint,
)
from benchlib.infrastructure.engines.handshake import Handshake, handshake
from benchlib.infrastructure.engines.http import (
    EngineHttp,
    Reply,
    open_session,
)
from benchlib.infrastructure.engines.identity import EngineRefusal, fault_of, identify
from benchlib.infrastructure.engines.probe import ask_once, sample_questions
from benchlib.infrastructure.engines.server_metrics import parse_metrics

BATCH_ITEMS: Final = 64
"""Best number of conversations in a batch request, as measured on vLLM."""

_SINGLE_ITEMS: Final = 16
QUEUE_CHECK_SECONDS: Final = 5.0
"""Time between checks of an engine's queue."""

Outcome = Answer | AnswerFailure


class VllmClient:
    """A `ModelClient` for servers that speak OpenAI's chat protocol; made by `connect`."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        agreed: Handshake,
        *,
        has_key: bool,
        max_concurrency: int,
        queue_check_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self.report = agreed.report
        self.plan: Final = agreed.plan
        self._session: Final = session
        self._endpoints: Final = agreed.endpoints
        self._model_answered: Final = agreed.model_answered
        self._has_key: Final = has_key
        self._queue_check_seconds: Final = queue_check_seconds
        self._clock: Final = clock
        for endpoint in self._endpoints:
            endpoint.limiter = ConcurrencyLimiter(max_concurrency, self.max_batch_size)
            endpoint.next_queue_check = self._clock() + queue_check_seconds

    @classmethod
    async def connect(
        cls,
        addresses: Sequence[str],
        api_key: str | None,
        model_name: str | None,
        answer_mode: AnswerMode,
        *,
        temperature: float = 0.0,
        max_new_tokens: int = 256,
        timeout_seconds: float = 120.0,
        max_concurrency: int = 32,
        backoff: Backoff = ENDPOINT_BACKOFF,
        queue_check_seconds: float = QUEUE_CHECK_SECONDS,
        clock: Callable[[], float] | None = None,
    ) -> Self:
        """Check address, key and model, and find out how to ask.

        Args:
            addresses: Base URLs, with or without `/v1`.
            api_key: For all of them; None if they need none.
            model_name: To be asked; None takes the first one served.
            answer_mode: As requested; the report says which one is used.
            temperature: Of the sampling.
            max_new_tokens: Limit of an answer in text; a distribution takes one token.
            timeout_seconds: Of one request.
            max_concurrency: Limit of requests in flight at each address; the number adapts below.
            backoff: How long an address that failed is left alone.
            queue_check_seconds: Time between checks of the queue of a vLLM server.
            clock: Monotonic seconds; None takes the event loop's.

        Raises:
            EngineNotReachable: No address can serve; the message has a line for each.
            InvalidInput: An address or the key is malformed.
        """
        clock = clock or asyncio.get_running_loop().time
        unique = list(dict.fromkeys(normalise_address(address) for address in addresses))
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(open_session(api_key))
            agreed = await handshake(
                [EngineHttp(session, address, timeout_seconds) for address in unique],
                model_name,
                answer_mode,
                temperature=temperature,
                max_new_tokens=max_new_tokens,
                has_key=bool(api_key),
                backoff=backoff,
                clock=clock,
            )
            stack.pop_all()  # from here on the client closes the session
            return cls(
                session,
                agreed,
                has_key=bool(api_key),
                max_concurrency=max_concurrency,
                queue_check_seconds=queue_check_seconds,
                clock=clock,
            )

    def __repr__(self) -> str:
        return f"VllmClient({self.report.model_name} at {', '.join(self.report.addresses)})"

    @property
    def max_batch_size(self) -> int:
        """Limit of questions in a call."""
        return BATCH_ITEMS if self.plan.route == "batch" else _SINGLE_ITEMS

    @property
    def batch_size(self) -> int:
        """Best number of questions for the next call, at the address it will go to."""
        index = pick_endpoint(self._endpoints, set(), self._clock())
        return self.max_batch_size if index is None else self._endpoints[index].limiter.batch_size

    @property
    def concurrency(self) -> int:
        """Calls in flight that keep the usable addresses busy, as known now."""
        now = self._clock()
        usable = [
            endpoint.limiter.concurrency
            for endpoint in self._endpoints
            if endpoint.backoff_until <= now
        ]
        return sum(usable) or FIRST_REQUESTS

    @property
    def addresses(self) -> tuple[AddressState, ...]:
        """The state of each address, in the order given; `ask_at` takes its index here."""
        now = self._clock()
        return tuple(endpoint.state(now) for endpoint in self._endpoints)

    async def ask(self, questions: Sequence[Question]) -> list[Outcome]:
        """Ask all questions in one go, at whichever address answers.

        Returns:
            One outcome per question, in the same order.

        Raises:
            EngineFault: No address answered; nothing is known about any question.
            EngineChanged: A server now serves something else.
        """
        if not questions:
            return []
        faults: list[EngineFault] = []
        tried: set[int] = set()
        while (index := pick_endpoint(self._endpoints, tried, self._clock())) is not None:
            tried.add(index)
            try:
                return await self.ask_at(index, questions)
            except EngineFault as fault:
                faults.append(fault)
        if len(faults) == 1:
            raise faults[0]
        waits = [f.retry_after_seconds for f in faults if f.retry_after_seconds is not None]
        raise EngineFault(
            faults[0].kind,
            " ".join(dict.fromkeys(str(fault) for fault in faults)),
            min(waits) if len(waits) == len(faults) else None,
        )

    async def ask_at(self, index: int, questions: Sequence[Question]) -> list[Outcome]:
        """Ask all questions at one address, given by its place in `addresses`.

        Raises:
            EngineFault: This address did not answer.
            EngineChanged: It now serves something else.
        """
        endpoint = self._endpoints[index]
        endpoint.requests_in_flight += 1
        endpoint.items_in_flight += len(questions)
        began = self._clock()
        try:
            if endpoint.needs_check:
                await self._check(endpoint)
            await self._check_queue(endpoint)
            if self.plan.route == "batch":
                outcomes = await self._ask_group(endpoint, questions)
            else:
                outcomes = await self._ask_each(endpoint, questions)
            now = self._clock()
            endpoint.limiter.answered(len(questions), now - began, endpoint.requests_in_flight, now)
        except EngineFault as fault:
            endpoint.failed(fault, self._clock())
            raise
        finally:
            endpoint.requests_in_flight -= 1
            endpoint.items_in_flight -= len(questions)
        return outcomes

    async def close(self) -> None:
        """Close all connections; calls in flight end with EngineFault."""
        await self._session.close()

    # -- one address ------------------------------------------------------------------------------

    async def _check_queue(self, endpoint: Endpoint) -> None:
        """From time to time, check whether requests wait there; a fault here does not matter."""
        if self._clock() < endpoint.next_queue_check or self.report.kind != "vllm":
            return
        endpoint.next_queue_check = self._clock() + self._queue_check_seconds
        try:
            reply = await endpoint.http.get("/metrics")
        except EngineFault:
            return
        metrics = parse_metrics(reply.body.decode(errors="replace") if reply.status == 200 else "")
        if metrics.requests_running is not None and metrics.requests_waiting is not None:
            endpoint.limiter.queue_seen(metrics.requests_running, metrics.requests_waiting)

    async def _ask_each(self, endpoint: Endpoint, questions: Sequence[Question]) -> list[Outcome]:
        """Send one request per question; the first fault ends them all."""
        tasks = [asyncio.ensure_future(self._ask_group(endpoint, [q])) for q in questions]
        try:
            return [outcome for group in await asyncio.gather(*tasks) for outcome in group]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask_group(self, endpoint: Endpoint, questions: Sequence[Question]) -> list[Outcome]:
        """Send one request; if it is refused, halve it until the bad question stands alone."""
        outcomes: list[Outcome | None] = [None] * len(questions)
        work = [(0, len(questions))]
        suspects: list[int] = []
        while work:
            start, end = work.pop()
            answered = await self._send(endpoint, questions[start:end])
            if not isinstance(answered, Reply):
                outcomes[start:end] = answered
            elif end - start > 1:
                if answered.status == 500 and not suspects and end - start == len(questions):
                    await self._ask_sample(endpoint, answered)
                middle = (start + end) // 2
                work += [(middle, end), (start, middle)]
            elif answered.status == 500:
                suspects.append(start)
            else:
                outcomes[start] = _rejected(answered)
        for place in suspects:
            outcomes[place] = await self._ask_suspect(endpoint, questions[place])
        whole = [outcome for outcome in outcomes if outcome is not None]
        if not any(isinstance(outcome, Answer) for outcome in whole):
            await self._verify_if_all_failed(endpoint, whole)
        return whole

    async def _send(
        self, endpoint: Endpoint, questions: Sequence[Question]
    ) -> list[Outcome] | Reply:
        """Send one request; only a refusal or status 500 is returned as a reply."""
        began = self._clock()
        reply = await endpoint.http.post(
            PATHS[self.plan.route], request_body(self.plan, self.report.model_name, questions)
        )
        seconds = self._clock() - began
        if reply.status != 200:
            if reply.status in REFUSED or reply.status == 500:
                return reply
            raise await self._fault(endpoint, reply)
        try:
            read = read_reply(self.plan, reply.body, len(questions), round(seconds * 1000))
        except MalformedReply as error:
            raise EngineFault(
                FailureKind.SERVER_ERROR,
                f"{endpoint.http.address} sent an unusable reply: {error}.",
            ) from None
        if read.model != self._model_answered:
            raise EngineChanged(
                f"{endpoint.http.address} now answers as {read.model!r}, not as "
                f"{self._model_answered!r} as before; start a new run for it."
            )
        if read.fingerprint not in endpoint.fingerprints:
            if endpoint.fingerprints:
                endpoint.needs_check = True
                await self._check(endpoint)
            endpoint.fingerprints.add(read.fingerprint)
        endpoint.succeeded(read, len(questions), seconds)
        return read.outcomes

    async def _fault(self, endpoint: Endpoint, reply: Reply) -> EngineFault:
        """The fault behind a reply that no question is to blame for.

        Raises:
            EngineChanged: The key or the model is no longer accepted.
        """
        if reply.status in (401, 403):
            raise EngineChanged(
                f"{endpoint.http.address} no longer accepts the API key ({reply.status}); "
                "correct it, then resume the run."
            )
        if reply.status == 404:
            await self._identify(endpoint)
        return fault_of(endpoint.http.address, reply)

    async def _check(self, endpoint: Endpoint) -> None:
        """Check that an address still serves the model the run began with.

        Raises:
            EngineFault: It does not answer, or it is new to the run and serves something else.
            EngineChanged: It serves something else now.
        """
        async with endpoint.check_lock:
            if not endpoint.needs_check:
                return
            try:
                endpoint.revision = await self._identify(endpoint)
                if endpoint.unverified:
                    await self._verify(endpoint)
            except EngineChanged as change:
                if endpoint.unverified:
                    raise EngineFault(FailureKind.SERVER_ERROR, str(change)) from None
                raise
            endpoint.needs_check = endpoint.unverified = False

    async def _identify(self, endpoint: Endpoint) -> str | None:
        """The revision an address serves; raises EngineChanged if it is not the known one."""
        address, name = endpoint.http.address, self.report.model_name
        try:
            identity = await identify(endpoint.http, has_key=self._has_key)
        except EngineRefusal as refusal:
            raise EngineChanged(f"{address} {refusal}, then resume the run.") from None
        served = identity.find(name)
        if served is None and identity.models:
            others = ", ".join(model.name for model in identity.models[:10])
            raise EngineChanged(
                f"{address} no longer serves {name!r} but {others}; "
                "start the old model again and resume, or start a new run."
            )
        revision = served.revision if served else None
        if endpoint.revision is not None and revision != endpoint.revision:
            raise EngineChanged(
                f"{address} now serves {name!r} from {revision}, not from {endpoint.revision}; "
                "start the old model again and resume, or start a new run."
            )
        return revision

    async def _ask_sample(self, endpoint: Endpoint, reply: Reply) -> None:
        """Tell a failing server from a bad question: ask what was answered before the run.

        Raises:
            EngineFault: The server fails.
        """
        sample = sample_questions(self.plan.mode)[:1]
        if isinstance(
            await ask_once(endpoint.http, self.plan, self.report.model_name, sample), ChatReply
        ):
            return
        raise fault_of(endpoint.http.address, reply)

    async def _ask_suspect(self, endpoint: Endpoint, question: Question) -> Outcome:
        """Ask a question that met status 500 once more; if it fails again, it is at fault."""
        again = await self._send(endpoint, [question])
        if not isinstance(again, Reply):
            return again[0]
        await self._ask_sample(endpoint, again)
        return _rejected(again)

    async def _verify_if_all_failed(self, endpoint: Endpoint, outcomes: Sequence[Outcome]) -> None:
        """If nothing was answered, check that the server still does what it did before the run.

        Raises:
            EngineFault: It does not answer.
            EngineChanged: It refuses what it accepted before.
        """
        rejected = any(
            isinstance(outcome, AnswerFailure) and outcome.kind is FailureKind.REJECTED
            for outcome in outcomes
        )
        if not rejected and self.plan.logprobs_source is None:
            return  # weak models give unusable text; that is no sign of a change
        await self._verify(endpoint)

    async def _verify(self, endpoint: Endpoint) -> None:
        """Ask the test question the way this run asks.

        Raises:
            EngineFault: It is not answered.
            EngineChanged: It is refused, or the answer lacks what the run needs.
        """
        sample = sample_questions(self.plan.mode)[:1]
        reply = await ask_once(endpoint.http, self.plan, self.report.model_name, sample)
        if isinstance(reply, Reply):
            if reply.status not in REFUSED:
                raise await self._fault(endpoint, reply)
            said = reply.message()
        elif self.plan.logprobs_source is None or isinstance(reply.outcomes[0], Answer):
            return
        else:
            said = reply.outcomes[0].message
        raise EngineChanged(
            f"{endpoint.http.address} does not answer the test question as the engine did before "
            f"the run ({said.rstrip('.')}); see how it was started, then resume."
        )


def _rejected(reply: Reply) -> AnswerFailure:
    said = reply.message() or "no reason given"
    return AnswerFailure(
        FailureKind.REJECTED, f"The server refuses this question ({reply.status}): {said}"
    )
