"""Which changes of a run's status are allowed, and when its worker counts as lost."""

from typing import Final

from benchlib.domain.errors import WrongState
from benchlib.domain.vocabulary import RunStatus

LEASE_SECONDS: Final = 20.0
"""A worker that has not renewed its lease for so long counts as lost."""

_MOVES: Final[dict[RunStatus, frozenset[RunStatus]]] = {
    RunStatus.QUEUED: frozenset({RunStatus.RUNNING, RunStatus.CANCELLED}),
    RunStatus.RUNNING: frozenset(
        {
            RunStatus.DONE,
            RunStatus.PARTIAL,
            RunStatus.CANCELLED,
            RunStatus.FAILED,
            RunStatus.INTERRUPTED,
        }
    ),
    RunStatus.INTERRUPTED: frozenset({RunStatus.QUEUED, RunStatus.CANCELLED}),
    RunStatus.PARTIAL: frozenset({RunStatus.QUEUED}),
    RunStatus.CANCELLED: frozenset({RunStatus.QUEUED}),
    RunStatus.FAILED: frozenset({RunStatus.QUEUED}),
    RunStatus.DONE: frozenset(),
}

ACTIVE: Final = frozenset({RunStatus.QUEUED, RunStatus.RUNNING})
"""A worker owns the run or will claim it."""

RESUMABLE: Final = frozenset(s for s, moves in _MOVES.items() if RunStatus.QUEUED in moves)
"""Incomplete, and no worker is on it."""


def check_move(run_id: int, before: RunStatus, after: RunStatus) -> None:
    """Check that a change of status is allowed.

    Raises:
        WrongState: It is not; the text says what to do instead.
    """
    if after in _MOVES[before]:
        return
    if before is RunStatus.DONE:
        advice = "it is complete"
    elif before in ACTIVE:
        advice = "wait for it or cancel it first"
    else:
        advice = "resume it first"
    raise WrongState(f"Run {run_id} is {before} and cannot become {after}; {advice}.")


def final_status(total: int, done: int, failed: int) -> RunStatus:
    """The status of a run that has asked everything it could.

    Returns:
        `done` only if every planned question is answered; `partial` if the rest failed for good;
        `interrupted` if questions are unaccounted for, so a truncated run never looks complete.
    """
    if done == total:
        return RunStatus.DONE
    return RunStatus.PARTIAL if done + failed == total else RunStatus.INTERRUPTED


def is_stale(seconds_unchanged: float, lease_seconds: float = LEASE_SECONDS) -> bool:
    """Whether a worker counts as lost.

    Args:
        seconds_unchanged: How long the observer has seen the same heartbeat, on the observer's own
            monotonic clock. Clocks of different machines are never compared.
        lease_seconds: How long a worker may stay silent.
    """
    return seconds_unchanged > lease_seconds
