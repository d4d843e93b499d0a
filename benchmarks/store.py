"""What storing results costs: `python3 -m benchmarks.store [--results 1000000]`.

Writes results as a run does (a transaction per commit, with proof that the run is still its
owner's) and, for comparison, the same rows by a bare `executemany` into the same table; then
answers with texts. Also makes the stores that other benchmarks read: a run of any size with a
planted bias, by raw inserts, in the temporary directory.
"""

import argparse
import os
import platform
import pydoc_data.topics
import re
import sqlite3
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from time import perf_counter, process_time

import numpy as np

from benchlib.domain.material.personas import PersonaDraft
from benchlib.domain.material.traits import TraitDraft
from benchlib.domain.records import (
    Answer,
    PersonaRecord,
    Question,
    RunConfig,
    TraitRecord,
    WorkItem,
)
from benchlib.infrastructure.storage import datasets, results, runs, traits
from benchlib.infrastructure.storage.database import Store, open_store
from benchlib.infrastructure.storage.results import Rated

N_TRAITS = 33
N_DUAL = 1 / 99  # so that 30,000 personas x 33 traits make a million answers
CATEGORIES = (2, 3, 4, 5, 6, 8, 10, 14, 18)
"""Categories of the nine attributes: 70 together."""

TRAIT_CATEGORIES = ("competence", "warmth", "morality", "dominance", "appearance", "health")
_LAYOUT = 2  # grows when the content changes, so that an older folder is not taken for a new one
_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_PPB = 1_000_000_000
_BARE_COLUMNS = 17
_TEXT_RESULTS = 100_000

GOAL_SECONDS = 8.0
"""For a million results."""
GOAL_BYTES = 110
"""Per result with its distribution."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=int, default=1_000_000)
    parser.add_argument("--commit", type=int, default=5_000, help="results per transaction")
    chosen = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, ", end="")
    print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, ", end="")
    print(f"{chosen.results:,} results in commits of {chosen.commit:,}")
    titles = ("clock s", "processor s", "bytes per result", "ratio to bare")
    print(f"\n{'':34}" + "".join(f"{title:>16}" for title in titles))
    with tempfile.TemporaryDirectory() as folder:
        ours = insert(Path(folder) / "ours.db", chosen.results, chosen.commit)
        bare = insert_bare(Path(folder) / "ours.db", chosen.commit)
        _print_insert("as a run writes them", ours, bare, chosen.results)
        _print_insert("bare executemany", bare, bare, chosen.results)
        texts = islice(prose(), _TEXT_RESULTS)
        written = insert(Path(folder) / "texts.db", _TEXT_RESULTS, chosen.commit, texts)
        _print_insert("with a text each", written, None, _TEXT_RESULTS)
    sample = [text.encode() for text in islice(prose(), 2_000)]
    plain, packed = (sum(map(len, each)) for each in (sample, map(zlib.compress, sample)))
    print(f"\ntexts of {plain / len(sample):.0f} bytes; zlib makes {packed / plain:.0%} of them")
    print(f"goals: {GOAL_SECONDS:g} s a million, {GOAL_BYTES} bytes per result without text")


def insert(
    path: Path, n_results: int, commit: int, texts: Iterator[str] | None = None
) -> tuple[float, float, float]:
    """Write results as the owner of a run does; clock and processor seconds, bytes per result.

    Making the answers is not counted; checkpoints of the log, which happen meanwhile, are.
    """
    store = open_store(f"sqlite:///{path}")
    with store.write() as session:
        drafts = [PersonaDraft("anybody", {"gender": "f"})]
        dataset_id = datasets.add_dataset(
            session, "benchmark", "imported", drafts, parameters={}, now=_NOW
        )
        trait_ids = traits.add_traits(session, [_trait(i) for i in range(N_TRAITS)], now=_NOW)
        asked = traits.get_traits(session, trait_ids)
        config = RunConfig(
            dataset_id=dataset_id, model_name="benchmark", llm="vllm", trait_ids=tuple(trait_ids)
        )
        run_id = runs.add_run(session, config, n_results, _NOW)
        runs.claim_next(session, "benchmark", _NOW)
    persona = next(datasets.iter_personas(store, dataset_id))
    before = _size(path)
    clock = processor = 0.0
    for done in range(0, n_results, commit):
        rated = _rated(persona, asked, done, min(done + commit, n_results), texts)
        began, spent = perf_counter(), process_time()
        with store.write() as session:
            values = {"done": done + len(rated)}
            assert runs.renew(session, run_id, "benchmark", changed=True, values=values)
            results.add_results(session, run_id, rated)
        clock, processor = clock + perf_counter() - began, processor + process_time() - spent
    with store.read() as session:
        session.connection().exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    store.close()
    return clock, processor, (_size(path) - before) / n_results


def insert_bare(source: Path, commit: int) -> tuple[float, float, float]:
    """The rows of a store once more, by the driver alone into a table without triggers."""
    with sqlite3.connect(source) as connection:
        table = "SELECT sql FROM sqlite_master WHERE name = 'benchmarkresult'"
        schema = connection.execute(table).fetchone()[0]
        rows = connection.execute("SELECT * FROM benchmarkresult").fetchall()
    connection.close()
    path = source.with_name("bare.db")
    bare = sqlite3.connect(path, isolation_level=None)
    bare.execute("PRAGMA journal_mode = WAL")
    bare.execute("PRAGMA synchronous = FULL")
    bare.execute(re.sub(r",\s*FOREIGN KEY\([^)]*\) REFERENCES \w+ \(\w+\)", "", schema))
    marks = ", ".join("?" * _BARE_COLUMNS)
    began, spent = perf_counter(), process_time()
    for begin in range(0, len(rows), commit):
        bare.execute("BEGIN IMMEDIATE")
        bare.executemany(
            f"INSERT INTO benchmarkresult VALUES ({marks})", rows[begin : begin + commit]
        )
        bare.execute("COMMIT")
    clock, processor = perf_counter() - began, process_time() - spent
    bare.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    bare.close()
    return clock, processor, _size(path) / len(rows)


def prose() -> Iterator[str]:
    """Texts as long as a rationale, one after the other: passages of Python's own manual."""
    words = " ".join(pydoc_data.topics.topics.values()).split()
    while True:
        for begin in range(0, len(words) - 50, 50):
            yield " ".join(words[begin : begin + 50])


def _rated(
    persona: PersonaRecord,
    asked: list[TraitRecord],
    begin: int,
    end: int,
    texts: Iterator[str] | None,
) -> list[Rated]:
    rng = np.random.default_rng(begin)
    shares = rng.dirichlet(np.ones(5), end - begin).tolist()
    digits = (1 + rng.integers(0, 5, end - begin)).tolist()
    return [
        Rated(
            Question(
                WorkItem(replace(persona, id=1 + i // N_TRAITS), asked[i % N_TRAITS], "in"), "", ""
            ),
            Answer(
                rating_raw=digit,
                probabilities=tuple(share),
                valid_mass=0.98,
                raw_answer=str(digit) if texts is None else next(texts),
                latency_ms=12,
                prompt_tokens=90,
                completion_tokens=1,
            ),
            _NOW,
        )
        for i, digit, share in zip(range(begin, end), digits, shares, strict=True)
    ]


def _size(path: Path) -> int:
    return sum(part.stat().st_size for part in path.parent.glob(f"{path.name}*"))


def _print_insert(
    title: str,
    found: tuple[float, float, float],
    bare: tuple[float, float, float] | None,
    n_results: int,
) -> None:
    clock, processor, size = found
    ratio = "" if bare is None else f"{processor / bare[1]:16.1f}"
    print(f"{title:<24}{n_results:>10,}{clock:16.2f}{processor:16.2f}{size:16.1f}{ratio}")


def open_benchmark_store(n_personas: int, *, distributions: bool = True) -> tuple[Store, int]:
    """The store with one finished run of n_personas x 33 traits, built if it does not exist yet."""
    folder = Path(tempfile.gettempdir()) / "benchlib-benchmark"
    folder.mkdir(exist_ok=True)
    kind = "p" if distributions else "d"
    path = folder / f"v{_LAYOUT}-{n_personas}-{kind}.db"
    if not path.exists():
        began = perf_counter()
        draft = path.with_suffix(".draft")
        for stale in folder.glob(f"{draft.name}*"):
            stale.unlink()
        store = open_store(f"sqlite:///{draft}")
        _build(store, n_personas, distributions=distributions)
        with store.read() as session:
            session.connection().exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        store.close()
        draft.rename(path)
        print(f"built {path.name} in {perf_counter() - began:.1f} s")
    return open_store(f"sqlite:///{path}"), 1


def _build(store: Store, n_personas: int, *, distributions: bool) -> None:
    rng = np.random.default_rng(7)
    codes = {
        f"attribute_{number}": rng.integers(0, size, n_personas)
        for number, size in enumerate(CATEGORIES, 1)
    }
    names = list(codes)
    columns = [codes[name].tolist() for name in names]
    personas = (
        PersonaDraft(
            f"persona-{i}",
            {
                name: f"category {column[i]:02d}"
                for name, column in zip(names, columns, strict=True)
            },
        )
        for i in range(n_personas)
    )
    valence = np.array([(1, 1, -1, -1, 0)[i % 5] if i % 11 else 0 for i in range(N_TRAITS)])
    drafts = [_trait(i, int(valence[i])) for i in range(N_TRAITS)]
    with store.write() as session:
        dataset_id = datasets.add_dataset(
            session, "benchmark", "imported", personas, parameters={}, now=_NOW
        )
        trait_ids = traits.add_traits(session, drafts, now=_NOW)
    config = RunConfig(
        dataset_id=dataset_id,
        model_name="benchmark",
        llm="vllm",
        trait_ids=tuple(trait_ids),
        dual_fraction=N_DUAL,
    )
    cells = n_personas * N_TRAITS
    n_dual = round(cells * N_DUAL)
    total = cells + n_dual
    with store.write() as session:
        run_id = runs.add_run(session, config, total, _NOW)
        runs.claim_next(session, "builder", _NOW)  # an owner, or every insert counts up a version
    effects = {
        name: rng.normal(0, 0.08, size) for name, size in zip(names, CATEGORIES, strict=True)
    }
    level = rng.normal(0, 0.35, n_personas)
    for name in names[:3]:
        level += effects[name][codes[name]]
    order = rng.integers(0, 2, (n_personas, N_TRAITS))
    dual = np.zeros(cells, dtype=bool)
    dual[rng.choice(cells, n_dual, replace=False)] = True
    dual = dual.reshape(order.shape)
    trait_level = rng.normal(0, 0.5, N_TRAITS)
    with store.read() as session:
        ids = datasets.load_personas(session, dataset_id)["persona_id"].to_numpy()
    for begin in range(0, n_personas, 2_000):
        rows = _rows(
            rng,
            run_id,
            ids[begin : begin + 2_000],
            np.array(trait_ids),
            trait_level + valence * level[begin : begin + 2_000, None],
            order[begin : begin + 2_000],
            dual[begin : begin + 2_000],
            distributions=distributions,
        )
        with store.write() as session:
            session.connection().exec_driver_sql(_INSERT, rows)
    with store.write() as session:
        session.connection().exec_driver_sql(
            f"UPDATE benchmarkrun SET done = total, owner = NULL, status = 'done', "
            f"finished_at = started_at, activity = NULL WHERE id = {run_id}"
        )


def _trait(i: int, valence: int = 1) -> TraitDraft:
    return TraitDraft(
        case_id=f"trait-{i:02d}",
        adjective={"en": f"trait {i:02d}", "de": f"Merkmal {i:02d}"},
        question={"en": "How {adjective} is this person?", "de": "Wie {adjective} ist sie?"},
        category=TRAIT_CATEGORIES[i % len(TRAIT_CATEGORIES)],
        valence=valence,
    )


_INSERT = (
    "INSERT INTO benchmarkresult (run_id, persona_id, trait_id, scale_order, rating_raw, "
    "p1, p2, p3, p4, p5, valid_mass, attempt, latency_ms, prompt_tokens, completion_tokens, "
    "answered_at, raw_answer) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, 12, 90, 1, 0, '3')"
)


def _rows(
    rng: np.random.Generator,
    run_id: int,
    persona_ids: np.ndarray,
    trait_ids: np.ndarray,
    level: np.ndarray,
    order: np.ndarray,
    dual: np.ndarray,
    *,
    distributions: bool,
) -> list[tuple[int | None, ...]]:
    """Answers of some personas as rows to insert, ordered by key."""
    both = np.stack([(order == 0) | dual, (order == 1) | dual], axis=2)
    persona, trait, shown = np.nonzero(both)
    latent = np.where(shown == 0, level[persona, trait], -level[persona, trait]) + 0.1
    points = np.arange(1, 6)
    weight = np.exp(-((points - 3 - latent[:, None]) ** 2) / 1.3)
    share = weight / weight.sum(axis=1, keepdims=True)
    drawn = 1 + (rng.random(len(share))[:, None] > np.cumsum(share, axis=1)).sum(axis=1)
    ppb = np.rint(share * _PPB).astype(np.int64)
    keys = [np.full(len(persona), run_id), persona_ids[persona], trait_ids[trait], shown]
    columns = [column.tolist() for column in (*keys, np.minimum(drawn, 5))]
    if distributions:
        columns += [column.tolist() for column in ppb.T]
        columns.append([980_000_000] * len(persona))
    else:
        columns += [[None] * len(persona)] * 6
    return list(zip(*columns, strict=True))


if __name__ == "__main__":
    main()
