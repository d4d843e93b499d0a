"""vLLM's own `/metrics`, for the engine section of the Progress page and the concurrency limit."""

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

from benchlib.domain.asking.engine_reports import EngineStats, empty_stats
from benchlib.domain.errors import EngineFault
from benchlib.infrastructure.engines.allowed_hosts import normalise_address
from benchlib.infrastructure.engines.http import (
    EngineHttp,
    open_session,
)
from benchlib.infrastructure.engines.identity import fault_of


@dataclass(frozen=True, slots=True)
class ServerMetrics:
    """Numbers from vLLM's `/metrics`, summed over its engines; None where it reports none.

    Attributes:
        requests_running: Being computed now.
        requests_waiting: Queued in the engine now.
        prefix_cache_queries: Tokens looked up since it started.
        prefix_cache_hits: Of these, tokens that were found.
        prompt_tokens: Since it started.
        generation_tokens: Since it started.
        preemptions: Since it started.
    """

    requests_running: float | None = None
    requests_waiting: float | None = None
    prefix_cache_queries: float | None = None
    prefix_cache_hits: float | None = None
    prompt_tokens: float | None = None
    generation_tokens: float | None = None
    preemptions: float | None = None

    @property
    def prefix_cache_hit_rate(self) -> float | None:
        """Share of looked-up tokens that were found, 0..1; None before the first."""
        if not self.prefix_cache_queries or self.prefix_cache_hits is None:
            return None
        return self.prefix_cache_hits / self.prefix_cache_queries


_METRIC_NAMES: Final = {
    "vllm:num_requests_running": "requests_running",
    "vllm:num_requests_waiting": "requests_waiting",
    "vllm:prefix_cache_queries_total": "prefix_cache_queries",
    "vllm:prefix_cache_hits_total": "prefix_cache_hits",
    "vllm:prompt_tokens_total": "prompt_tokens",
    "vllm:generation_tokens_total": "generation_tokens",
    "vllm:num_preemptions_total": "preemptions",
}
_METRIC_PREFIXES: Final = tuple(_METRIC_NAMES)


async def fetch_server_metrics(
    address: str, *, api_key: str | None = None, timeout_seconds: float = 3.0
) -> ServerMetrics:
    """Ask a vLLM server for its metrics; other servers have none.

    Raises:
        InvalidInput: The address is malformed.
        EngineFault: No answer came.
    """
    async with open_session(api_key) as session:
        http = EngineHttp(session, normalise_address(address), timeout_seconds)
        reply = await http.get("/metrics")
    if reply.status == 429 or reply.status >= 500:
        raise fault_of(http.address, reply)
    return parse_metrics(reply.body.decode(errors="replace") if reply.status == 200 else "")


def parse_metrics(text: str) -> ServerMetrics:
    """Read Prometheus text; lines that cannot be read are skipped."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        if not line.startswith(_METRIC_PREFIXES):
            continue
        try:
            (family,) = text_string_to_metric_families(line)
        except ValueError:
            continue
        for sample in family.samples:
            name = _METRIC_NAMES.get(sample.name)
            if name is not None and sample.value == sample.value:
                found[name] = found.get(name, 0.0) + sample.value
    return ServerMetrics(**found)


_READ_EVERY_SECONDS: Final = 3.0
_FETCH_SECONDS: Final = 2.0
_WINDOW_SECONDS: Final = 60.0


@dataclass(slots=True)
class _History:
    """Metrics of the last minute by time; `asked` is the time of the last attempt."""

    asked: float
    silent: bool = False
    seen: deque[tuple[float, ServerMetrics]] = field(default_factory=deque)

    def note(self, now: float, metrics: ServerMetrics) -> None:
        self.silent = False
        if self.seen and (self.seen[-1][1].prompt_tokens or 0) > (metrics.prompt_tokens or 0):
            self.seen.clear()  # the engine was restarted
        self.seen.append((now, metrics))
        while now - self.seen[0][0] > _WINDOW_SECONDS:
            self.seen.popleft()

    def stats(self, address: str) -> EngineStats:
        if self.silent or not self.seen:
            return empty_stats(address, "silent" if self.silent else "asking")
        (begin, first), (end, last) = self.seen[0], self.seen[-1]
        if last == ServerMetrics():
            return empty_stats(address, "nothing")
        looked_up = _grown(first.prefix_cache_queries, last.prefix_cache_queries)
        found = _grown(first.prefix_cache_hits, last.prefix_cache_hits)
        hit_rate = found / looked_up if looked_up and found is not None else None
        return {
            "address": address,
            "state": "reported",
            "requests_running": last.requests_running,
            "requests_waiting": last.requests_waiting,
            "prompt_tokens_per_s": _rate(first.prompt_tokens, last.prompt_tokens, end - begin),
            "generation_tokens_per_s": _rate(
                first.generation_tokens, last.generation_tokens, end - begin
            ),
            "prefix_cache_hit_rate": last.prefix_cache_hit_rate if hit_rate is None else hit_rate,
        }


def _grown(first: float | None, last: float | None) -> float | None:
    return None if first is None or last is None else last - first


def _rate(first: float | None, last: float | None, seconds: float) -> float | None:
    grown = _grown(first, last)
    return None if grown is None or seconds <= 0 else grown / seconds


def _in_a_thread(work: Coroutine[Any, Any, None]) -> None:
    thread = threading.Thread(target=asyncio.run, args=(work,), name="engine-metrics", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no thread can be started; the page shows what was known
        work.close()


class EngineMonitor:
    """Reads the metrics of engines while someone looks; all viewers share what was read.

    Args:
        fetch: Asks an address; raises EngineFault.
        start: Runs a coroutine elsewhere, so that no viewer waits for an engine.
    """

    def __init__(
        self,
        fetch: Callable[[str], Awaitable[ServerMetrics]] | None = None,
        start: Callable[[Coroutine[Any, Any, None]], None] = _in_a_thread,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._fetch: Final = fetch or _fetch_briefly
        self._start: Final = start
        self._clock: Final = clock
        self._lock = threading.Lock()  # an address is asked by one thread at a time
        self._histories: dict[str, _History] = {}

    def look(self, addresses: Sequence[str]) -> list[EngineStats]:
        """What is known now, without waiting; metrics older than a few seconds are read again.

        Args:
            addresses: Base URLs on allowed hosts.
        """
        now = self._clock()
        with self._lock:
            self._histories = {
                address: history
                for address, history in self._histories.items()
                if now - history.asked <= _WINDOW_SECONDS
            }
            due = [address for address in dict.fromkeys(addresses) if self._is_due(address, now)]
            for address in due:
                self._histories.setdefault(address, _History(now)).asked = now
        if due:
            self._start(self._read(due))
        with self._lock:
            return [self._histories[address].stats(address) for address in addresses]

    def _is_due(self, address: str, now: float) -> bool:
        history = self._histories.get(address)
        return history is None or now - history.asked >= _READ_EVERY_SECONDS

    async def _read(self, addresses: Sequence[str]) -> None:
        await asyncio.gather(*(self._read_one(address) for address in addresses))

    async def _read_one(self, address: str) -> None:
        try:
            metrics = await self._fetch(address)
        except EngineFault:
            metrics = None
        now = self._clock()
        with self._lock:
            history = self._histories.setdefault(address, _History(now))
            if metrics is None:
                history.silent = True
            else:
                history.note(now, metrics)


async def _fetch_briefly(address: str) -> ServerMetrics:
    return await fetch_server_metrics(address, timeout_seconds=_FETCH_SECONDS)
