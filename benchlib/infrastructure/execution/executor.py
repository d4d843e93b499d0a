"""Executing one run: ask, store, renew, finish.

The rule that keeps a run whole: an answer is reported only after the transaction that stored it,
and that transaction also proves that the run is still ours. Whatever is lost with a killed process
was in flight, and the next execution asks exactly that again.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from random import uniform
from typing import Any, Final

from benchlib.domain.asking.model_client import ModelClient
from benchlib.domain.asking.prompts import PromptBook
from benchlib.domain.asking.work_plan import work_plan
from benchlib.domain.errors import (
    BenchlibError,
    EngineFault,
    EngineNotReachable,
    StoreError,
)
from benchlib.domain.material.traits import traits_hash
from benchlib.domain.records import Question, RunConfig, RunRecord, WorkItem
from benchlib.domain.run_state import final_status
from benchlib.domain.vocabulary import RunStatus
from benchlib.infrastructure.engines.allowed_hosts import checked_addresses
from benchlib.infrastructure.engines.simulated import SimulatedClient
from benchlib.infrastructure.engines.vllm_client import VllmClient
from benchlib.infrastructure.execution.manifest import make_manifest
from benchlib.infrastructure.execution.pending_results import Batch, PendingResults
from benchlib.infrastructure.execution.progress_tracker import get_completed_keys, note_done
from benchlib.infrastructure.execution.run_monitor import RunMonitor
from benchlib.infrastructure.execution.timing import DEFAULT_TIMING, Timing, wait_or_stop
from benchlib.infrastructure.storage import datasets, results, runs, traits
from benchlib.infrastructure.storage.database import Store
from benchlib.settings import Settings, split_addresses

UNSTORED_SHARE: Final = 2
"""Bound on what a killed process asks again, in units of the work that may be in flight.

Questions in flight and answers that are not committed are together at most
`UNSTORED_SHARE` x requests in flight (`max_concurrency`, at each address) x questions per request
(64 on the batch route, 16 on the single one): one share in flight, one on its way into the store.
"""

_COMMIT_SHARE: Final = 1 / 3
"""Share of that bound at which answers are stored without further delay, so that asking goes on
meanwhile instead of running into the bound."""

_log = logging.getLogger(__name__)

ClientFactory = Callable[[RunConfig, str | None, Settings], Awaitable[ModelClient]]


class LeaseLost(Exception):
    """Another worker owns the run now; this execution must not write anything more."""


async def create_client(config: RunConfig, api_key: str | None, settings: Settings) -> ModelClient:
    """The client a run's configuration asks for, probed and ready.

    Raises:
        EngineNotReachable: No server can serve it; the message lists what was tried.
    """
    if config.llm == "simulated":
        return SimulatedClient(
            seed=config.seed,
            items_per_second=config.simulated_items_per_second,
            fault_rate=config.simulated_fault_rate,
            preset=config.simulated_preset,
            answer_mode=config.answer_mode,
        )
    return await _create_vllm_client(config, api_key, settings)


async def _create_vllm_client(
    config: RunConfig, api_key: str | None, settings: Settings
) -> VllmClient:
    """A client for the run's addresses, else VLLM_BASE_URL, else localhost; key likewise."""
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
        max_concurrency=config.max_concurrency,
    )


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """What an execution needs from outside.

    Attributes:
        owner: Name of this process; unique over machines and restarts.
        stop: Set when the process is to end; the run is then left resumable.
        now: Wall clock, timezone-aware.
        monotonic: Seconds, for durations.
        git_commit: Of the code in use, if known; recorded in the manifest.
        monitor: Is notified of what happens to runs.
        timing: How long to wait for what.
        wait: Waits so many seconds, or until the event is set.
    """

    store: Store
    settings: Settings
    owner: str
    stop: threading.Event
    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    make_client: ClientFactory = create_client
    git_commit: str | None = None
    monitor: RunMonitor = field(default_factory=RunMonitor)
    timing: Timing = DEFAULT_TIMING
    wait: Callable[[asyncio.Event, float], Awaitable[None]] = wait_or_stop


def execute_benchmark_run(
    context: WorkerContext,
    run_id: int,
    api_key: str | None = None,
    housekeep: Callable[[], None] = lambda: None,
) -> RunStatus:
    """Execute a run that `context.owner` has claimed, to its end; blocks until then.

    Args:
        housekeep: Called every few seconds meanwhile, outside any transaction.

    Returns:
        The status the run was left in; `interrupted` also when another worker took it over.
    """
    execution = _Execution(context, run_id, housekeep)
    error: str | None = None
    try:
        status, error = asyncio.run(execution.run(api_key))
    except LeaseLost:
        _log.warning("lease lost", extra={"run_id": run_id})
        context.monitor.left(run_id)
        return RunStatus.INTERRUPTED
    except BenchlibError as problem:
        status, error = RunStatus.FAILED, str(problem)
        kind = type(problem).__name__
        _log.warning("run cannot go on", extra={"run_id": run_id, "problem": kind})
    return finish_run(context, run_id, status, error)


def finish_run(
    context: WorkerContext, run_id: int, status: RunStatus, error: str | None
) -> RunStatus:
    """End the execution of a run; `interrupted` if `context.owner` no longer owns it."""
    with context.store.write() as session:
        owned = runs.finish(session, run_id, context.owner, status, error, context.now())
        run = runs.get_run(session, run_id) if owned else None
    if run is None:
        _log.warning("lease lost", extra={"run_id": run_id})
        context.monitor.left(run_id)
        return RunStatus.INTERRUPTED
    context.monitor.ended(run)
    return status


@dataclass
class _Execution:
    """The state of one execution. Used in one event loop; only `stop` is set from outside."""

    context: WorkerContext
    run_id: int
    housekeep: Callable[[], None]
    pending: PendingResults = field(default_factory=PendingResults)
    activity: str | None = None
    retries: deque[tuple[WorkItem, int]] = field(default_factory=deque)
    requests: dict[asyncio.Task[None], int] = field(default_factory=dict)
    commit: asyncio.Task[None] | None = None
    committing: int = 0
    cancelled: bool = False
    stored_activity: str | None = None
    committed_at: float = float("-inf")
    last_answer: float = 0.0
    last_beat: float = 0.0
    last_housekeeping: float = 0.0
    began: float = 0.0
    active_before: float = 0.0

    async def run(self, api_key: str | None) -> tuple[RunStatus, str | None]:
        """Ask all that is missing; see `final_status` for how it ends."""
        with self.context.store.read() as session:
            run = runs.get_run(session, self.run_id)
            asked = traits.get_traits(session, run.config.trait_ids)
            dataset = datasets.get_dataset(session, run.dataset_id)
            self.pending.tally = results.tally_of(session, self.run_id)
        self.row = run
        completed = get_completed_keys(self.context.store, self.run_id)
        self.pending.done = len(completed)
        self.began = self.last_answer = self.last_beat = self.context.monotonic()
        self.active_before = run.seconds_active
        self.stopping = asyncio.Event()
        client = await self._connect(run, api_key)
        if client is None:
            return self._verdict(run)
        self.client = client
        self.context.monitor.connected(self.run_id, client)
        try:
            max_in_flight = run.config.max_concurrency * max(1, len(client.report.addresses))
            manifest = make_manifest(
                run,
                client.report,
                {
                    "trait_hash": traits_hash(asked),
                    "persona_hash": dataset.content_hash,
                    "n_personas": dataset.n_personas,
                },
                {"request_items": client.max_batch_size, "requests_in_flight": max_in_flight},
                now=self.context.now(),
                git_commit=self.context.git_commit,
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
                datasets.iter_personas(self.context.store, run.dataset_id),
                asked,
                scale_mode=run.config.scale_mode,
                dual_fraction=run.config.dual_fraction,
                seed=run.config.seed,
                completed=completed,
            )
            await self._work_through(max_in_flight)
        finally:
            try:
                await self._drain()
            finally:
                await self.client.close()
        return self._verdict(run)

    async def _connect(self, run: RunRecord, api_key: str | None) -> ModelClient | None:
        """Probe the engine, keeping the lease alive; None if the run is to stop meanwhile."""
        self.activity = "Probing the engine"
        await self._commit()
        probe = asyncio.ensure_future(
            self.context.make_client(run.config, api_key, self.context.settings)
        )
        while not probe.done():
            await asyncio.wait({probe}, timeout=self.context.timing.beat_seconds)
            if self._is_due():
                await self._commit()
            if not probe.done() and (self.cancelled or self.context.stop.is_set()):
                probe.cancel()
                await asyncio.gather(probe, return_exceptions=True)
                return None
        return await probe

    async def _work_through(self, max_in_flight: int) -> None:
        """Keep requests in flight until nothing is left to ask, or the run is to stop."""
        bound = UNSTORED_SHARE * max_in_flight * self.client.max_batch_size
        while not (self.cancelled or self.context.stop.is_set()):
            full = self._dispatch(max_in_flight, bound)
            if self.commit is None and self._is_worth_a_commit(bound, full=full):
                self.commit = asyncio.create_task(self._commit())
            if not self.requests and self.commit is None:
                return
            await self._collect()

    def _dispatch(self, max_in_flight: int, bound: int) -> bool:
        """Send what may be sent; returns whether unstored answers forbid more."""
        while len(self.requests) < min(self.client.concurrency, max_in_flight):
            n_items = min(self.client.batch_size, self.client.max_batch_size)
            unstored = sum(self.requests.values()) + len(self.pending) + self.committing
            if unstored + n_items > bound:
                return True
            questions = self._next_questions(n_items)
            if not questions:
                return False
            self.requests[asyncio.create_task(self._ask(questions))] = len(questions)
        return False

    async def _collect(self) -> None:
        """Wait until a request or a commit ends; raises what it raised."""
        waited_for = {*self.requests, self.commit} if self.commit else set(self.requests)
        finished, _ = await asyncio.wait(
            waited_for,
            timeout=self.context.timing.beat_seconds,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if self.commit in finished:
            self.commit = None
        for task in finished:
            self.requests.pop(task, None)
            task.result()

    def _next_questions(self, n_items: int) -> list[Question]:
        again = [self.retries.popleft() for _ in range(min(n_items, len(self.retries)))]
        fresh = islice(self.plan, n_items - len(again))
        return [self.book.question(item, attempt) for item, attempt in again] + [
            self.book.question(item, 1) for item in fresh
        ]

    async def _ask(self, questions: Sequence[Question]) -> None:
        """Send one request until the engine answers it or the run stops."""
        attempt = 1
        while not self.stopping.is_set():
            try:
                outcomes = await self.client.ask(questions)
            except EngineFault as fault:
                self.pending.note_fault(fault, self.context.now(), len(questions), attempt)
                self._check_patience(fault)
                backoff = self.context.timing.request_backoff.seconds(attempt)
                wait = max(fault.retry_after_seconds or 0.0, backoff * uniform(0.75, 1.25))
                self.activity = f"Waiting for the engine: {fault} Next try in {wait:.0f} s."
                await self.context.wait(self.stopping, wait)
                attempt += 1
            else:
                self.last_answer = self.context.monotonic()
                self.activity = None
                self.retries += self.pending.note_outcomes(
                    questions, outcomes, self.context.now(), self.max_attempts
                )
                return

    def _check_patience(self, fault: EngineFault) -> None:
        silent = self.context.monotonic() - self.last_answer
        if silent > self.context.settings.engine_patience_seconds:
            raise EngineNotReachable(
                f"No answer from the engine for {silent / 60:.0f} minutes; last: {fault} "
                "Start it again, then resume the run."
            )

    def _is_due(self) -> bool:
        return self.context.monotonic() - self.last_beat > self.context.settings.lease_seconds / 5

    def _is_worth_a_commit(self, bound: int, *, full: bool) -> bool:
        """Whether to store now: rarely enough to be cheap, often enough for display and bound."""
        if self.activity != self.stored_activity or self._is_due():
            return True
        if not len(self.pending):
            return False
        waited = asyncio.get_running_loop().time() - self.committed_at
        enough = full or not self.requests or len(self.pending) >= bound * _COMMIT_SHARE
        return enough or waited >= self.context.timing.commit_seconds

    async def _commit(self, **values: Any) -> None:
        """Store what has come in, with the counters for it, as the run's owner."""
        batch = self.pending.take()
        self.committing = len(batch.rated) + len(batch.failures)
        self.stored_activity = self.activity
        self.last_beat = self.context.monotonic()
        batch.values.update(
            activity=self.activity,
            seconds_active=self.active_before + self.last_beat - self.began,
            **values,
        )
        self.cancelled = await self._write_patiently(batch)
        self.committing = 0
        self.committed_at = asyncio.get_running_loop().time()
        self.row = replace(self.row, **batch.values)
        self.context.monitor.committed(self.row)
        note_done(
            self.run_id, self.context.monotonic(), batch.values["done"] + batch.values["failed"]
        )
        if self.last_beat - self.last_housekeeping > self.context.settings.lease_seconds / 5:
            self.last_housekeeping = self.last_beat
            await asyncio.to_thread(self.housekeep)

    async def _write_patiently(self, batch: Batch) -> bool:
        """Write, trying again while the store is locked, full or unreachable: no answer is lost."""
        began, timing = self.context.monotonic(), self.context.timing
        while True:
            try:
                return await asyncio.to_thread(self._write, batch)
            except StoreError as problem:
                ends = self.stopping.is_set() or self.context.stop.is_set()
                if ends or self.context.monotonic() - began > timing.store_patience_seconds:
                    self.pending.give_back(batch)
                    self.committing = 0
                    raise
                extra = {"run_id": self.run_id, "problem": str(problem)}
                _log.warning("waiting for the store", extra=extra)
                await self.context.wait(self.stopping, timing.store_pause_seconds)

    def _write(self, batch: Batch) -> bool:
        """Write one transaction; returns whether the run is to be cancelled."""
        with self.context.store.write() as session:
            if not runs.renew(
                session,
                self.run_id,
                self.context.owner,
                changed=bool(batch.rated),
                values=batch.values,
            ):
                raise LeaseLost
            results.add_results(session, self.run_id, batch.rated)
            results.add_failures(session, self.run_id, batch.failures)
            return runs.is_cancel_requested(session, self.run_id)

    async def _drain(self) -> None:
        """Give requests in flight a moment to finish, store their answers, and drop the rest."""
        self.stopping.set()
        timing = self.context.timing
        grace = timing.cancel_grace_seconds if self.cancelled else timing.stop_grace_seconds
        if self.requests:
            finished, late = await asyncio.wait(self.requests, timeout=grace)
            for flight in late:
                flight.cancel()
            await asyncio.gather(*finished, *late, return_exceptions=True)
            self.requests.clear()
        if self.commit is not None:
            await self.commit
        if len(self.pending):
            await self._commit()

    def _verdict(self, run: RunRecord) -> tuple[RunStatus, str | None]:
        if self.cancelled:
            return RunStatus.CANCELLED, None
        with self.context.store.read() as session:
            done = results.count_results(session, run.id)
        status = final_status(run.total, done, self.pending.failed)
        if status is not RunStatus.INTERRUPTED:
            return status, None
        if self.context.stop.is_set():
            return status, "The dashboard was stopped; resume to go on."
        return status, (
            f"{run.total - done - self.pending.failed} planned items are unaccounted for; "
            "resume to ask them."
        )
