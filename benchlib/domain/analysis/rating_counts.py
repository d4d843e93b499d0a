"""Counting answers by category and point instead of grouping rows."""

from collections.abc import Hashable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchlib.domain.analysis.answer_grid import AnswerGrid
from benchlib.domain.arrays import IntArray
from benchlib.domain.errors import RatingOutOfScale
from benchlib.domain.vocabulary import UNKNOWN_TRAIT_CATEGORY


def category_codes(values: pd.Series, missing: str) -> tuple[IntArray, list[str]]:
    """Number the categories of a column.

    Args:
        values: Categorical (fast) or anything else pandas can factorise.
        missing: Label of missing values; they join a category that already bears it.

    Returns:
        A code per row, and the label of every code. A categorical column keeps the categories
        that no row has.
    """
    if isinstance(values.dtype, pd.CategoricalDtype):
        codes = values.cat.codes.to_numpy().astype(np.int64)
        categories: list[Hashable] = list(values.cat.categories)
    else:
        raw_codes, uniques = pd.factorize(values, sort=False)
        codes = np.asarray(raw_codes, dtype=np.int64)
        categories = list(uniques)
    labels = [str(category) for category in categories]
    is_missing = codes < 0
    if is_missing.any():
        if missing not in labels:
            labels.append(missing)
        codes[is_missing] = labels.index(missing)
    return codes, labels


def asked_column(frame: pd.DataFrame) -> str:
    """The column of ratings before the valence is undone."""
    return "rating_pre_valence" if "rating_pre_valence" in frame else "rating"


def points_on_scale(
    ratings: pd.Series, n_points: int
) -> tuple[IntArray, npt.NDArray[np.bool_] | None]:
    """Zero-based points of the rated rows, and which rows are rated (None = all)."""
    if ratings.dtype.kind in "iu" and isinstance(ratings.dtype, np.dtype):
        values = ratings.to_numpy()
        rated = None
    else:
        values = ratings.to_numpy(dtype=np.float64, na_value=np.nan)
        rated = ~np.isnan(values)
        if rated.all():
            rated = None
        else:
            values = values[rated]
    if values.size and (
        values.min() < 1
        or values.max() > n_points
        or (values.dtype.kind == "f" and (values != np.floor(values)).any())
    ):
        unique = np.unique(values)
        on_scale = (unique >= 1) & (unique <= n_points) & (unique == np.floor(unique))
        raise RatingOutOfScale(unique[~on_scale].tolist(), n_points)
    return values.astype(np.int64) - 1, rated


def count_table(codes: IntArray, n_codes: int, ratings: pd.Series, n_points: int) -> IntArray:
    """Counts, shape (n_codes, n_points)."""
    points, rated = points_on_scale(ratings, n_points)
    kept = codes if rated is None else codes[rated]
    counts = np.bincount(kept * n_points + points, minlength=n_codes * n_points)
    return counts.reshape(n_codes, n_points).astype(np.int64)


class CategoryTables(NamedTuple):
    """Answers by trait category; C categories, K points.

    Attributes:
        labels: Name of each category.
        present: Categories that have answers, by name, the unknown one last.
        asked: (C, K) counts before the valence is undone, of all traits.
        aligned: (C, K) counts after it, of traits with a valence.
    """

    labels: list[str]
    present: list[int]
    asked: IntArray
    aligned: IntArray


def tables_by_category(answers: pd.DataFrame | AnswerGrid, n_points: int) -> CategoryTables:
    """Count answers by trait category, in points 1..n_points."""
    if isinstance(answers, AnswerGrid):
        codes, labels = trait_category_codes(answers.traits)
        has_valence = answers.traits["valence"].to_numpy() != 0
        asked, aligned = np.zeros((2, len(labels), n_points), dtype=np.int64)
        np.add.at(asked, codes, answers.count_points())
        np.add.at(aligned, codes[has_valence], answers.count_points(aligned=True)[has_valence])
        answered = np.repeat(np.arange(len(labels)), (asked.sum(axis=1) > 0).astype(np.int64))
        return CategoryTables(labels, present_in_order(answered, labels), asked, aligned)
    codes, labels = trait_category_codes(answers)
    asked = count_table(codes, len(labels), answers[asked_column(answers)], n_points)
    if "valence" in answers:
        has_valence = answers["valence"].to_numpy() != 0
        aligned = count_table(
            codes[has_valence], len(labels), answers["rating"][has_valence], n_points
        )
    else:
        aligned = count_table(codes, len(labels), answers["rating"], n_points)
    return CategoryTables(labels, present_in_order(codes, labels), asked, aligned)


def trait_category_codes(frame: pd.DataFrame) -> tuple[IntArray, list[str]]:
    """(rows,) code of each row's trait category, and the name of each code."""
    if "trait_category" not in frame:
        return np.zeros(len(frame), dtype=np.int64), [UNKNOWN_TRAIT_CATEGORY]
    return category_codes(frame["trait_category"], UNKNOWN_TRAIT_CATEGORY)


def present_in_order(codes: IntArray, labels: list[str]) -> list[int]:
    """Codes that occur, by label, the unknown category last."""
    present = np.flatnonzero(np.bincount(codes, minlength=len(labels)))
    return sorted(
        (int(index) for index in present),
        key=lambda index: (labels[index] == UNKNOWN_TRAIT_CATEGORY, labels[index]),
    )
