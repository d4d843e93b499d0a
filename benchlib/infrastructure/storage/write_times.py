"""How long this process's write transactions take."""

from bisect import bisect_left
from threading import Lock
from typing import Final, NamedTuple

LIMITS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the histogram's bins, in seconds; one more bin holds what takes longer."""


class WriteSummary(NamedTuple):
    """Write transactions so far, from requesting the lock to the commit, including failed ones.

    Attributes:
        counts: Transactions per bin; the last bin is above all `LIMITS`.
        seconds: Total duration.
    """

    counts: tuple[int, ...]
    seconds: float


class WriteTimes:
    """Records durations, from any thread."""

    def __init__(self) -> None:
        self._lock = Lock()  # counts and total cover the same transactions
        self._counts = [0] * (len(LIMITS) + 1)
        self._seconds = 0.0

    def note(self, seconds: float) -> None:
        """Count one transaction."""
        with self._lock:
            self._counts[bisect_left(LIMITS, seconds)] += 1
            self._seconds += seconds

    def summary(self) -> WriteSummary:
        """What was recorded so far."""
        with self._lock:
            return WriteSummary(tuple(self._counts), self._seconds)
