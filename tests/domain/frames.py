"""Small runs for tests: from a persona x trait table of aligned ratings to the long frame."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from hypothesis import settings, strategies
from numpy.typing import ArrayLike

from benchlib.domain.analysis.answer_grid import AnswerGrid
from benchlib.domain.analysis.cells import (
    Cells,
    align_valence,
    compute_cells,
    reverse_scale,
)
from benchlib.domain.analysis.shared_runs import SharedRuns, compute_shared_runs

law = settings(max_examples=40)
"""Enough examples for a law."""


def long_frame(rows: Sequence[tuple[int, int, str, float | None, int]]) -> pd.DataFrame:
    """Ratings from (persona, trait, scale order, raw rating, valence), without attributes."""
    frame = pd.DataFrame(
        list(rows), columns=["persona_id", "trait_id", "scale_order", "rating_raw", "valence"]
    )
    frame["rating_raw"] = frame["rating_raw"].astype(float)
    frame["valence"] = frame["valence"].astype("int8")
    frame["scale_order"] = pd.Categorical(frame["scale_order"], categories=["in", "rev"])
    frame["case_id"] = frame["trait_id"].map("case{}".format).astype("category")
    frame["label"] = frame["trait_id"].map("Trait {}".format).astype("category")
    frame["trait_category"] = pd.Categorical(["warmth"] * len(frame))
    return add_alignment(frame)


def add_alignment(frame: pd.DataFrame) -> pd.DataFrame:
    before = reverse_scale(frame["rating_raw"], frame["scale_order"] == "rev")
    return frame.assign(
        rating_pre_valence=before, rating=align_valence(before, frame["valence"].to_numpy())
    )


def grid_of_answers(
    ratings: Sequence[float | None],
    trait_categories: Sequence[str | None] | None = None,
    valence: Sequence[int] | None = None,
) -> AnswerGrid:
    """Answers in order `in`, each by a persona of its own to a trait of its own."""
    n = len(ratings)
    frame = long_frame(
        [
            (i, i, "in", rating, sign)
            for i, (rating, sign) in enumerate(zip(ratings, valence or [1] * n, strict=True))
        ]
    )
    if trait_categories is not None:
        frame["trait_category"] = pd.Categorical(list(trait_categories))
    return AnswerGrid.from_frame(frame)


def ratings_of(
    table: ArrayLike,
    attributes: Mapping[str, Sequence[str]],
    *,
    valence: Sequence[int] | None = None,
    trait_categories: Sequence[str] | None = None,
    orders: ArrayLike | None = None,
) -> pd.DataFrame:
    """A run whose aligned ratings are the table (personas x traits; NaN = no valid answer)."""
    aligned = np.asarray(table, dtype=float)
    n_personas, n_traits = aligned.shape
    persona = np.repeat(np.arange(n_personas), n_traits)
    trait = np.tile(np.arange(n_traits), n_personas)
    signs = np.ones(n_traits, dtype="int8") if valence is None else np.array(valence, dtype="int8")
    reverse = (
        np.zeros(aligned.size, dtype=bool)
        if orders is None
        else np.asarray(orders, dtype=bool).ravel()
    )
    before = align_valence(aligned.ravel(), signs[trait])  # its own inverse
    names = ["warmth"] * n_traits if trait_categories is None else list(trait_categories)
    frame = pd.DataFrame(
        {
            "persona_id": persona,
            "trait_id": trait,
            "rating_raw": reverse_scale(before, reverse),
            "rating_pre_valence": before,
            "rating": aligned.ravel(),
            "valence": signs[trait],
            "scale_order": pd.Categorical(np.where(reverse, "rev", "in"), ["in", "rev"]),
            "case_id": pd.Categorical([f"case{i}" for i in trait]),
            "label": pd.Categorical([f"Trait {i}" for i in trait]),
            "trait_category": pd.Categorical([names[i] for i in trait]),
        }
    )
    for name, values in attributes.items():
        frame[name] = pd.Categorical(np.asarray(values, dtype=object)[persona])
    return frame


def cells_of(
    table: ArrayLike,
    attributes: Mapping[str, Sequence[str]],
    *,
    valence: Sequence[int] | None = None,
    trait_categories: Sequence[str] | None = None,
    orders: ArrayLike | None = None,
) -> Cells:
    frame = ratings_of(
        table, attributes, valence=valence, trait_categories=trait_categories, orders=orders
    )
    return compute_cells(frame, list(attributes))


def shared_runs(frames: Mapping[int, pd.DataFrame], *attributes: str) -> SharedRuns:
    """Runs compared, by id; the attributes are those of the first."""
    reference = next(iter(frames.values()))
    return compute_shared_runs(
        {run_id: AnswerGrid.from_frame(frame) for run_id, frame in frames.items()},
        compute_cells(reference, list(attributes)).attributes,
    )


def two_groups(base: ArrayLike, cat: ArrayLike) -> Cells:
    """Baseline "base" and category "cat" of the attribute "group"."""
    table = np.concatenate([np.asarray(base, dtype=float), np.asarray(cat, dtype=float)])
    return cells_of(table, {"group": ["base"] * len(base) + ["cat"] * len(cat)})


def random_run(
    seed: int,
    n_personas: int = 40,
    n_traits: int = 6,
    *,
    missing: float = 0.0,
    groups: Sequence[str] = ("a", "b", "c"),
) -> pd.DataFrame:
    """A run of independent noise with two attributes, two trait categories and both orders."""
    rng = np.random.default_rng(seed)
    table = rng.integers(1, 6, (n_personas, n_traits)).astype(float)
    table[rng.random(table.shape) < missing] = np.nan
    return ratings_of(
        table,
        {
            "group": rng.choice(list(groups), n_personas),
            "origin": rng.choice(["north", "south", "Unknown"], n_personas),
        },
        valence=np.where(np.arange(n_traits) % 2, -1, 1),
        trait_categories=["warmth" if i < n_traits // 2 else "competence" for i in range(n_traits)],
        orders=rng.random(table.shape) < 0.5,
    )


@strategies.composite
def small_runs(
    draw: strategies.DrawFn, max_traits: int = 4, *, complete: bool = False
) -> pd.DataFrame:
    """Runs of 2 to 12 personas; ratings are missing here and there unless `complete`."""
    n_personas = draw(strategies.integers(2, 12))
    n_traits = draw(strategies.integers(1, max_traits))
    rating = strategies.integers(1 if complete else 0, 5)
    row = strategies.lists(rating, min_size=n_traits, max_size=n_traits)
    table = np.array(
        draw(strategies.lists(row, min_size=n_personas, max_size=n_personas)), dtype=float
    )
    table[table == 0] = np.nan
    category = strategies.sampled_from(["a", "b", "c", "Unknown"])
    groups = draw(strategies.lists(category, min_size=n_personas, max_size=n_personas))
    sign = strategies.sampled_from([-1, 1])
    valence = draw(strategies.lists(sign, min_size=n_traits, max_size=n_traits))
    flags = strategies.lists(strategies.booleans(), min_size=table.size, max_size=table.size)
    return ratings_of(table, {"group": groups}, valence=valence, orders=draw(flags))
