import logging
from dataclasses import replace

import pytest
from sqlalchemy import text

from benchlib.domain.vocabulary import RunStatus
from benchlib.infrastructure.storage import answer_blocks, benchmark_cache, runs
from benchlib.infrastructure.storage.benchmark_cache import (
    cache_key,
    clear_cached,
    get_cached,
    put_cached,
    result_row_count,
)
from tests.rated_runs import add_rated_run, execute_sql, people
from tests.samples import NOW, get_run


def rated(store, **changes):
    return add_rated_run(store, lambda *_: 3, personas=people(3, gender=("f", "m")), **changes)


def asked_by(store, run):
    with store.read() as session:
        return answer_blocks.fetch_trait_digest(session, run.config.trait_ids)


def test_a_key_holds_everything_a_panel_depends_on(store):
    run = get_run(store, rated(store))
    asked = asked_by(store, run)
    key = cache_key(run, "deltas", {"alpha": 0.05}, 12, asked)
    assert key == cache_key(run, "deltas", {"alpha": 0.05}, 12, asked)
    others = [
        cache_key(run, "forest", {"alpha": 0.05}, 12, asked),
        cache_key(run, "deltas", {"alpha": 0.01}, 12, asked),
        cache_key(run, "deltas", {"alpha": 0.05}, 13, asked),
        cache_key(run, "deltas", {"alpha": 0.05}, 12, "other traits"),
        *(
            cache_key(replace(run, **change), "deltas", {"alpha": 0.05}, 12, asked)
            for change in (
                {"id": 99},
                {"data_version": run.data_version + 1},
                {"total": 99},
                {"failed": 1},
                {"status": RunStatus.PARTIAL},
                {"dataset_id": 99},
                {"config": replace(run.config, language="de")},
                {"config": replace(run.config, seed=8)},
                {"tally": {**run.tally, "failures": {"timeout": 3}}},
            )
        ),
    ]
    assert len({key, *others}) == 1 + len(others)


@pytest.mark.parametrize(
    "change",
    [
        "valence = -valence",
        "category = 'other'",
        "case_id = 'other'",
        """adjective = '{"en": "other"}'""",
    ],
)
def test_a_digest_of_traits_sees_an_edited_row(any_store, change):
    run = get_run(any_store, rated(any_store))
    before = asked_by(any_store, run)
    assert asked_by(any_store, run) == before
    execute_sql(any_store, f"UPDATE trait SET {change} WHERE id = {run.config.trait_ids[0]}")
    assert asked_by(any_store, run) != before


def test_a_new_analysis_version_makes_new_keys(store, monkeypatch):
    run = get_run(store, rated(store))
    key = cache_key(run, "deltas", {}, 12)
    monkeypatch.setattr(benchmark_cache, "ANALYSIS_VERSION", "next")
    assert cache_key(run, "deltas", {}, 12) != key


def test_a_panel_comes_back_as_it_was(any_store):
    run_id = rated(any_store)
    panel = {"ok": True, "rows": [{"delta": 0.25, "p_value": None, "category": "ä"}]}
    put_cached(any_store, "key", run_id, "deltas", panel, NOW)
    assert get_cached(any_store, "key") == panel
    put_cached(any_store, "key", run_id, "deltas", {"ok": False}, NOW)
    assert get_cached(any_store, "key") == {"ok": False}
    assert get_cached(any_store, "another") is None


def test_an_unreadable_entry_is_a_logged_miss(store, caplog):
    run_id = rated(store)
    put_cached(store, "key", run_id, "deltas", {"ok": True}, NOW)
    for damage in ("x'00'", "x'789c030000000001'"):  # no zlib stream; an empty one
        execute_sql(store, f"UPDATE benchcache SET payload = {damage}")
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert get_cached(store, "key") is None
        assert "cannot be read" in caplog.text
    put_cached(store, "key", run_id, "deltas", {"ok": True}, NOW)
    assert get_cached(store, "key") == {"ok": True}


def test_a_panel_of_a_deleted_run_is_not_stored(any_store):
    run_id = rated(any_store)
    with any_store.write() as session:
        runs.delete_run(session, run_id)
    put_cached(any_store, "key", run_id, "deltas", {"ok": True}, NOW)
    assert get_cached(any_store, "key") is None


def test_clearing_counts_panels_and_spares_other_runs(any_store):
    first, second = rated(any_store), rated(any_store, name="other")
    for number, run_id in enumerate((first, first, second)):
        put_cached(any_store, f"key-{number}", run_id, "deltas", {}, NOW)
    result_row_count(any_store, get_run(any_store, first))
    assert clear_cached(any_store, first) == 2
    assert get_cached(any_store, "key-0") is None
    assert get_cached(any_store, "key-2") == {}


def test_rows_are_counted_once_per_content(store, monkeypatch):
    run_id = rated(store)
    assert result_row_count(store, get_run(store, run_id)) == 12
    with monkeypatch.context() as patch:
        patch.setattr(benchmark_cache, "_count", lambda *_: pytest.fail("counted again"))
        assert result_row_count(store, get_run(store, run_id)) == 12
        benchmark_cache._COUNTS.clear()  # as in a process that just started
        assert result_row_count(store, get_run(store, run_id)) == 12
    execute_sql(store, "DELETE FROM benchmarkresult WHERE trait_id = (SELECT MAX(id) FROM trait)")
    assert result_row_count(store, get_run(store, run_id)) == 9


def test_a_count_is_not_stored_where_nothing_may_be_written(store):
    run_id = rated(store)
    benchmark_cache._COUNTS.clear()
    assert result_row_count(store, get_run(store, run_id), keep=False) == 12
    with store.read() as session:
        assert session.connection().execute(text("SELECT COUNT(*) FROM benchcache")).scalar() == 0
