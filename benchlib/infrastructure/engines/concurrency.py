"""How much is sent to one address at a time: more while that makes it faster, less on overload.

Concurrency climbs a hill: after a window of answers it is doubled, and stays so if more was
answered per second than before. A long queue, a refusal or a time-out lowers it again. The batch
size follows from the time a request takes.
"""

from typing import Final

FIRST_REQUESTS: Final = 4
"""Requests in flight at an address of which nothing is known yet."""

_FIRST_BATCH_SIZE: Final = 8
_SHORT_REQUEST_SECONDS: Final = 1.0
_LONG_REQUEST_SECONDS: Final = 8.0
_WINDOW_SECONDS: Final = 0.25
_WORTHWHILE: Final = 1.05
"""Growth of the rate above which a step up has paid. Keeping a step that did not pay costs less
than undoing one that did."""

_HELD_WINDOWS: Final = 10
"""Windows without a step after one that did not pay; by then the engine may have changed."""

_SHRINK_SECONDS: Final = 1.0


class ConcurrencyLimiter:
    """Concurrency and batch size for one address. Used inside one event loop.

    Args:
        max_concurrency: Limit of requests in flight.
        max_batch_size: Limit of questions in a request.

    Attributes:
        concurrency: How many requests to keep in flight.
        batch_size: How many questions to put into a request.
    """

    def __init__(self, max_concurrency: int, max_batch_size: int) -> None:
        self.max_concurrency: Final = max_concurrency
        self.max_batch_size: Final = max_batch_size
        self.concurrency = min(FIRST_REQUESTS, max_concurrency)
        self.batch_size = min(_FIRST_BATCH_SIZE, max_batch_size)
        self._smaller = self.concurrency
        self._rate_before: float | None = None
        self._held = 0
        self._shrunk_at = float("-inf")
        self._most_in_flight = 0
        self._begin_window(None)

    def answered(self, n_items: int, seconds: float, in_flight: int, now: float) -> None:
        """Note a request that was answered.

        Args:
            n_items: Questions in it.
            seconds: The time it took.
            in_flight: Requests at the address then, including this one.
            now: On the loop's clock.
        """
        if seconds < _SHORT_REQUEST_SECONDS and n_items >= self.batch_size:
            self.batch_size = min(self.batch_size * 2, self.max_batch_size)
        elif seconds > _LONG_REQUEST_SECONDS and n_items <= self.batch_size:
            self.batch_size = max(1, self.batch_size // 2)
        if self._began is None:
            self._begin_window(now)
            return
        self._n_requests += 1
        self._n_items += n_items
        self._most_in_flight = max(self._most_in_flight, in_flight)
        if self._n_requests >= 2 * self.concurrency and now - self._began >= _WINDOW_SECONDS:
            busy = self._most_in_flight >= self.concurrency
            rate = self._n_items / (now - self._began)
            self._begin_window(now)
            if busy:  # otherwise concurrency was not the limit, and nothing is learned about it
                self._step(rate)

    def overloaded(self, now: float) -> None:
        """Note a refusal or time-out: halve, but only once for all requests that were in flight."""
        if now - self._shrunk_at >= _SHRINK_SECONDS:
            self._shrunk_at = now
            self._shrink(self.concurrency // 2)

    def queue_seen(self, running: float, waiting: float) -> None:
        """Note the engine's own queue; it is too long above half of the requests being computed."""
        if waiting > running / 2:
            self._shrink(self.concurrency * 3 // 4)

    def connection_lost(self) -> None:
        """Note that the address failed; start over, since it may come back slower."""
        self._shrink(min(self.concurrency, FIRST_REQUESTS))

    def _step(self, rate: float) -> None:
        if self._held:
            self._held -= 1
        elif self._rate_before is None or rate > _WORTHWHILE * self._rate_before:
            self._smaller, self._rate_before = self.concurrency, rate
            self.concurrency = min(self.concurrency * 2, self.max_concurrency)
        else:
            self._shrink(self._smaller)

    def _shrink(self, concurrency: int) -> None:
        self.concurrency = self._smaller = max(1, concurrency)
        self._rate_before = None
        self._held = _HELD_WINDOWS
        self._begin_window(None)

    def _begin_window(self, now: float | None) -> None:
        self._began = now
        self._n_requests = 0
        self._n_items = 0
        self._most_in_flight = 0
