"""A run's answers as one frame: live while it runs, kept in memory once it is final."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, TypeVar

import numpy as np
import pandas as pd

from benchlib.domain.results import RunRecord
from benchlib.domain.vocabulary import SCALE_ORDERS
from benchlib.infrastructure.storage import datasets, results, traits
from benchlib.infrastructure.storage.engine import Store

_KEPT_FRAMES: Final = 4
_KEPT_DATASETS: Final = 8

_FRAMES: OrderedDict[tuple[str, int, int], pd.DataFrame] = OrderedDict()
_PERSONAS: OrderedDict[tuple[str, int, str], pd.DataFrame] = OrderedDict()
_ORDER_TYPE: Final = pd.CategoricalDtype(list(SCALE_ORDERS))
_Key = TypeVar("_Key")
_LOCK = threading.Lock()  # the order of use and the frames change together


def load_run_df(store: Store, run: RunRecord) -> pd.DataFrame:
    """Read every rating of a run from the store.

    Returns:
        One row per rating: persona_id, trait_id, case_id, label, trait_category, valence,
        scale_order (categorical in/rev), rating_raw (1..5 as answered), expected_raw (expected
        digit, NaN without a distribution), rating_pre_valence (scale order undone), rating
        (valence aligned too), and one categorical column per persona attribute. Empty runs give
        the same columns without rows.
    """
    personas = load_personas_cached(store, run.dataset_id)
    with store.read() as session:
        columns = results.fetch_ratings(session, run.id)
        asked = traits.get_traits(session, run.config.trait_ids)
    order = columns["scale_order"]
    raw = columns["rating_raw"]
    normal = np.where(order == 0, raw, 6 - raw).astype(np.int8)
    row_of_trait = pd.Index([trait.id for trait in asked]).get_indexer(pd.Index(columns["trait_id"]))
    row_of_persona = pd.Index(personas["persona_id"]).get_indexer(pd.Index(columns["persona_id"]))
    valence = np.array([trait.valence for trait in asked], dtype=np.int8)[row_of_trait]
    of_trait = {
        "case_id": [trait.case_id for trait in asked],
        "label": [trait.adjective.get(run.config.language, trait.case_id) for trait in asked],
        "trait_category": [trait.category for trait in asked],
    }
    frame = {
        "persona_id": columns["persona_id"],
        "trait_id": columns["trait_id"],
        **{name: _spread(pd.Categorical(texts), row_of_trait) for name, texts in of_trait.items()},
        "valence": valence,
        "scale_order": pd.Categorical.from_codes(order, dtype=_ORDER_TYPE),
        "rating_raw": raw,
        "expected_raw": columns["expected_raw"],
        "rating_pre_valence": normal,
        "rating": np.where(valence < 0, 6 - normal, normal).astype(np.int8),
    }
    for attribute in attribute_names(personas):
        frame[attribute] = _spread(pd.Categorical(personas[attribute]), row_of_persona)
    return pd.DataFrame(frame)


def load_run_df_cached(store: Store, run: RunRecord) -> pd.DataFrame:
    """The same, read once per content of the run; never changed by whoever gets it."""
    key = (store.database, run.id, run.data_version)
    return _kept(_FRAMES, key, _KEPT_FRAMES, lambda: load_run_df(store, run))


def df_for_read(store: Store, run: RunRecord) -> pd.DataFrame:
    """What a panel of this run is computed from, at this moment."""
    return load_run_df_cached(store, run)


def load_personas_cached(store: Store, dataset_id: int) -> pd.DataFrame:
    """A dataset's personas; see `datasets.load_personas`. Datasets never change."""
    with store.read() as session:
        content = datasets.get_dataset(session, dataset_id).content_hash

    def load() -> pd.DataFrame:
        with store.read() as session:
            return datasets.load_personas(session, dataset_id)

    return _kept(_PERSONAS, (store.database, dataset_id, content), _KEPT_DATASETS, load)


def attribute_names(personas: pd.DataFrame) -> list[str]:
    """The attributes of a persona frame, in its order."""
    return [str(name) for name in personas.columns if name not in ("persona_id", "uuid", "age")]


def _kept(
    memory: OrderedDict[_Key, pd.DataFrame],
    key: _Key,
    limit: int,
    load: Callable[[], pd.DataFrame],
) -> pd.DataFrame:
    """What is remembered under the key, else loaded; the longest unused goes first."""
    with _LOCK:
        if key in memory:
            memory.move_to_end(key)
            return memory[key]
    frame = load()
    with _LOCK:
        memory[key] = frame
        while len(memory) > limit:
            memory.popitem(last=False)
    return frame


def _spread(values: "pd.Categorical[Any]", rows: np.ndarray[Any, Any]) -> "pd.Categorical[Any]":
    return pd.Categorical.from_codes(values.codes[rows], dtype=values.dtype)
