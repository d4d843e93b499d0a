"""A finished run's answers as a grid in a file, so that opening it again costs no query.

A snapshot is a hint: if anything is wrong with it, the store is read instead. Its name covers
everything its content depends on, so one that is found is never stale.
"""

import hashlib
import logging
import os
import zipfile
import zlib
from collections.abc import Collection
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import uuid4

import numpy as np
import orjson
import pandas as pd
from numpy.typing import NDArray

from benchlib.domain.analysis.distributions import DistributionSums
from benchlib.domain.records import RunRecord
from benchlib.infrastructure.loading.answer_reader import StoredAnswers

_log = logging.getLogger(__name__)

_FORMAT: Final = 2
_ABANDONED_SECONDS: Final = 3_600


@dataclass(frozen=True, slots=True)
class SnapshotKey:
    """Names a snapshot.

    Attributes:
        folder: Holds the snapshots.
        store: A hash of the database's name.
        run_id: The run.
        content: A hash of everything the content depends on.
    """

    folder: Path
    store: str
    run_id: int
    content: str

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / f"{self.store}-{self.run_id}-{self.content}.npz"


class Snapshot(NamedTuple):
    """What a snapshot holds: the answers, and the personas' ids and attributes."""

    answers: StoredAnswers
    personas: pd.DataFrame


def snapshot_key(folder: Path, database: str, run: RunRecord, n_rows: int) -> SnapshotKey:
    """Name the snapshot of a run as it is now.

    The run's times are part of it, in case another database, with a run of the same id, replaced
    this one under its name.
    """
    parts = [
        _FORMAT,
        run.id,
        run.data_version,
        n_rows,
        run.dataset_id,
        *(
            None if moment is None else moment.timestamp()
            for moment in (run.created_at, run.started_at, run.finished_at)
        ),
        run.seconds_active,
    ]
    content = hashlib.sha256(orjson.dumps(parts)).hexdigest()[:20]
    return SnapshotKey(folder, _store_part(database), run.id, content)


def load_snapshot(key: SnapshotKey, n_rows: int) -> Snapshot | None:
    """Read a snapshot; None if there is none or, with a warning in the log, if it is damaged."""
    try:
        with key.path.open("rb") as source, np.load(source, allow_pickle=False) as file:
            head = orjson.loads(file["head"].tobytes())
            answers = StoredAnswers(
                persona_ids=file["persona_ids"],
                trait_ids=file["trait_ids"],
                digits=file["digits"],
                expected=file["expected"] if head["has_expected"] else None,
                distributions=DistributionSums(
                    **{part.name: file[f"sum_{part.name}"] for part in fields(DistributionSums)}
                ),
                n_strangers=head["n_strangers"],
            )
            personas = _personas(file["persona_id"], file["codes"], head["attributes"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as problem:
        _log.warning("snapshot %s cannot be read (%s); reading the store", key.path.name, problem)
        return None
    if answers.n_rows != n_rows:
        _log.warning(
            "snapshot %s has the wrong number of answers; reading the store", key.path.name
        )
        return None
    return Snapshot(answers, personas)


def write_snapshot(key: SnapshotKey, snapshot: Snapshot, known_runs: Collection[int]) -> None:
    """Write a snapshot whole or not at all; older ones of the run, and of runs that are gone, go.

    Args:
        key: Its name.
        snapshot: Its content.
        known_runs: Ids of all runs of the store.
    """
    names = [str(name) for name in snapshot.personas.columns if name != "persona_id"]
    columns = [snapshot.personas[name].cat for name in names]
    answers = snapshot.answers
    head = {
        "attributes": [
            [name, [str(category) for category in column.categories]]
            for name, column in zip(names, columns, strict=True)
        ],
        "has_expected": answers.expected is not None,
        "n_strangers": answers.n_strangers,
    }
    codes = np.zeros((len(names), len(snapshot.personas)), dtype=np.int32)
    for place, column in enumerate(columns):
        codes[place] = column.codes
    arrays: dict[str, NDArray[Any]] = {
        "head": np.frombuffer(orjson.dumps(head), dtype=np.uint8),
        "persona_ids": answers.persona_ids,
        "trait_ids": answers.trait_ids,
        "digits": answers.digits,
        **{
            f"sum_{part.name}": getattr(answers.distributions, part.name)
            for part in fields(DistributionSums)
        },
        "persona_id": snapshot.personas["persona_id"].to_numpy(np.int64),
        "codes": codes,
    }
    if answers.expected is not None:
        arrays["expected"] = answers.expected
    draft = key.folder / f"{key.path.stem}.{uuid4().hex}.draft"
    try:
        key.folder.mkdir(parents=True, exist_ok=True)
        try:
            with draft.open("wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
            draft.replace(key.path)
        finally:
            draft.unlink(missing_ok=True)
        _prune(key, known_runs)
    except OSError as problem:
        _log.warning("no snapshot of run %d could be written (%s)", key.run_id, problem)


def delete_snapshots(folder: Path, database: str, run_id: int) -> int:
    """Delete every snapshot of a run; return how many there were."""
    found = list(folder.glob(f"{_store_part(database)}-{run_id}-*"))
    for path in found:
        path.unlink(missing_ok=True)
    return len(found)


def _prune(key: SnapshotKey, known_runs: Collection[int]) -> None:
    now = key.path.stat().st_mtime
    for path in key.folder.glob(f"{key.store}-*"):
        if path == key.path:
            continue
        run_id = int(path.name.split("-")[1])
        if path.suffix == ".draft":
            gone = now - path.stat().st_mtime > _ABANDONED_SECONDS
        else:
            gone = run_id == key.run_id or run_id not in known_runs
        if gone:
            path.unlink(missing_ok=True)


def _personas(
    ids: NDArray[np.int64], codes: NDArray[np.int32], attributes: list[tuple[str, list[str]]]
) -> pd.DataFrame:
    columns: dict[str, Any] = {"persona_id": ids}
    for (name, categories), column in zip(attributes, codes, strict=True):
        columns[name] = pd.Categorical.from_codes(column, categories=pd.Index(categories))
    return pd.DataFrame(columns)


def _store_part(database: str) -> str:
    """The part of file names that identifies the database; a file counts by its full path."""
    whole = database if "://" in database else os.path.abspath(database)
    return hashlib.sha256(whole.encode()).hexdigest()[:12]
