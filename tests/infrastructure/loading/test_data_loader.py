import logging
import threading
import zipfile

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from benchlib.domain.analysis.answer_grid import GIVEN_UP
from benchlib.domain.vocabulary import RunStatus
from benchlib.infrastructure.loading import data_loader, snapshots
from benchlib.infrastructure.lru import Lru
from benchlib.infrastructure.storage import answer_blocks, datasets, runs
from benchlib.infrastructure.storage.database import open_store
from tests.rated_runs import add_rated_run, execute_sql, people
from tests.samples import get_run


def digit(i, t, order):
    return 1 + (i + 2 * t + (order == "rev")) % 5


@pytest.fixture(autouse=True)
def _nothing_in_memory():
    data_loader.forget_all_runs()
    yield
    data_loader.forget_all_runs()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "snapshots"


@pytest.fixture
def run_id(store):
    return add_rated_run(store, digit, personas=people(6, gender=("f", "m")), orders=("in", "rev"))


def peaked(i, t, order):
    shares = [0.1, 0.1, 0.1, 0.1, 0.1, 0.9]
    shares[digit(i, t, order) - 1] = 0.6
    return shares


def test_a_frame_holds_what_was_answered_and_what_it_means(any_store):
    run_id = add_rated_run(
        any_store,
        digit,
        personas=people(3, gender=("f", "m")),
        orders=("in", "rev"),
        shares=lambda i, t, order: peaked(i, t, order) if i else None,
    )
    frame = data_loader.load_run_df(any_store, get_run(any_store, run_id))
    assert len(frame) == 3 * 4 * 2
    assert frame["persona_id"].is_monotonic_increasing
    first = frame.iloc[:4].drop(columns=["persona_id", "trait_id"])
    assert first["rating_raw"].tolist() == [1, 2, 3, 4]  # traits 0 and 1, in and rev
    assert first["scale_order"].tolist() == ["in", "rev", "in", "rev"]
    assert first["rating_pre_valence"].tolist() == [1, 4, 3, 2]  # 6 - r where reversed
    assert first["rating"].tolist() == [1, 4, 3, 2]
    assert first["case_id"].tolist() == ["rated-trait-0"] * 2 + ["rated-trait-1"] * 2
    assert first["gender"].tolist() == ["f"] * 4
    third = frame[(frame["valence"] == -1)].iloc[0]
    assert (third["rating_pre_valence"], third["rating"]) == (5, 1)
    assert frame["expected_raw"].isna().sum() == 8  # the first persona has no distributions
    # the digit 2 with .6 and .1 elsewhere: (1 + 3 + 4 + 5) * .1 + 2 * .6 = 2.5
    second = frame[(frame["gender"] == "m") & (frame["rating_raw"] == 2)].iloc[0]
    assert second["expected_raw"] == pytest.approx(2.5, abs=1e-9)


def test_an_empty_run_gives_the_same_columns(any_store):
    run_id = add_rated_run(any_store, lambda *_: None, personas=people(2, gender=("f", "m")))
    empty = data_loader.load_run_df(any_store, get_run(any_store, run_id))
    full_id = add_rated_run(any_store, digit, personas=people(2, gender=("f", "m")), name="full")
    full = data_loader.load_run_df(any_store, get_run(any_store, full_id))
    assert len(empty) == 0
    assert list(empty.columns) == list(full.columns)


@pytest.mark.parametrize("block", [3, 64_000])
def test_answers_are_read_block_by_block(any_store, monkeypatch, block):
    monkeypatch.setattr(answer_blocks, "_CHUNK", block)
    monkeypatch.setattr(
        answer_blocks, "_BLOCK_CHUNKS", 2
    )  # blocks of 6 answers end within a persona
    run_id = add_rated_run(
        any_store,
        lambda i, t, order: None if (i, t) == (1, 1) else digit(i, t, order),
        personas=people(3, gender=("f", "m")),
        shares=lambda i, t, order: [0.2, 0.2, 0.2, 0.2, 0.2, 0.8 if i else 0.95],
        failed=[(1, 1)],
    )
    loaded = data_loader.load_run_cached(any_store, get_run(any_store, run_id))
    # 1 + (i + 2 t) % 5 in order `in`; persona 1 gave none for trait 1, which was given up
    assert loaded.grid.digits[0].tolist() == [[1, 3, 5, 2], [2, -1, 1, 3], [3, 5, 2, 4]]
    assert not loaded.grid.digits[1].any()
    assert loaded.grid.expected[0][loaded.grid.rated[0]] == pytest.approx(np.full(11, 3.0))
    assert np.isnan(loaded.grid.expected).sum() == 13
    sums = loaded.distributions
    assert sums.n.tolist() == [3, 2, 3, 3]
    assert sums.probabilities == pytest.approx(np.outer([3, 2, 3, 3], [0.2] * 5))
    assert sums.n_low_mass.tolist() == [2, 1, 2, 2]
    assert sums.mass.sum() == pytest.approx(7 * 0.8 + 4 * 0.95)


def test_a_persona_that_is_not_in_the_dataset_counts_as_unknown(store, run_id):
    other = add_rated_run(store, digit, personas=people(9, gender=("f", "m")), name="other")
    stranger = data_loader.load_run_df(store, get_run(store, other))["persona_id"].max()
    trait = get_run(store, run_id).config.trait_ids[0]
    execute_sql(
        store,
        "INSERT INTO benchmarkresult (run_id, persona_id, trait_id, scale_order, rating_raw, "
        f"attempt, latency_ms, answered_at) VALUES ({run_id}, {stranger}, {trait}, 0, 5, 1, 0, 0)",
    )
    loaded = data_loader.load_run_cached(store, get_run(store, run_id))
    assert loaded.grid.n_answers == 49
    assert loaded.grid.digits[0, -1].tolist() == [5, 0, 0, 0]
    assert loaded.cells().attributes["gender"].tolist() == ["f", "m"] * 3 + ["Unknown"]


def test_attributes_with_names_of_columns_break_nothing(store, folder):
    personas = people(6, rating=("f", "m"), valence=("a", "b", "c"), attribute_rating=("x", "y"))
    run_id = add_rated_run(store, digit, personas=personas)
    run = get_run(store, run_id)
    frame = data_loader.df_for_read(store, run, folder)
    assert frame["rating"].dtype == np.int8
    assert frame["attribute_attribute_rating"].tolist()[:8] == ["f"] * 4 + ["m"] * 4
    assert frame["attribute_rating"].tolist()[:8] == ["x"] * 4 + ["y"] * 4
    assert set(frame["attribute_valence"]) == {"a", "b", "c"}
    cells = data_loader.load_run_cached(store, run, folder).cells()
    assert sorted(cells.attributes.columns) == ["attribute_rating", "rating", "valence"]
    assert cells.attributes["rating"].tolist() == ["f", "m"] * 3


def test_personas_and_traits_without_answers_take_part_as_missing(store):
    run_id = add_rated_run(
        store,
        lambda i, t, order: None if i == 2 or t == 3 else digit(i, t, order),
        personas=people(4, gender=("f", "m")),
        status=RunStatus.PARTIAL,
    )
    loaded = data_loader.load_run_cached(store, get_run(store, run_id))
    cells = loaded.cells()
    assert (cells.n_personas, cells.n_traits) == (4, 4)
    assert (cells.n_ratings, cells.n_missing) == (9, 7)
    assert loaded.grid.n_answers == 9
    assert loaded.grid.n_rated_personas == 3


def test_questions_that_were_given_up_are_attempts(store):
    run_id = add_rated_run(
        store,
        lambda i, t, order: None if t == 3 and i % 2 else digit(i, t, order),
        personas=people(4, gender=("f", "m")),
        status=RunStatus.PARTIAL,
        failed=[(1, 3), (3, 3)],
    )
    grid = data_loader.load_run_cached(store, get_run(store, run_id)).grid
    assert (grid.digits[0] == GIVEN_UP).sum(axis=0).tolist() == [0, 0, 0, 2]
    assert grid.n_answers == 14


def test_a_running_run_is_read_live_and_leaves_no_snapshot(store, folder):
    run_id = add_rated_run(
        store, digit, personas=people(4, gender=("f", "m")), status=RunStatus.RUNNING
    )
    before = data_loader.df_for_read(store, get_run(store, run_id), folder)
    with store.write() as session:
        runs.renew(session, run_id, "me", changed=True, values={})
        first = "SELECT MIN(persona_id) FROM benchmarkresult"
        session.connection().exec_driver_sql(
            f"DELETE FROM benchmarkresult WHERE persona_id = ({first})"
        )
    after = data_loader.df_for_read(store, get_run(store, run_id), folder)
    assert (len(before), len(after)) == (16, 12)
    assert not folder.exists()


def test_the_same_content_is_read_once(store, folder, run_id):
    run = get_run(store, run_id)
    first = data_loader.load_run_cached(store, run, folder)
    again = data_loader.load_run_cached(store, run, folder)
    assert again.grid is first.grid
    assert again.cells() is first.cells(use_expected=False)  # there are no distributions
    data_loader.forget_run(store, run_id)
    assert data_loader.load_run_cached(store, run, folder).grid is not first.grid


def test_threads_read_a_run_once(store, folder, run_id, monkeypatch):
    reads = []
    read = answer_blocks.iter_answers
    monkeypatch.setattr(answer_blocks, "iter_answers", lambda *a: reads.append(1) or read(*a))
    run = get_run(store, run_id)
    threads = [
        threading.Thread(target=data_loader.load_run_cached, args=(store, run, folder))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reads) == 1


def test_memory_holds_few_runs(store, folder, monkeypatch):
    monkeypatch.setattr(data_loader, "_RUNS", Lru(2))
    ids = [
        add_rated_run(store, digit, personas=people(2, gender=("f", "m")), name=f"r{i}")
        for i in range(3)
    ]
    first = data_loader.load_run_cached(store, get_run(store, ids[0]), folder)
    for run_id in ids[1:]:
        data_loader.load_run_cached(store, get_run(store, run_id), folder)
    again = data_loader.load_run_cached(store, get_run(store, ids[0]), folder)
    assert again.grid is not first.grid


def test_a_snapshot_gives_the_same_frame(store, folder):
    run_id = add_rated_run(
        store,
        digit,
        personas=people(6, gender=("f", "m"), origin=("n", "s", "Unknown")),
        orders=("in", "rev"),
        shares=peaked,
    )
    run = get_run(store, run_id)
    live = data_loader.load_run_df(store, run)
    first = data_loader.load_run_df_cached(store, run, folder)
    assert len(list(folder.glob("*.npz"))) == 1
    data_loader.forget_all_runs()
    execute_sql(store, "DROP TRIGGER result_delete")
    execute_sql(store, "DELETE FROM benchmarkresult")  # the snapshot must not need the rows
    again = data_loader.load_run_df_cached(store, run, folder)
    assert_frame_equal(first, live)
    assert_frame_equal(again, live)
    sums = data_loader.load_run_cached(store, run, folder).distributions.together()
    assert sums.mass / sums.n_mass == pytest.approx([0.9])


@pytest.mark.parametrize("damage", ["truncated", "flipped", "another length", "no archive"])
def test_a_damaged_snapshot_is_a_logged_miss(store, folder, run_id, damage, caplog):
    run = get_run(store, run_id)
    live = data_loader.load_run_df_cached(store, run, folder)
    data_loader.forget_all_runs()
    path = next(folder.glob("*.npz"))
    content = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        with zipfile.ZipFile(path) as file:
            start = file.getinfo("digits.npy").header_offset
        place = start + 30 + len("digits.npy") + 20 + 128
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
    elif damage == "another length":
        other = snapshots.load_snapshot(snapshots.snapshot_key(folder, store.database, run, 48), 48)
        other.answers.digits[:, 0] = 0
        key = snapshots.snapshot_key(folder, store.database, run, 48)
        snapshots.write_snapshot(key, other, {run_id})
    else:
        path.write_bytes(b"something else")
    with caplog.at_level(logging.WARNING):
        again = data_loader.load_run_df_cached(store, run, folder)
    assert "reading the store" in caplog.text
    assert_frame_equal(again, live)
    data_loader.forget_all_runs()
    caplog.clear()
    data_loader.load_run_df_cached(store, run, folder)  # it was written again
    assert caplog.text == ""


def test_an_edited_rating_makes_a_snapshot_stale(store, folder, run_id):
    before = data_loader.load_run_df_cached(store, get_run(store, run_id), folder)
    execute_sql(store, "UPDATE benchmarkresult SET rating_raw = 5 WHERE rating_raw = 1")
    after = data_loader.load_run_df_cached(store, get_run(store, run_id), folder)
    assert (before["rating_raw"] == 1).any()
    assert not (after["rating_raw"] == 1).any()
    assert len(list(folder.glob("*.npz"))) == 1  # the older one went


def test_an_edited_trait_is_seen_though_the_snapshot_fits(store, folder, run_id):
    run = get_run(store, run_id)
    data_loader.load_run_df_cached(store, run, folder)
    execute_sql(store, "UPDATE trait SET valence = -valence")
    after = data_loader.load_run_df_cached(store, run, folder)
    assert after[after["case_id"] == "rated-trait-0"]["valence"].unique().tolist() == [-1]
    data_loader.forget_all_runs()
    assert_frame_equal(data_loader.load_run_df_cached(store, run, folder), after)


def test_ratings_of_traits_the_run_does_not_ask_about_are_left_out(store, folder, run_id, caplog):
    other = add_rated_run(store, digit, personas=people(2, gender=("f", "m")), name="other")
    stranger = get_run(store, other).config.trait_ids[0]
    execute_sql(
        store,
        "INSERT INTO benchmarkresult (run_id, persona_id, trait_id, scale_order, rating_raw, "
        f"attempt, latency_ms, answered_at) VALUES ({run_id}, 1, {stranger}, 0, 5, 1, 0, 0)",
    )
    for _ in ("from the store", "from the snapshot"):
        data_loader.forget_all_runs()
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            frame = data_loader.load_run_df_cached(store, get_run(store, run_id), folder)
        assert len(frame) == 48
        assert "1 ratings of other traits left out" in caplog.text
        assert "cannot be read" not in caplog.text


def test_another_database_in_the_same_place_is_recognised(tmp_path, folder):
    path = tmp_path / "store.db"
    frames = []
    for raw in (2, 4):
        store = open_store(f"sqlite:///{path}")
        run_id = add_rated_run(
            store, lambda i, t, order, raw=raw: raw, personas=people(2, gender=("f", "m"))
        )
        execute_sql(store, f"UPDATE benchmarkrun SET created_at = created_at + {raw}")
        frames.append(data_loader.load_run_df_cached(store, get_run(store, run_id), folder))
        store.close()
        path.rename(tmp_path / f"old-{raw}.db")
    assert [frame["rating_raw"].unique().tolist() for frame in frames] == [[2], [4]]


def test_snapshots_of_deleted_runs_go(store, folder, run_id):
    data_loader.load_run_df_cached(store, get_run(store, run_id), folder)
    other = add_rated_run(store, digit, personas=people(2, gender=("f", "m")), name="other")
    with store.write() as session:
        runs.delete_run(session, run_id)
    data_loader.load_run_df_cached(store, get_run(store, other), folder)
    assert [path.name.split("-")[1] for path in folder.glob("*.npz")] == [str(other)]
    assert snapshots.delete_snapshots(folder, store.database, other) == 1
    assert list(folder.glob("*")) == []


def test_nothing_is_written_unless_requested(store, folder, run_id):
    data_loader.load_run_df_cached(store, get_run(store, run_id), folder, write=False)
    assert not folder.exists()


def test_a_folder_that_cannot_be_written_is_only_logged(store, tmp_path, run_id, caplog):
    (tmp_path / "file").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        frame = data_loader.load_run_df_cached(
            store, get_run(store, run_id), tmp_path / "file" / "snapshots"
        )
    assert len(frame) == 48
    assert "no snapshot of run" in caplog.text


def test_personas_are_read_once_per_dataset(store, run_id, monkeypatch):
    run = get_run(store, run_id)
    first = data_loader.load_personas_cached(store, run.dataset_id)
    monkeypatch.setattr(datasets, "load_personas", lambda *_: pytest.fail("read again"))
    assert data_loader.load_personas_cached(store, run.dataset_id) is first
    assert data_loader.attribute_names(first) == ["gender"]
    assert isinstance(first["gender"].dtype, pd.CategoricalDtype)
