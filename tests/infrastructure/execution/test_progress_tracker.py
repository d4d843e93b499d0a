import threading
from dataclasses import replace

from benchlib.domain.vocabulary import RunStatus
from benchlib.infrastructure.execution.progress_tracker import note_progress, progress_poller
from tests.samples import add_run, claim, get_run


def test_rate_and_time_left_come_from_the_last_minute(store):
    run_id = add_run(store)
    claim(store)
    run = replace(get_run(store, run_id), total=1_000)
    assert note_progress(run, 100.0)["rate_per_s"] is None
    status = note_progress(replace(run, done=50), 105.0)
    assert (status["rate_per_s"], status["eta_s"]) == (10.0, 95.0)
    # a minute later only the last minute counts: (350 - 50) / 60 = 5 per second
    status = note_progress(replace(run, done=350), 165.0)
    assert (status["rate_per_s"], status["eta_s"]) == (5.0, 130.0)


def test_a_resume_starts_the_pace_anew(store):
    run_id = add_run(store)
    claim(store)
    run = replace(get_run(store, run_id), total=1_000, done=500)
    note_progress(run, 10.0)
    note_progress(replace(run, status=RunStatus.INTERRUPTED), 20.0)
    status = note_progress(run, 30.0)
    assert status["rate_per_s"] is None
    assert (status["done"], status["pct"]) == (500, 50.0)


def test_almost_done_is_never_told_as_done(store):
    run = replace(get_run(store, add_run(store)), total=250_728_258, done=250_728_257)
    assert note_progress(run, 0.0)["pct"] == 99.99
    assert note_progress(replace(run, done=250_728_258), 0.0)["pct"] == 100.0
    assert note_progress(replace(run, failed=1), 0.0)["pct"] == 100.0


def test_the_poller_tells_the_last_state_when_stopped(store):
    run_id = add_run(store)
    told = []
    stop = threading.Event()
    stop.set()
    progress_poller(store, run_id, stop, lambda: 0.0, told.append)
    assert [status["status"] for status in told] == ["queued"]
