"""The durations an execution keeps to, in one value that tests replace."""

import asyncio
from dataclasses import dataclass
from typing import Final

from benchlib.infrastructure.engines.backoff import Backoff

_REQUEST_BACKOFF: Final = Backoff(0.5, 30.0)


@dataclass(frozen=True, slots=True)
class Timing:
    """Durations of an execution, in seconds.

    Attributes:
        beat_seconds: How often the loop runs when no answer comes; bounds how long it takes to
            notice a stop or a cancel request.
        request_backoff: Between tries of a request that the engine did not answer.
        cancel_grace_seconds: How long requests in flight may still take after a cancel request.
        stop_grace_seconds: The same when the process is to end.
        store_pause_seconds: Between tries to write while the store cannot be written.
        store_patience_seconds: How long writing is tried before the run ends.
        commit_seconds: Between commits while answers come in; each costs a disk flush.
    """

    beat_seconds: float = 0.25
    request_backoff: Backoff = _REQUEST_BACKOFF
    cancel_grace_seconds: float = 3.0
    stop_grace_seconds: float = 15.0
    store_pause_seconds: float = 1.0
    store_patience_seconds: float = 300.0
    commit_seconds: float = 0.25


DEFAULT_TIMING: Final = Timing()


async def wait_or_stop(stopping: asyncio.Event, seconds: float) -> None:
    """Wait; returns early once `stopping` is set."""
    try:
        await asyncio.wait_for(stopping.wait(), seconds)
    except TimeoutError:
        return
