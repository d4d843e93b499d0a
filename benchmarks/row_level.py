"""The same panels row by row: a frame with a row per answer, grouped by pandas, tested by scipy.

For comparison only: besides being slow, such tests treat 33 answers of one persona as 33 personas.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import orjson
import pandas as pd
from scipy import stats

N_DRAWN = 5
"""Permutations actually drawn; their time is scaled up to the number the panel draws."""

_QUERY = (
    "SELECT r.persona_id, r.trait_id, t.case_id, t.category AS trait_category, t.valence, "
    "r.scale_order, r.rating_raw, p.attributes FROM benchmarkresult r "
    "JOIN persona p ON p.id = r.persona_id JOIN trait t ON t.id = r.trait_id WHERE r.run_id = 1"
)


def load(connection: Any) -> pd.DataFrame:
    """Read and join every answer, and spread the attributes over columns."""
    frame = pd.read_sql_query(_QUERY, connection)
    spread = pd.DataFrame([orjson.loads(text) for text in frame.pop("attributes")])
    frame = pd.concat([frame, spread], axis=1)
    normal = np.where(frame["scale_order"] == 0, frame["rating_raw"], 6 - frame["rating_raw"])
    return frame.assign(
        rating_pre_valence=normal, rating=np.where(frame["valence"] < 0, 6 - normal, normal)
    )


def panels(
    frame: pd.DataFrame, attributes: list[str], n_perm: int
) -> Iterator[tuple[str, Callable[[], object], float]]:
    """Yield name, computation and the factor to multiply its time by."""
    yield "metrics", lambda: _metrics(frame, attributes), 1.0
    yield "omnibus", lambda: [_kruskal(frame, name) for name in attributes], 1.0
    yield "order effects", lambda: _order(frame), 1.0
    yield "forest (largest attribute)", lambda: _forest(frame, attributes[-1]), 1.0
    yield "deltas (largest attribute)", lambda: _tests(frame, attributes[-1]), 1.0
    yield (
        f"its permutations ({N_DRAWN} of {n_perm:,} drawn)",
        lambda: _permute(frame, attributes[-1]),
        n_perm / N_DRAWN,
    )


def _metrics(frame: pd.DataFrame, attributes: list[str]) -> object:
    found: list[object] = [frame["rating_pre_valence"].value_counts()]
    found.append(frame.groupby("trait_category")["rating_pre_valence"].value_counts())
    found.append(frame.groupby("trait_category")["rating"].agg(["count", "mean", "std"]))
    found += [frame.groupby(name)["rating"].agg(["count", "mean"]) for name in attributes]
    return found


def _kruskal(frame: pd.DataFrame, attribute: str) -> object:
    return stats.kruskal(*(group.to_numpy() for _, group in frame.groupby(attribute)["rating"]))


def _order(frame: pd.DataFrame) -> object:
    table = frame.pivot_table(
        index=["persona_id", "trait_id"], columns="scale_order", values="rating_raw"
    ).dropna()
    first, second = table[0], 6 - table[1]
    return (
        (first == second).mean(),
        (first - second).abs().mean(),
        stats.spearmanr(first, second),
        stats.kendalltau(first, second),
    )


def _tests(frame: pd.DataFrame, attribute: str) -> object:
    base, others = _split(frame, attribute)
    return [
        (stats.ttest_ind(other, base, equal_var=False), stats.mannwhitneyu(other, base))
        for other in others
    ]


def _permute(frame: pd.DataFrame, attribute: str) -> object:
    rng = np.random.default_rng(1)
    base, others = _split(frame, attribute)
    draws = []
    for other in others:
        pooled = np.concatenate([base, other])
        for _ in range(N_DRAWN):
            rng.shuffle(pooled)
            draws.append(pooled[: len(base)].mean() - pooled[len(base) :].mean())
    return draws


def _forest(frame: pd.DataFrame, attribute: str) -> object:
    found = []
    for _, part in frame.groupby("case_id"):
        base, others = _split(part, attribute)
        found += [
            (stats.ttest_ind(other, base, equal_var=False), stats.mannwhitneyu(other, base))
            for other in others
        ]
    return found


def _split(frame: pd.DataFrame, attribute: str) -> tuple[np.ndarray, list[np.ndarray]]:
    groups = {name: group.to_numpy() for name, group in frame.groupby(attribute)["rating"]}
    base = max(groups, key=lambda name: len(groups[name]))
    return groups[base], [group for name, group in groups.items() if name != base]
