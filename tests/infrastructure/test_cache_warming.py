import threading
from time import monotonic, sleep

import pytest

from benchlib.infrastructure import cache_warming
from benchlib.infrastructure.cache_warming import (
    start_warm_cache_job,
    stop_warm_cache_jobs,
    warm_job_snapshot,
)
from benchlib.infrastructure.lru import Lru
from tests.samples import HANGS_SECONDS, NOW


@pytest.fixture(autouse=True)
def _no_job_outlives_its_test():
    yield
    stop_warm_cache_jobs()


def wait_for(condition):
    limit = monotonic() + HANGS_SECONDS
    while not condition():
        assert monotonic() < limit, "it did not happen"
        sleep(0.005)


def ended(run_id, **named):
    wait_for(lambda: warm_job_snapshot(run_id, **named)["status"] not in ("running", "idle"))
    return warm_job_snapshot(run_id, **named)


def now():
    return NOW


def test_a_job_shows_its_steps():
    go, entered = threading.Event(), threading.Event()
    steps = [("first", lambda: None), ("second", lambda: (entered.set(), go.wait(HANGS_SECONDS)))]
    started = start_warm_cache_job(1, steps, now)
    assert [step["status"] for step in started["steps"]] == ["waiting", "waiting"]
    assert started["started_at"] == NOW.isoformat()
    assert entered.wait(HANGS_SECONDS)
    running = warm_job_snapshot(1)
    assert running["current_step"] == "second"
    assert [step["status"] for step in running["steps"]] == ["done", "running"]
    go.set()
    job = ended(1)
    assert (job["status"], job["current_step"], job["had_errors"]) == ("done", None, False)
    assert [step["ok"] for step in job["steps"]] == [True, True]
    assert job["finished_at"] == NOW.isoformat()
    assert all(step["duration_ms"] >= 0 for step in job["steps"])


def test_a_step_that_fails_does_not_stop_the_others():
    done = []
    job_steps = [("bad", lambda: 1 / 0), ("good", lambda: done.append(1))]
    start_warm_cache_job(1, job_steps, now)
    job = ended(1)
    assert (job["status"], job["had_errors"]) == ("failed", True)
    assert job["error"] == "Some panels could not be computed."
    assert [(step["status"], step["error"]) for step in job["steps"]] == [
        ("failed", "division by zero"),
        ("done", None),
    ]
    assert done == [1]


def test_a_job_that_runs_is_left_alone_and_an_ended_one_is_replaced():
    go = threading.Event()
    start_warm_cache_job(1, [("wait", lambda: go.wait(HANGS_SECONDS))], now)
    assert start_warm_cache_job(1, [("other", lambda: None)], now)["steps"][0]["name"] == "wait"
    go.set()
    ended(1)
    assert start_warm_cache_job(1, [("other", lambda: None)], now)["steps"][0]["name"] == "other"


def test_stopping_ends_a_job_after_its_step():
    go, entered, later = threading.Event(), threading.Event(), []
    steps = [
        ("wait", lambda: (entered.set(), go.wait(HANGS_SECONDS))),
        ("later", lambda: later.append(1)),
    ]
    start_warm_cache_job(1, steps, now)
    assert entered.wait(HANGS_SECONDS)
    thread = next(t for t in threading.enumerate() if t.name == "warm-cache-1")
    threading.Timer(0.05, go.set).start()
    stop_warm_cache_jobs()
    assert not thread.is_alive()
    assert later == []
    assert warm_job_snapshot(1)["status"] == "idle"


def test_a_job_ends_with_its_process():
    go = threading.Event()
    start_warm_cache_job(1, [("wait", lambda: go.wait(HANGS_SECONDS))], now)
    thread = next(t for t in threading.enumerate() if t.name == "warm-cache-1")
    assert thread.daemon
    go.set()


def test_one_step_runs_at_a_time():
    busy, most = [], []

    def step():
        busy.append(1)
        most.append(len(busy))
        sleep(0.01)
        busy.pop()

    for run_id in (1, 2, 3):
        start_warm_cache_job(run_id, [("a", step), ("b", step)], now)
    for run_id in (1, 2, 3):
        ended(run_id)
    assert max(most) == 1


def test_runs_of_different_stores_are_kept_apart():
    start_warm_cache_job(1, [("a", lambda: None)], now, store="one")
    assert ended(1, store="one")["status"] == "done"
    assert warm_job_snapshot(1, store="two")["status"] == "idle"


def test_only_so_many_ended_jobs_are_remembered(monkeypatch):
    monkeypatch.setattr(cache_warming, "_ENDED_JOBS", Lru(2))
    for run_id in range(1, 6):
        start_warm_cache_job(run_id, [("a", lambda: None)], now)
        ended(run_id)
    assert warm_job_snapshot(1)["status"] == "idle"
    assert warm_job_snapshot(5)["status"] == "done"
