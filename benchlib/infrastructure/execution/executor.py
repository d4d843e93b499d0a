"""Executing one run: ask, store, renew, finish.

The rule that keeps a run whole: an answer is told of only after the transaction that stored it, and
that transaction also proves that the run is still ours. Whatever is lost with a killed process was
in flight, and the next execution asks exactly that again.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import islice
from random import uniform
from typing import Any, Final

import benchlib
from benchlib.domain.errors import (
    BenchlibError,
    EngineFault,
    EngineNotReachable,
    StoreError,
    WrongState,
)
from benchlib.domain.ports import ModelClient
from benchlib.domain.prompts import PROMPT_VERSION, PromptBook, prompt_template_hash
from benchlib.domain.results import (
    Answer,
    AnswerFailure,
    Question,
    RunConfig,
    RunRecord,
    WorkItem,
)
from benchlib.domain.run_state import final_status
from benchlib.domain.traits import traits_hash
from benchlib.domain.vocabulary import FailureKind, RunStatus
from benchlib.domain.work_plan import work_plan
from benchlib.infrastructure.execution.engine_hosts import checked_addresses
from benchlib.infrastructure.execution.progress_tracker import get_completed_keys, note_progress
from benchlib.infrastructure.execution.simulated import SimulatedClient
from benchlib.infrastructure.execution.vllm_client import VllmClient
from benchlib.infrastructure.storage import datasets, results, runs, traits
from benchlib.infrastructure.storage.engine import Store
from benchlib.settings import Settings, split_addresses

_BEAT_SECONDS: Final = 0.25
"""How often the loop looks up when no answer comes: bounds the reaction to stop and cancel."""

_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 30.0
_CANCEL_GRACE_SECONDS: Final = 3.0
_STOP_GRACE_SECONDS: Final = 15.0
_STORE_PAUSE_SECONDS: Final = 1.0
_STORE_PATIENCE_SECONDS: Final = 300.0
_SHORT_REQUEST_SECONDS: Final = 1.0
_LONG_REQUEST_SECONDS: Final = 8.0
_LATEST_ANSWERS: Final = 8

_log = logging.getLogger(__name__)

ClientFactory = Callable[[RunConfig, str | None, Settings], Awaitable[ModelClient]]


class LeaseLost(Exception):
    """The run belongs to somebody else now; this execution must not write another word."""


async def create_client(config: RunConfig, api_key: str | None, settings: Settings) -> ModelClient:
    """The client a run's configuration asks for, probed and ready.

    Raises:
        EngineNotReachable: No server can serve it; the text lists what was tried.
    """
    if config.llm == "simulated":
        return SimulatedClient(
            seed=config.seed,
            items_per_second=config.simulated_items_per_second,
            fault_rate=config.simulated_fault_rate,
            answer_mode=config.answer_mode,
        )
    return await _create_vllm_client(config, api_key, settings)


async def _create_vllm_client(
    config: RunConfig, api_key: str | None, settings: Settings
) -> VllmClient:
    """Address from the form, else VLLM_BASE_URL, else localhost; key likewise."""
    addresses = checked_addresses(
        split_addresses(config.vllm_base_url)
        if config.vllm_base_url
        else settings.engine_addresses,
        settings,
    )
    if api_key is None and settings.vllm_api_key is not None:
        api_key = settings.vllm_api_key.get_secret_value()
    return await VllmClient.connect(
        addresses,
        api_key=api_key,
        model_name=config.model_name or None,
        answer_mode=config.answer_mode,
        temperature=config.temperature,
        max_new_tokens=config.max_new_tokens,
        timeout_seconds=settings.request_timeout_seconds,
    )


@dataclass(frozen=True, slots=True)
class Worksite:
    """What an execution needs around it.

    Attributes:
        owner: Who this process is; unique over machines and restarts.
        stop: Set when the process is to end; the run is then left resumable.
        now: Wall clock, aware. monotonic: seconds for durations.
        git_commit: Of the code in use, if known; goes into the manifest.
    """

    store: Store
    settings: Settings
    owner: str
    stop: threading.Event
    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    make_client: ClientFactory = create_client
    git_commit: str | None = None


def execute_benchmark_run(
    site: Worksite,
    run_id: int,
    api_key: str | None = None,
    housekeep: Callable[[], None] = lambda: None,
) -> RunStatus:
    """Execute a run that `site.owner` has claimed, to its end; blocks until then.

    Args:
        housekeep: Called every few seconds meanwhile, outside of any transaction.

    Returns:
        The status the run was left in; `interrupted` also when another worker took it over.
    """
    execution = _Execution(site, run_id, housekeep)
    error: str | None = None
    try:
        status, error = asyncio.run(execution.run(api_key))
    except LeaseLost:
        return RunStatus.INTERRUPTED
    except BenchlibError as problem:
        status, error = RunStatus.FAILED, str(problem)
    with site.store.write() as session:
        owned = runs.finish(session, run_id, site.owner, status, error, site.now())
    return status if owned else RunStatus.INTERRUPTED


@dataclass
class _Execution:
    """The state of one execution. Lives in one event loop; only `stop` comes from outside."""

    site: Worksite
    run_id: int
    housekeep: Callable[[], None]
    done: int = 0
    failed: int = 0
    tally: dict[str, Any] = field(default_factory=runs.empty_tally)
    activity: str | None = None
    retries: deque[tuple[WorkItem, int]] = field(default_factory=deque)
    rated: list[results.Rated] = field(default_factory=list)
    failures: list[results.FailedAttempt] = field(default_factory=list)
    flights: set[asyncio.Task[None]] = field(default_factory=set)
    cancelled: bool = False
    request_items: int = 8
    last_answer: float = 0.0
    last_commit: float = 0.0
    last_housekeeping: float = 0.0
    began: float = 0.0
    active_before: float = 0.0

    async def run(self, api_key: str | None) -> tuple[RunStatus, str | None]:
        """Ask all that is missing; see `final_status` for how it ends."""
        with self.site.store.read() as session:
            run = runs.get_run(session, self.run_id)
            asked = traits.get_traits(session, run.config.trait_ids)
            dataset = datasets.get_dataset(session, run.dataset_id)
            self.tally = {**results.tally_of(session, self.run_id), "latest": []}
        completed = get_completed_keys(self.site.store, self.run_id)
        self.done = len(completed)
        self.began = self.last_answer = self.last_commit = self.site.monotonic()
        self.active_before = run.seconds_active
        self.stopping = asyncio.Event()
        client = await self._connect(run, api_key)
        if client is None:
            return self._verdict(run)
        self.client = client
        try:
            manifest = _manifest(
                run,
                self.client,
                {
                    "trait_hash": traits_hash(asked),
                    "persona_hash": dataset.content_hash,
                    "n_personas": dataset.n_personas,
                },
                self.site,
            )
            self.activity = None
            await self._commit(manifest=manifest)
            self.book = PromptBook(
                language=run.config.language,
                answer_mode=manifest["engine"]["answer_mode_used"],
                system_prompt=run.config.system_prompt,
            )
            self.max_attempts = run.config.max_attempts
            self.plan = work_plan(
                datasets.iter_personas(self.site.store, run.dataset_id),
                asked,
                scale_mode=run.config.scale_mode,
                dual_fraction=run.config.dual_fraction,
                seed=run.config.seed,
                completed=completed,
            )
            await self._work_through(run.config.batch_size)
        finally:
            await self._drain()
            await self.client.close()
        return self._verdict(run)

    async def _connect(self, run: RunRecord, api_key: str | None) -> ModelClient | None:
        """Probe the engine, keeping the lease alive; None if somebody says stop meanwhile."""
        self.activity = "Probing the engine"
        await self._commit()
        probe = asyncio.ensure_future(
            self.site.make_client(run.config, api_key, self.site.settings)
        )
        while not probe.done():
            await asyncio.wait({probe}, timeout=_BEAT_SECONDS)
            if self._is_due():
                await self._commit()
            if not probe.done() and (self.cancelled or self.site.stop.is_set()):
                probe.cancel()
                await asyncio.gather(probe, return_exceptions=True)
                return None
        return await probe

    async def _work_through(self, in_flight: int) -> None:
        """Keep `in_flight` requests going until nothing is left, or somebody says stop."""
        while True:
            while len(self.flights) < in_flight and (questions := self._next_questions()):
                self.flights.add(asyncio.create_task(self._ask(questions)))
            if not self.flights and not self.rated and not self.failures:
                return
            await self._land(_BEAT_SECONDS)
            if self.rated or self.failures or self._is_due():
                await self._commit()
            if self.cancelled or self.site.stop.is_set():
                return

    async def _land(self, timeout: float) -> None:
        """Wait for a request to end; pass on what it raised."""
        if not self.flights:
            return
        landed, _ = await asyncio.wait(
            self.flights, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
        )
        self.flights -= landed
        for flight in landed:
            flight.result()

    def _next_questions(self) -> list[Question]:
        limit = min(self.request_items, self.client.batch_items)
        again = [self.retries.popleft() for _ in range(min(limit, len(self.retries)))]
        fresh = islice(self.plan, limit - len(again))
        return [self.book.question(item, attempt) for item, attempt in again] + [
            self.book.question(item, 1) for item in fresh
        ]

    async def _ask(self, questions: Sequence[Question]) -> None:
        """One request, sent again until the engine answers it or the run stops."""
        pause = _FIRST_PAUSE_SECONDS
        attempt = 1
        while not self.stopping.is_set():
            sent = self.site.monotonic()
            try:
                outcomes = await self.client.ask(questions)
            except EngineFault as fault:
                self._note_fault(fault, len(questions), attempt)
                wait = max(fault.retry_after_seconds or 0.0, pause * uniform(0.75, 1.25))
                self.activity = f"Waiting for the engine: {fault} Next try in {wait:.0f} s."
                await self._pause(wait)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
                attempt += 1
            else:
                self.last_answer = self.site.monotonic()
                self.activity = None
                self._adapt(self.last_answer - sent, len(questions))
                self._take(questions, outcomes)
                return

    def _adapt(self, seconds: float, n_items: int) -> None:
        """Requests of a second or more: few enough to see progress, many enough to be cheap."""
        if seconds < _SHORT_REQUEST_SECONDS and n_items >= self.request_items:
            self.request_items = min(self.request_items * 2, self.client.batch_items)
        elif seconds > _LONG_REQUEST_SECONDS and n_items <= self.request_items:
            self.request_items = max(1, self.request_items // 2)

    def _note_fault(self, fault: EngineFault, n_items: int, attempt: int) -> None:
        self._count_failure(fault.kind)
        self.failures.append(
            results.FailedAttempt(
                fault.kind, str(fault), self.site.now(), n_items=n_items, attempt=attempt
            )
        )
        silent = self.site.monotonic() - self.last_answer
        if silent > self.site.settings.engine_patience_seconds:
            raise EngineNotReachable(
                f"No answer from the engine for {silent / 60:.0f} minutes; last: {fault} "
                "Start it again, then resume the run."
            )

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self.stopping.wait(), seconds)
        except TimeoutError:
            return

    def _take(
        self, questions: Sequence[Question], outcomes: Sequence[Answer | AnswerFailure]
    ) -> None:
        now = self.site.now()
        for question, outcome in zip(questions, outcomes, strict=True):
            if isinstance(outcome, Answer):
                self.rated.append(results.Rated(question, outcome, now))
                self.tally[question.item.scale_order][outcome.rating_raw - 1] += 1
                self.done += 1
                continue
            final = outcome.kind is FailureKind.REJECTED or question.attempt >= self.max_attempts
            self.failures.append(results.failed_attempt(question, outcome, now, final=final))
            self._count_failure(outcome.kind)
            if final:
                self.failed += 1
            else:
                self.retries.append((question.item, question.attempt + 1))

    def _count_failure(self, kind: FailureKind) -> None:
        self.tally["failures"][kind.value] = self.tally["failures"].get(kind.value, 0) + 1

    def _is_due(self) -> bool:
        return self.site.monotonic() - self.last_commit > self.site.settings.lease_seconds / 5

    async def _commit(self, **values: Any) -> None:
        """Store what has come in, with the counters that tell of it, as the run's owner."""
        rated, self.rated = self.rated, []
        failures, self.failures = self.failures, []
        self._note_latest(rated)
        self.last_commit = self.site.monotonic()
        values |= {
            "done": self.done,
            "failed": self.failed,
            "tally": {**self.tally, "failures": dict(self.tally["failures"])},
            "activity": self.activity,
            "seconds_active": self.active_before + self.last_commit - self.began,
        }
        run = await self._write_patiently(rated, failures, values)
        self.cancelled = run.cancel_requested
        note_progress(run, self.site.monotonic())
        if self.last_commit - self.last_housekeeping > self.site.settings.lease_seconds / 5:
            self.last_housekeeping = self.last_commit
            await asyncio.to_thread(self.housekeep)

    async def _write_patiently(
        self,
        rated: list[results.Rated],
        failures: list[results.FailedAttempt],
        values: dict[str, Any],
    ) -> RunRecord:
        """Write, again while the store is locked, full or away: what was answered is not let go."""
        began = self.site.monotonic()
        while True:
            try:
                return await asyncio.to_thread(self._write, rated, failures, values)
            except StoreError as problem:
                ends = self.stopping.is_set() or self.site.stop.is_set()
                if ends or self.site.monotonic() - began > _STORE_PATIENCE_SECONDS:
                    self.rated, self.failures = rated + self.rated, failures + self.failures
                    raise
                _log.warning("run %d: waiting for the store: %s", self.run_id, problem)
                await self._pause(_STORE_PAUSE_SECONDS)

    def _write(
        self,
        rated: Sequence[results.Rated],
        failures: Sequence[results.FailedAttempt],
        values: dict[str, Any],
    ) -> RunRecord:
        with self.site.store.write() as session:
            if not runs.renew(
                session, self.run_id, self.site.owner, changed=bool(rated), values=values
            ):
                raise LeaseLost
            results.add_results(session, self.run_id, rated)
            results.add_failures(session, self.run_id, failures)
            return runs.get_run(session, self.run_id)

    def _note_latest(self, rated: Sequence[results.Rated]) -> None:
        newest = [
            {
                "persona": question.item.persona.uuid,
                "case_id": question.item.trait.case_id,
                "scale_order": question.item.scale_order,
                "rating_raw": answer.rating_raw,
            }
            for question, answer, _ in rated[-_LATEST_ANSWERS:]
        ]
        self.tally["latest"] = (self.tally["latest"] + newest)[-_LATEST_ANSWERS:]

    async def _drain(self) -> None:
        """Give what is in flight a moment to land, store it, and let go of the rest."""
        self.stopping.set()
        grace = _CANCEL_GRACE_SECONDS if self.cancelled else _STOP_GRACE_SECONDS
        if self.flights:
            landed, late = await asyncio.wait(self.flights, timeout=grace)
            for flight in late:
                flight.cancel()
            await asyncio.gather(*landed, *late, return_exceptions=True)
            self.flights.clear()
        if self.rated or self.failures:
            await self._commit()

    def _verdict(self, run: RunRecord) -> tuple[RunStatus, str | None]:
        if self.cancelled:
            return RunStatus.CANCELLED, None
        status = final_status(
            run.total, len(get_completed_keys(self.site.store, run.id)), self.failed
        )
        if status is not RunStatus.INTERRUPTED:
            return status, None
        if self.site.stop.is_set():
            return status, "The dashboard was stopped; resume to go on."
        return status, (
            f"{run.total - self.done - self.failed} planned items are unaccounted for; "
            "resume to ask them."
        )


def _manifest(
    run: RunRecord, client: ModelClient, frozen: dict[str, Any], site: Worksite
) -> dict[str, Any]:
    """What this run is, for whoever reads its numbers later; checked against the first start.

    Raises:
        WrongState: The run would go on with something else than what it began with.
    """
    engine = asdict(client.report)
    fresh = {
        "engine": engine,
        "prompt": {"version": PROMPT_VERSION, "hash": prompt_template_hash()},
        **frozen,
        "seed": run.config.seed,
    }
    execution = {
        "started_at": site.now().isoformat(),
        "benchlib_version": benchlib.__version__,
        "git_commit": site.git_commit,
        "addresses": engine["addresses"],
        "engine_version": engine["engine_version"],
    }
    if not run.manifest:
        return {**fresh, "executions": [execution]}
    for part, before, after in _same(run.manifest, fresh):
        if before != after:
            raise WrongState(
                f"The run began with {part} {before}, now it is {after}; its answers would not be "
                "comparable. Bring the former back, or start a new run."
            )
    return {**run.manifest, "executions": [*run.manifest["executions"], execution]}


def _same(old: dict[str, Any] | Any, new: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """What must not change over the life of a run: (name, before, now)."""
    for key in ("model_name", "model_revision", "answer_mode_used", "logprobs_source"):
        yield key.replace("_", " "), old["engine"][key], new["engine"][key]
    yield "prompt", old["prompt"]["hash"], new["prompt"]["hash"]
    yield "traits", old["trait_hash"], new["trait_hash"]
    yield "personas", old["persona_hash"], new["persona_hash"]
