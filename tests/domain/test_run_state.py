import pytest

from benchlib.domain.errors import WrongState
from benchlib.domain.run_state import RESUMABLE, check_move, final_status, is_stale
from benchlib.domain.vocabulary import RunStatus


@pytest.mark.parametrize(
    ("total", "done", "failed", "status"),
    [
        (10, 10, 0, "done"),
        (10, 9, 1, "partial"),
        (10, 0, 10, "partial"),
        (10, 9, 0, "interrupted"),  # one item unaccounted for: never done
        (10, 11, 0, "interrupted"),
    ],
)
def test_only_a_complete_run_is_done(total, done, failed, status):
    assert final_status(total, done, failed) == status


def test_a_done_run_cannot_be_resumed():
    with pytest.raises(WrongState, match="Run 4 is done and cannot become queued; it is complete"):
        check_move(4, RunStatus.DONE, RunStatus.QUEUED)


def test_a_running_run_cannot_be_resumed():
    with pytest.raises(WrongState, match="wait for it or cancel it first"):
        check_move(4, RunStatus.RUNNING, RunStatus.QUEUED)


def test_whatever_ended_incomplete_can_be_resumed():
    assert {"partial", "cancelled", "failed", "interrupted"} == RESUMABLE


def test_a_worker_is_gone_after_its_lease():
    assert not is_stale(5, lease_seconds=20)
    assert is_stale(20.1, lease_seconds=20)
