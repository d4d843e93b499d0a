"""A store with a run of any size: raw inserts of a planted bias, kept in a temporary folder."""

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import numpy as np

from benchlib.domain.personas import PersonaDraft
from benchlib.domain.results import RunConfig
from benchlib.domain.traits import TraitDraft
from benchlib.infrastructure.storage import datasets, runs, traits
from benchlib.infrastructure.storage.engine import Store, open_store

N_TRAITS = 33
N_DUAL = 1 / 99  # so that 30,000 personas x 33 traits make a million answers
CATEGORIES = (2, 3, 4, 5, 6, 8, 10, 14, 18)
"""Categories of the nine attributes: 70 together."""

TRAIT_CATEGORIES = ("competence", "warmth", "morality", "dominance", "appearance", "health")
_LAYOUT = 2  # grows when the content changes, so that an older folder is not taken for a new one
_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_PPB = 1_000_000_000


def open_benchmark_store(n_personas: int, *, distributions: bool = True) -> tuple[Store, int]:
    """The store with one finished run of n_personas x 33 traits, built if it is not there yet."""
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
    drafts = [
        TraitDraft(
            case_id=f"trait-{i:02d}",
            adjective={"en": f"trait {i:02d}", "de": f"Merkmal {i:02d}"},
            question={"en": "How {adjective} is this person?", "de": "Wie {adjective} ist sie?"},
            category=TRAIT_CATEGORIES[i % len(TRAIT_CATEGORIES)],
            valence=int(valence[i]),
        )
        for i in range(N_TRAITS)
    ]
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
