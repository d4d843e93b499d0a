"""What vLLM's own `/metrics` says, for the engine panel of the Progress page."""

import re
from dataclasses import dataclass
from typing import Final

from benchlib.infrastructure.execution.engine_hosts import normalise_address
from benchlib.infrastructure.execution.engine_http import (
    EngineHttp,
    open_session,
)
from benchlib.infrastructure.execution.engine_identity import fault_of


@dataclass(frozen=True, slots=True)
class EngineMetrics:
    """Figures of vLLM's `/metrics`, summed over its engines; None where it does not tell.

    Attributes:
        requests_running: Being computed now.
        requests_waiting: Queued in the engine now.
        prefix_cache_queries: Tokens looked up since it started.
        prefix_cache_hits: Of these, tokens found.
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
_METRIC_LINE: Final = re.compile(r"(vllm:\w+)(?:\{.*\})?\s+(\S+)")


async def fetch_engine_metrics(
    address: str, *, api_key: str | None = None, timeout_seconds: float = 3.0
) -> EngineMetrics:
    """Ask a vLLM server for its figures; other servers give none.

    Raises:
        InvalidInput: The address is none.
        EngineFault: No answer came.
    """
    async with open_session(api_key) as session:
        http = EngineHttp(session, normalise_address(address), timeout_seconds)
        reply = await http.get("/metrics")
    if reply.status == 429 or reply.status >= 500:
        raise fault_of(http.address, reply)
    return parse_metrics(reply.body.decode(errors="replace") if reply.status == 200 else "")


def parse_metrics(text: str) -> EngineMetrics:
    """Read Prometheus text; lines that are not understood are passed over."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        match = _METRIC_LINE.match(line)
        if match is None or match[1] not in _METRIC_NAMES:
            continue
        try:
            value = float(match[2])
        except ValueError:
            continue
        if value == value:
            name = _METRIC_NAMES[match[1]]
            found[name] = found.get(name, 0.0) + value
    return EngineMetrics(**found)
