"""A run's answers: read live while it runs, cached in memory and on disk once it is final."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchlib.domain.analysis.answer_grid import AnswerGrid
from benchlib.domain.analysis.cells import Cells, compute_cells
from benchlib.domain.analysis.distributions import DistributionSums
from benchlib.domain.records import RunRecord, TraitRecord
from benchlib.domain.run_state import ACTIVE
from benchlib.domain.vocabulary import N_POINTS, SCALE_ORDERS, UNKNOWN_CATEGORY
from benchlib.infrastructure.loading.answer_reader import mark_given_up, read_answers
from benchlib.infrastructure.loading.snapshots import (
    Snapshot,
    load_snapshot,
    snapshot_key,
    write_snapshot,
)
from benchlib.infrastructure.lru import Lru
from benchlib.infrastructure.storage import answer_blocks, benchmark_cache, datasets, runs, traits
from benchlib.infrastructure.storage.answer_blocks import GivenUp
from benchlib.infrastructure.storage.database import Store

_log = logging.getLogger(__name__)

_MAX_DATASETS: Final = 8
_MAX_RUNS: Final = 4
_MAX_PLACES: Final = 8_000_000
"""Places in the grids of all cached runs together (about 20 bytes each, cells included)."""

_ORDER_TYPE: Final = pd.CategoricalDtype(list(SCALE_ORDERS))
_PERSONA_COLUMNS: Final = frozenset({"persona_id", "uuid", "age"})
_ANSWER_COLUMNS: Final = (
    *("persona_id", "trait_id", "case_id", "label", "trait_category", "valence"),
    *("scale_order", "rating_raw", "expected_raw", "rating_pre_valence", "rating"),
)


@dataclass(eq=False)
class LoadedRun:
    """A run's answers in memory; its parts are shared, so callers must not change them.

    Attributes:
        run: The run when it was read.
        grid: Its answers, over all its personas and traits.
        personas: `persona_id` and one categorical column per attribute, in the order of the
            dataset; all personas of the run, with answers or without.
        asked: The traits of the run, in the order of its configuration.
        distributions: The distributions behind the answers, a group per trait of the grid.
        copies: Ids of the personas that are counterfactuals of others.
        load_links: Reads which persona was made from which; see `datasets.load_links`.
    """

    run: RunRecord
    grid: AnswerGrid
    personas: pd.DataFrame
    asked: Sequence[TraitRecord]
    distributions: DistributionSums
    copies: NDArray[np.int64]
    load_links: Callable[[], pd.DataFrame]
    _cells: dict[tuple[bool, bool], Cells] = field(default_factory=dict)
    # The cells of a run are computed once, by the first caller, and shared by its copies.
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def attributes(self) -> list[str]:
        """Names of the persona attributes."""
        return attribute_names(self.personas)

    @property
    def has_expected(self) -> bool:
        """Whether any answer has a distribution."""
        return self.grid.expected is not None

    @property
    def originals(self) -> AnswerGrid:
        """The answers without those about counterfactuals: all personas are independent.

        A counterfactual repeats the ratings of its source but for one attribute: counted as well,
        it would make groups seem larger than they are, and every interval too short.
        """
        return self.grid.without(self.copies)

    def cells(self, *, use_expected: bool = True, copies: bool = False) -> Cells:
        """The persona x trait reduction over all personas and traits of the run.

        Computed once; personas and traits without any answer take part as missing.

        Args:
            use_expected: Whether expected ratings take the place of digits.
            copies: Whether counterfactuals take part; for paired analyses only, see `originals`.
        """
        name = use_expected and self.has_expected, copies and len(self.copies) > 0
        with self._lock:
            if name not in self._cells:
                grid = self.grid if name[1] else self.originals
                cells = compute_cells(grid, [], use_expected=name[0])
                table = _attribute_table(self.personas, cells.persona_ids)
                self._cells[name] = replace(cells, attributes=table)
            return self._cells[name]


_PERSONAS: Final[Lru[tuple[str, int, str], pd.DataFrame]] = Lru(_MAX_DATASETS)
_PERSONAS_LOCK: Final = threading.Lock()  # a dataset is read by one thread, once

_RUNS: Final[Lru[tuple[str, int], LoadedRun]] = Lru(
    _MAX_RUNS, _MAX_PLACES, lambda loaded: loaded.grid.digits.size
)
_RUN_LOCKS: Final = tuple(threading.Lock() for _ in range(64))
"""A run is read by one thread, once, which holds the lock at the run's id modulo 64."""


def load_run_df(store: Store, run: RunRecord) -> pd.DataFrame:
    """Read every rating of a run from the store.

    Returns:
        One row per rating: persona_id, trait_id, case_id, label, trait_category, valence,
        scale_order (categorical in/rev), rating_raw (1..5 as answered), expected_raw (expected
        digit, NaN without a distribution), rating_pre_valence (scale order undone), rating
        (valence aligned too), and one categorical column per persona attribute, named as
        `attribute_columns` says. Empty runs give the same columns without rows.
    """
    return with_attributes(_load(store, run.id))


def load_run_df_cached(
    store: Store, run: RunRecord, folder: Path | None = None, *, write: bool = True
) -> pd.DataFrame:
    """The same, from memory or a snapshot in `folder` if the run's content has not changed."""
    return with_attributes(load_run_cached(store, run, folder, write=write))


def df_for_read(store: Store, run: RunRecord, folder: Path | None = None) -> pd.DataFrame:
    """What panels of this run are computed from: read live while the run is active."""
    return with_attributes(load_run_cached(store, run, folder))


def with_attributes(loaded: LoadedRun) -> pd.DataFrame:
    """One row per answer, with a column per persona attribute."""
    answers = _frame(loaded.grid)
    ids = loaded.personas["persona_id"].to_numpy(np.int64)
    rows = pd.Index(ids).get_indexer(pd.Index(answers["persona_id"]))
    spread = {
        column: pd.Series(_spread(pd.Categorical(loaded.personas[name]), rows), index=answers.index)
        for name, column in attribute_columns(loaded.attributes).items()
    }
    return pd.concat([answers, pd.DataFrame(spread, index=answers.index)], axis=1)


def attribute_columns(attributes: Sequence[str]) -> dict[str, str]:
    """The frame's column of each attribute: its name, prefixed if answers have such a column."""
    taken = {*_ANSWER_COLUMNS, *attributes}
    names = {}
    for attribute in attributes:
        name = attribute
        while name in _ANSWER_COLUMNS or (name != attribute and name in taken):
            name = f"attribute_{name}"
        taken.add(name)
        names[attribute] = name
    return names


def attribute_names(personas: pd.DataFrame) -> list[str]:
    """The attributes of a persona frame, in its order."""
    return [str(name) for name in personas.columns if name not in _PERSONA_COLUMNS]


def load_personas_cached(store: Store, dataset_id: int) -> pd.DataFrame:
    """A dataset's personas; see `datasets.load_personas`. Datasets never change."""
    with store.read() as session:
        content = datasets.get_dataset(session, dataset_id).content_hash
        key = (store.database, dataset_id, content)
        with _PERSONAS_LOCK:
            frame = _PERSONAS.get(key)
            if frame is None:
                frame = datasets.load_personas(session, dataset_id)
                _PERSONAS.put(key, frame)
    return frame


def load_run_cached(
    store: Store, run: RunRecord, folder: Path | None = None, *, write: bool = True
) -> LoadedRun:
    """Read a run once per content: from memory, from a snapshot, else from the store.

    Args:
        store: Holds the run.
        run: As it is now.
        folder: Holds snapshots; None = none are used.
        write: Whether a snapshot may be written. Only runs that are final get one.
    """
    name = (store.database, run.id)
    with store.read() as session:
        asked = traits.get_traits(session, run.config.trait_ids)
    with _RUN_LOCKS[run.id % len(_RUN_LOCKS)]:
        known = _RUNS.get(name)
        if known is not None and _content(known.run) == _content(run) and known.asked == asked:
            return replace(known, run=run)  # its status may have changed
        loaded = _read(store, run, folder, write=write)
        _RUNS.put(name, loaded)
    return loaded


def forget_run(store: Store, run_id: int) -> None:
    """Drop a run from memory."""
    _RUNS.drop((store.database, run_id))


def forget_all_runs() -> None:
    """Drop every run from memory; for benchmarks and tests."""
    _RUNS.clear()


def _read(store: Store, run: RunRecord, folder: Path | None, *, write: bool) -> LoadedRun:
    if folder is None or run.status in ACTIVE:
        return _load(store, run.id)
    n_rows = benchmark_cache.result_row_count(store, run, keep=write)
    key = snapshot_key(folder, store.database, run, n_rows)
    snapshot = load_snapshot(key, n_rows)
    if snapshot is None:
        fetched = _fetch(store, run.id)
        if write and _content(fetched.run) == _content(run):
            with store.read() as session:
                known = {other.id for other in runs.list_runs(session)}
            write_snapshot(key, fetched.snapshot, known)
        return _loaded(store, fetched)
    with store.read() as session:
        asked = traits.get_traits(session, run.config.trait_ids)
        given_up = answer_blocks.fetch_given_up(session, run.id)
        copies = datasets.load_copies(session, run.dataset_id)
    return _loaded(store, _Fetched(run, asked, given_up, copies, snapshot))


class _Fetched(NamedTuple):
    """A run's answers and what they are about, from one consistent state of the store."""

    run: RunRecord
    asked: Sequence[TraitRecord]
    given_up: GivenUp
    copies: NDArray[np.int64]
    snapshot: Snapshot


def _load(store: Store, run_id: int) -> LoadedRun:
    return _loaded(store, _fetch(store, run_id))


def _fetch(store: Store, run_id: int) -> _Fetched:
    """Read a run from the store, including its record, so that both are of the same state."""
    with store.read() as session:
        run = runs.get_run(session, run_id)
        personas = load_personas_cached(store, run.dataset_id)
        ids = personas["persona_id"].to_numpy(np.int64)
        answers = read_answers(session, run_id, ids, run.config.trait_ids)
        given_up = answer_blocks.fetch_given_up(session, run_id)
        asked = traits.get_traits(session, run.config.trait_ids)
        copies = datasets.load_copies(session, run.dataset_id)
    attributes = personas[["persona_id", *attribute_names(personas)]]
    return _Fetched(run, asked, given_up, copies, Snapshot(answers, attributes))


def _loaded(store: Store, fetched: _Fetched) -> LoadedRun:
    run, asked, given_up, copies, (answers, personas) = fetched
    if answers.n_strangers:
        _log.warning("run %d: %d ratings of other traits left out", run.id, answers.n_strangers)
    mark_given_up(answers, given_up, personas["persona_id"].to_numpy(np.int64))
    by_id = sorted(asked, key=lambda trait: trait.id)
    names = [trait.adjective.get(run.config.language, trait.case_id) for trait in by_id]
    grid = AnswerGrid(
        persona_ids=answers.persona_ids,
        trait_ids=answers.trait_ids,
        traits=pd.DataFrame(
            {
                "case_id": pd.Categorical([trait.case_id for trait in by_id]),
                "label": pd.Categorical(names),
                "trait_category": pd.Categorical([trait.category for trait in by_id]),
                "valence": np.array([trait.valence for trait in by_id], dtype=np.int8),
            }
        ),
        digits=answers.digits,
        expected=answers.expected,
    )

    def load_links() -> pd.DataFrame:
        with store.read() as session:
            return datasets.load_links(session, run.dataset_id)

    return LoadedRun(run, grid, personas, asked, answers.distributions, copies, load_links)


def _frame(grid: AnswerGrid) -> pd.DataFrame:
    """One row per rating, by persona, trait and scale order."""
    persona, trait, order = np.nonzero(grid.rated.transpose(1, 2, 0))
    raw = grid.digits[order, persona, trait]
    valence = grid.traits["valence"].to_numpy()[trait]
    normal = np.where(order == 0, raw, N_POINTS + 1 - raw).astype(raw.dtype)
    texts = ("case_id", "label", "trait_category")
    columns_: Mapping[str, Any] = {
        "persona_id": grid.persona_ids[persona],
        "trait_id": grid.trait_ids[trait],
        **{name: _spread(pd.Categorical(grid.traits[name]), trait) for name in texts},
        "valence": valence,
        "scale_order": pd.Categorical.from_codes(order, dtype=_ORDER_TYPE),
        "rating_raw": raw,
        "expected_raw": np.full(len(raw), np.nan)
        if grid.expected is None
        else grid.expected[order, persona, trait],
        "rating_pre_valence": normal,
        "rating": np.where(valence < 0, N_POINTS + 1 - normal, normal).astype(raw.dtype),
    }
    return pd.DataFrame(columns_, copy=False)


def _attribute_table(personas: pd.DataFrame, ids: np.ndarray[Any, Any]) -> pd.DataFrame:
    """Attributes of the personas with these ids; `Unknown` for one that is not in the dataset."""
    rows = pd.Index(personas["persona_id"]).get_indexer(pd.Index(ids))
    table = {}
    for name in attribute_names(personas):
        values = _spread(pd.Categorical(personas[name]), rows)
        if (rows < 0).any():
            values = values.add_categories(
                [] if UNKNOWN_CATEGORY in values.categories else [UNKNOWN_CATEGORY]
            ).fillna(UNKNOWN_CATEGORY)
        table[name] = values.remove_unused_categories()
    return pd.DataFrame(table, index=pd.RangeIndex(len(ids)))


def _content(run: RunRecord) -> tuple[object, ...]:
    """What a run's answers depend on; the times differ where another database took this name."""
    return (run.data_version, run.done, run.failed, run.created_at, run.started_at)


def _spread(values: "pd.Categorical[Any]", rows: np.ndarray[Any, Any]) -> "pd.Categorical[Any]":
    """The value of each row; a negative row has none."""
    codes = np.append(values.codes, np.array([-1], dtype=values.codes.dtype))
    return pd.Categorical.from_codes(codes[rows], dtype=values.dtype)
