"""How long to wait before trying again after a failure."""

from dataclasses import dataclass
from typing import Final

_MOST_DOUBLINGS: Final = 16


@dataclass(frozen=True, slots=True)
class Backoff:
    """A wait that doubles with every failure in a row, up to a limit; both in seconds."""

    first_seconds: float
    longest_seconds: float

    def seconds(self, failures_in_a_row: int, retry_after: float | None = None) -> float:
        """Time to wait now.

        Args:
            failures_in_a_row: Including the latest; at least 1.
            retry_after: What the server asks for, in seconds; it counts instead.
        """
        if retry_after is not None:
            return retry_after
        doublings = min(failures_in_a_row - 1, _MOST_DOUBLINGS)
        return min(self.first_seconds * 2.0**doublings, self.longest_seconds)
