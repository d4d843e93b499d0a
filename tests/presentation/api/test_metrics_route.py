"""`/metrics` says what the store says, during a run, after it, and after a restart."""

import time
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

import benchlib
from benchlib.application.benchmark_service import BenchmarkService
from benchlib.application.process_metrics import ProcessMonitor
from benchlib.domain.errors import StoreError
from benchlib.domain.records import Answer
from benchlib.infrastructure.execution.executor import create_client, execute_benchmark_run
from benchlib.infrastructure.execution.worker import Worker
from benchlib.infrastructure.storage import runs
from benchlib.presentation.api.guard import Guard
from benchlib.settings import Settings
from tests.apis import api_over
from tests.fake_vllm import fake_vllm_process
from tests.samples import HANGS_SECONDS, Clock, add_dataset, add_run, claim, get_run, worker_context
from tests.scripted_client import ScriptedClient, rate, unusable


@pytest.fixture
def connect(store, tmp_path):
    """Gives `connect(worker=None) -> scrape`; `scrape()` is {(name, *labels): value}."""

    def make(worker=None):
        service = BenchmarkService(store, worker, Settings(data_dir=tmp_path))
        guarded = Guard(api_over(service), None)
        client = TestClient(guarded, base_url="http://127.0.0.1:8501", client=("127.0.0.1", 1))

        def scrape():
            answer = client.get("/metrics")
            assert answer.status_code == 200, answer.text
            assert answer.headers["content-type"].startswith("text/plain; version=")
            return {
                (sample.name, *sample.labels.values()): sample.value
                for family in text_string_to_metric_families(answer.text)
                for sample in family.samples
            }

        return scrape

    return make


def test_during_a_run_and_after_it_the_figures_are_the_stores(store, connect):
    scrape = connect()
    run_id = add_run(store, max_attempts=2)
    assert scrape()["benchlib_queue_length",] == 1
    assert ("benchlib_run_lease_age_seconds", "1") not in scrape()
    claim(store)
    during = []

    def script(question):
        if len(client.asked) > 20 and not during:
            during.append((get_run(store, run_id), scrape(), get_run(store, run_id)))
        return Answer(rate(question)) if question.item.persona.id % 3 else unusable()

    client = ScriptedClient(script)
    execute_benchmark_run(worker_context(store, client), run_id)
    ((before, seen, after),) = during  # answers are stored meanwhile, by another thread
    assert 0 < seen["benchlib_items_rated",] < after.total
    assert before.done <= seen["benchlib_items_rated",] <= after.done
    assert before.failed <= seen["benchlib_items_failed",] <= after.failed
    unusable_before, unusable_after = (
        run.tally["failures"].get("unusable", 0) for run in (before, after)
    )
    assert unusable_before <= seen["benchlib_failed_attempts", "unusable"] <= unusable_after
    assert seen["benchlib_failed_attempts", "timeout"] == 0
    assert seen["benchlib_runs", "running"] == 1
    assert seen["benchlib_queue_length",] == 0
    assert seen["benchlib_run_items_rated_total", "1"] == seen["benchlib_items_rated",]
    assert seen["benchlib_run_items_failed", "1"] == seen["benchlib_items_failed",]
    assert seen["benchlib_run_items_planned", "1"] == after.total
    assert seen["benchlib_run_lease_age_seconds", "1"] >= 0
    assert seen["benchlib_store_up",] == 1

    run = get_run(store, run_id)
    assert run.status == "partial"
    for seen in (scrape(), connect()()):  # the second is a process that was just started
        assert seen["benchlib_items_rated",] == run.done
        assert seen["benchlib_items_failed",] == run.failed
        assert seen["benchlib_failed_attempts", "unusable"] == run.tally["failures"]["unusable"]
        assert seen["benchlib_runs", "partial"] == 1
        assert seen["benchlib_runs", "running"] == 0
        assert ("benchlib_run_items_rated_total", "1") not in seen


def test_what_is_in_flight_is_told_by_address(store, connect):
    with fake_vllm_process("--latency", "0.2") as address:
        worker = Worker(replace(worker_context(store, ScriptedClient()), make_client=create_client))
        scrape = connect(worker)
        assert scrape()["benchlib_executor_up",] == 0
        add_run(store, vllm_base_url=address, model_name="fake-model", max_concurrency=2)
        worker.start()
        try:
            requests = ("benchlib_requests_in_flight", address)
            last = time.monotonic() + HANGS_SECONDS
            while not (seen := scrape()).get(requests):  # another process: can only be polled
                assert time.monotonic() < last
            assert seen["benchlib_executor_up",] == 1
            assert seen[requests] in (1, 2)
            assert seen["benchlib_items_in_flight", address] >= seen[requests]
            assert seen["benchlib_address_usable", address] == 1
            assert seen["benchlib_build_info", "abc", benchlib.__version__] == 1
            while get_run(store, 1).status == "running":
                assert time.monotonic() < last
            while requests in scrape():
                assert time.monotonic() < last
        finally:
            worker.stop()
    assert get_run(store, 1).status == "done"


def test_where_people_log_in_a_monitor_needs_the_token(store, tmp_path):
    service = BenchmarkService(store, None, Settings(data_dir=tmp_path))
    guarded = Guard(api_over(service), "token-9c1e-of-tests", has_users=True)
    client = TestClient(guarded, base_url="http://127.0.0.1:8501")
    assert client.get("/metrics").status_code == 401
    known = {"Authorization": "Bearer token-9c1e-of-tests"}
    assert "benchlib_store_up 1.0" in client.get("/metrics", headers=known).text


def test_the_age_of_a_lease_is_that_of_the_heartbeat_as_seen(store):
    clock = Clock()
    monitor = ProcessMonitor(store, None, clock.monotonic)
    run_id = add_run(store)
    claim(store, "elsewhere")

    def age():
        (active,) = monitor.metrics()["store"]["active"]
        return active["lease_age_s"]

    assert age() == 0
    clock.seconds += 7
    assert age() == 7
    with store.write() as session:
        runs.renew(session, run_id, "elsewhere", changed=False, values={})
    assert age() == 0


def test_every_write_is_counted_with_its_duration(store, connect):
    scrape = connect()
    before = scrape()
    add_dataset(store)
    with pytest.raises(ValueError, match="no"), store.write():
        raise ValueError("no")
    after = scrape()
    name = "benchlib_store_write_seconds"
    assert after[f"{name}_count",] - before[f"{name}_count",] == 2
    assert after[f"{name}_bucket", "+Inf"] == after[f"{name}_count",]
    assert after[f"{name}_sum",] > before[f"{name}_sum",]
    buckets = [value for key, value in after.items() if key[0] == f"{name}_bucket"]
    assert buckets == sorted(buckets)


def test_a_store_that_is_away_is_told_and_the_rest_still_comes(store, connect, monkeypatch):
    def away(_session):
        raise StoreError("The store does not answer.")

    monkeypatch.setattr(runs, "list_counters", away)
    seen = connect()()
    assert seen["benchlib_store_up",] == 0
    assert ("benchlib_items_rated",) not in seen
    assert ("benchlib_store_write_seconds_count",) in seen
