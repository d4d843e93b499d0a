"""No panel is ever stale; cached panels, warm-up and clearing."""

import logging
import threading
from time import monotonic, sleep

import pytest
from sqlalchemy import text

from benchlib.application.analysis import group_panels
from benchlib.application.benchmark_service import BenchmarkService
from benchlib.domain.errors import NotFound, ReadOnly
from benchlib.domain.vocabulary import RunStatus
from benchlib.infrastructure.loading import data_loader
from benchlib.infrastructure.storage import benchmark_cache, runs, traits
from benchlib.settings import Settings
from tests.application.analysis.rated_panels import (
    biased,
    panels,
)
from tests.rated_runs import add_rated_run, execute_sql, people
from tests.samples import HANGS_SECONDS, NOW, get_run

# -- never a stale number ----------------------------------------------------------------------


def delta_of(service, run_id):
    return {row["category"]: row["delta"] for row in service.get_deltas(run_id, "gender")["rows"]}


def test_an_edited_rating_is_seen_at_once(any_store, tmp_path):
    service = BenchmarkService(any_store, None, Settings(data_dir=tmp_path))
    run_id = add_rated_run(
        any_store, biased, personas=people(12, gender=("f", "m")), orders=("in", "rev")
    )
    before = {name: compute() for name, compute in panels(service, run_id).items()}
    execute_sql(
        any_store,
        "UPDATE benchmarkresult SET rating_raw = 6 - rating_raw WHERE scale_order = 1",
    )
    after = {name: compute() for name, compute in panels(service, run_id).items()}
    for name in ("metrics", "order", "means", "deltas", "forest", "styles", "health"):
        assert after[name] != before[name], name
    data_loader.forget_all_runs()
    benchmark_cache.clear_cached(any_store, run_id)
    assert after == {name: compute() for name, compute in panels(service, run_id).items()}


def test_a_resumed_run_is_seen_at_once(service, store):
    run_id = add_rated_run(
        store,
        lambda i, t, order: None if i >= 6 else biased(i, t, order),
        personas=people(12, gender=("f", "m")),
        status=RunStatus.PARTIAL,
    )
    before = service.get_metrics(run_id)
    assert (before["n"], before["preliminary"], before["missing"]) == (24, True, 24)
    with store.write() as session:
        runs.requeue(session, run_id)
        runs.claim_next(session, "me", NOW)
        session.connection().exec_driver_sql(
            "INSERT INTO benchmarkresult (run_id, persona_id, trait_id, scale_order, rating_raw, "
            "attempt, latency_ms, answered_at) SELECT r.id, p.id, t.id, 0, 4, 1, 0, 0 "
            "FROM benchmarkrun r, persona p, trait t WHERE p.id NOT IN "
            "(SELECT persona_id FROM benchmarkresult)"
        )
        runs.renew(session, run_id, "me", changed=True, values={"done": 48})
    running = service.get_metrics(run_id)
    assert (running["n"], running["preliminary"]) == (48, True)
    with store.write() as session:
        runs.finish(session, run_id, "me", RunStatus.DONE, None, NOW)
    done = service.get_metrics(run_id)
    assert (done["n"], done["preliminary"], done["missing"]) == (48, False, 0)


def test_a_new_trait_version_changes_no_panel_and_an_edited_row_all(service, store, run_id):
    before = service.get_deltas(run_id, "gender")
    with store.write() as session:
        old = traits.get_traits(session, get_run(store, run_id).config.trait_ids)[0]
        draft = traits.TraitDraft(old.case_id, old.adjective, old.question, "other", -1)
        traits.edit_trait(session, old.id, draft, now=NOW)
    assert service.get_deltas(run_id, "gender") == before
    execute_sql(store, f"UPDATE trait SET valence = 0 WHERE id = {old.id}")
    assert service.get_deltas(run_id, "gender")["n_traits"] == 3


def test_a_running_run_is_read_live_and_keeps_no_panel(service, store):
    run_id = add_rated_run(
        store,
        lambda i, t, order: None if i >= 6 else biased(i, t, order),
        personas=people(12, gender=("f", "m")),
        status=RunStatus.RUNNING,
    )
    for name, compute in panels(service, run_id).items():
        panel = compute()
        assert panel["preliminary"], name
        assert panel["missing"] == 24, name
    assert count_cached(store) == 0
    with store.write() as session:
        session.connection().exec_driver_sql("UPDATE benchmarkresult SET rating_raw = 1")
    assert service.get_metrics(run_id)["hist"]["counts"] == [24, 0, 0, 0, 0]


def count_cached(store):
    with store.read() as session:
        return session.connection().execute(text("SELECT COUNT(*) FROM benchcache")).scalar()


def test_an_unreadable_entry_is_computed_again(service, store, run_id, caplog):
    before = service.get_deltas(run_id, "gender")
    execute_sql(store, "UPDATE benchcache SET payload = x'00'")
    with caplog.at_level(logging.WARNING):
        assert service.get_deltas(run_id, "gender") == before
    assert "cannot be read" in caplog.text
    caplog.clear()
    assert service.get_deltas(run_id, "gender") == before
    assert caplog.text == ""


def test_read_only_reads_cached_panels_and_writes_none(service, store, run_id, tmp_path):
    kept = service.get_deltas(run_id, "gender")
    before = count_cached(store)
    folder = tmp_path / "elsewhere"
    reader = BenchmarkService(store, None, Settings(data_dir=folder, read_only=True))
    data_loader.forget_all_runs()
    assert reader.get_deltas(run_id, "gender") == kept
    assert reader.analysis.get_panel(group_panels.omnibus, run_id)["ok"]
    assert count_cached(store) == before
    assert not folder.exists()
    for forbidden in (reader.analysis.start_warm_cache, reader.analysis.clear_cache):
        with pytest.raises(ReadOnly):
            forbidden(run_id)


def test_threads_that_want_the_same_panel_compute_it_once(service, run_id, monkeypatch):
    computed = []
    compute = group_panels.compute_all_deltas

    def slowly(*args, **named):
        computed.append(1)
        sleep(0.2)
        return compute(*args, **named)

    monkeypatch.setattr(group_panels, "compute_all_deltas", slowly)
    found = []
    threads = [
        threading.Thread(
            target=lambda: found.append(service.analysis.get_panel(group_panels.all_deltas, run_id))
        )
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(computed) == 1
    assert all(panel == found[0] for panel in found)
    assert service.analysis._cache._computing._wanted == {}


# -- warming and clearing ----------------------------------------------------------------------


def test_warming_computes_what_pages_open_with(service, store, run_id, monkeypatch):
    assert service.analysis.get_warm_cache(run_id)["status"] == "idle"
    service.analysis.start_warm_cache(run_id)
    limit = monotonic() + HANGS_SECONDS
    while service.analysis.get_warm_cache(run_id)["status"] == "running":
        assert monotonic() < limit
        sleep(0.02)
    job = service.analysis.get_warm_cache(run_id)
    assert job["status"] == "done", job
    names = [step["name"] for step in job["steps"]]
    assert {"health", "deltas", "forest: gender", "deltas: warmth", "omnibus"} <= set(names)
    monkeypatch.setattr(data_loader, "load_run_cached", lambda *_, **__: pytest.fail("loaded"))
    for name, compute in panels(service, run_id).items():
        if name not in ("neutral deltas", "forest", "all forests", "components within"):
            assert compute()["ok"]
    service.get_forest(run_id, "origin")


def test_clearing_forgets_panels_and_snapshots(service, store, run_id, tmp_path):
    service.get_metrics(run_id)
    service.get_deltas(run_id, "gender")
    assert len(list((tmp_path / "snapshots").glob("*.npz"))) == 1
    assert service.analysis.clear_cache(run_id) == {"ok": True, "deleted": 2, "snapshots": 1}
    assert count_cached(store) == 0
    assert service.analysis.clear_cache(run_id)["deleted"] == 0
    with pytest.raises(NotFound):
        service.analysis.clear_cache(99)
