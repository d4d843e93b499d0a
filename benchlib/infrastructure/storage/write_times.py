"""How long the write transactions of this process take."""

from bisect import bisect_left
from threading import Lock
from typing import Final, NamedTuple

LIMITS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the groups in seconds; what takes longer is a group of its own."""


class WriteSummary(NamedTuple):
    """Write transactions so far, from asking for the lock to the commit, failed ones included.

    Attributes:
        counts: One for each of `LIMITS`, and the rest.
        seconds: Of all together.
    """

    counts: tuple[int, ...]
    seconds: float


class WriteTimes:
    """Notes durations from any thread."""

    def __init__(self) -> None:
        self._lock = Lock()  # counts and sum are of the same transactions
        self._counts = [0] * (len(LIMITS) + 1)
        self._seconds = 0.0

    def note(self, seconds: float) -> None:
        """Count one transaction."""
        with self._lock:
            self._counts[bisect_left(LIMITS, seconds)] += 1
            self._seconds += seconds

    def summary(self) -> WriteSummary:
        """What was noted so far."""
        with self._lock:
            return WriteSummary(tuple(self._counts), self._seconds)
