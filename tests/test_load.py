"""The short form of `python -m benchmarks.load`: the real app, real sessions, two runs."""

from benchmarks.load import put_load


def test_sessions_and_runs_at_once_lose_and_break_nothing(tmp_path):
    problems = put_load(
        tmp_path, personas=60, sessions=5, seconds=6, think=0.5, quiet_seconds=1, rounds=1
    )
    assert problems == []
