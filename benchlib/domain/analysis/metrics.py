"""Histograms and summaries of ratings: what was answered, how often, by whom.

Counted on the grid instead of by grouping rows: a million answers take milliseconds.
"""

from typing import Final, NamedTuple, TypedDict

import numpy as np
import pandas as pd

from benchlib.domain.analysis.answer_grid import AnswerGrid
from benchlib.domain.analysis.cells import Cells
from benchlib.domain.analysis.persona_scores import (
    choose_baseline,
    compute_grouping,
)
from benchlib.domain.analysis.trait_sets import TraitSet, select_trait_set
from benchlib.domain.arrays import IntArray
from benchlib.domain.stats.one_sample import compute_one_sample
from benchlib.domain.stats.welch import Status, none_if_nan
from benchlib.domain.vocabulary import UNKNOWN_CATEGORY, UNKNOWN_TRAIT_CATEGORY

ALL_TRAIT_CATEGORIES: Final = "all"
"""Means "no filter" wherever a trait category is expected."""


class RatingHistogram(TypedDict):
    """Answers per point of the scale, in scale order."""

    bins: list[str]
    counts: list[int]
    shares: list[float] | list[None]


class TraitCategoryHistogram(TypedDict):
    """A histogram of one trait category."""

    category: str
    bins: list[str]
    counts: list[int]
    shares: list[float] | list[None]


class TraitCategorySummary(TypedDict):
    """Level and spread of one trait category.

    `mean` and `std` are valence-aligned (5 = most favourable) and leave neutral traits out;
    `mean_pre_valence` and `std_pre_valence` hold all traits as asked (5 = "very ...").
    """

    category: str
    count: int
    mean: float | None
    std: float | None
    n_aligned: int
    mean_pre_valence: float | None
    std_pre_valence: float | None


class AttributeMean(TypedDict):
    """Mean rating of the personas in one category of an attribute.

    `mean` is valence-aligned, 1..5: the grand mean plus the mean persona score of the category,
    so that categories stay comparable if their personas saw different traits or scale orders.
    `mean_ratings` is the plain mean of the answers, of which there are `count` (also `n_ratings`,
    as other rows call it); `n_missing` counts traits for which a persona of the category has no
    rating.
    """

    category: str
    count: int
    mean: float | None
    mean_ratings: float | None
    n_personas: int
    n_ratings: int
    n_missing: int
    se: float | None
    ci_low: float | None
    ci_high: float | None
    status: Status


class AttributeSummary(TypedDict):
    """Means of one attribute's categories and the category that deltas compare against."""

    baseline: str | None
    categories: list[AttributeMean]


def filter_by_trait_category(frame: pd.DataFrame, trait_category: str | None) -> pd.DataFrame:
    """Keep the answers to traits of one category.

    Args:
        frame: Long frame; reads `trait_category`, where missing means UNKNOWN_TRAIT_CATEGORY.
        trait_category: The category to keep; None, "" or "all" keeps every row.

    Returns:
        The rows of that category, the argument itself without a filter, no rows for a category
        that does not occur.
    """
    if not trait_category or trait_category == ALL_TRAIT_CATEGORIES:
        return frame
    if "trait_category" not in frame:
        return frame if trait_category == UNKNOWN_TRAIT_CATEGORY else frame.iloc[:0]
    column = frame["trait_category"]
    wanted = column == trait_category
    if trait_category == UNKNOWN_TRAIT_CATEGORY:
        wanted |= column.isna()
    return frame[wanted.to_numpy(dtype=bool, na_value=False)]


def compute_rating_histogram(grid: AnswerGrid) -> RatingHistogram:
    """Count answers on every point of the scale, before the valence is aligned (5 = "very ...").

    Returns:
        Bins in scale order; a point nobody chose still gets one. Shares sum to 1, or are all None
        without answers.
    """
    return _histogram(grid.count_points().sum(axis=0))


def compute_trait_category_histograms(grid: AnswerGrid) -> list[TraitCategoryHistogram]:
    """Count answers on every point of the scale, for each trait category.

    Returns:
        One histogram per category that has answers, by name; UNKNOWN_TRAIT_CATEGORY comes last.
        Empty without answers.
    """
    return [{"category": part.name, **_histogram(part.asked)} for part in _count_by_category(grid)]


def compute_trait_category_summary(grid: AnswerGrid) -> list[TraitCategorySummary]:
    """Describe the level and the spread of the ratings of each trait category.

    The spread is that of single answers (ddof 1). It describes; it is no standard error.

    Returns:
        One row per category that has answers, by name, UNKNOWN_TRAIT_CATEGORY last. `count` is the
        number of ratings. A deviation of fewer than two ratings is None; the aligned pair is None
        for a category of neutral traits only.
    """
    summary: list[TraitCategorySummary] = []
    for name, asked, aligned in _count_by_category(grid):
        mean, std = _mean_and_sd(aligned)
        mean_asked, std_asked = _mean_and_sd(asked)
        summary.append(
            {
                "category": name,
                "count": int(asked.sum()),
                "mean": mean,
                "std": std,
                "n_aligned": int(aligned.sum()),
                "mean_pre_valence": mean_asked,
                "std_pre_valence": std_asked,
            }
        )
    return summary


def compute_means_by_attribute(
    cells: Cells,
    attribute: str,
    top_n: int | None = None,
    *,
    trait_category: str | None = None,
) -> list[AttributeMean]:
    """Mean aligned rating of each category of a persona attribute, with a t interval.

    The persona is the unit: the interval comes from the spread of persona scores, not of answers.
    Neutral traits take no part.

    Args:
        cells: Cells of the run.
        attribute: Name of the attribute column.
        top_n: Keep the categories with most personas; None keeps all.
        trait_category: A trait category, or None for all traits.

    Returns:
        One row per category, most personas first, ties by name, `Unknown` last. `count` is the
        number of ratings; `n_personas` counts personas that enter the analysis. A mean without
        such personas and an interval of fewer than two, or of equal ones, are None; `status` says
        why: ok, low_n (fewer than 10), n_lt_2, zero_variance, no_data.

    Raises:
        InvalidInput: There is no such attribute or trait category.
    """
    rows = _attribute_means(select_trait_set(cells, trait_category), attribute)
    return rows if top_n is None else rows[: max(top_n, 0)]


def compute_all_means(
    cells: Cells, trait_category: str | None = None
) -> dict[str, list[AttributeMean]]:
    """Compute `compute_means_by_attribute` for every attribute, scoring the personas once.

    Raises:
        InvalidInput: There is no such trait category.
    """
    trait_set = select_trait_set(cells, trait_category)
    return {str(name): _attribute_means(trait_set, str(name)) for name in cells.attributes}


def summarise_rating_by(
    cells: Cells, attribute: str, baseline: str | None = None
) -> AttributeSummary:
    """Summarise the ratings by one attribute and name its baseline.

    Args:
        cells: Cells of the run.
        attribute: Name of the attribute column.
        baseline: The user's choice; None takes the category with most personas.

    Returns:
        The means of all categories; the baseline is None if no category can be one.

    Raises:
        InvalidInput: There is no such attribute, or the chosen baseline cannot be one.
    """
    trait_set = select_trait_set(cells)
    grouping = compute_grouping(trait_set.cells, attribute)
    return {
        "baseline": choose_baseline(grouping, trait_set.scores.enters, baseline),
        "categories": _attribute_means(trait_set, attribute),
    }


class _CategoryCounts(NamedTuple):
    """Answers per point to the traits of one category.

    Attributes:
        name: Name of the category.
        asked: (5,) counts before the valence is aligned, of all traits.
        aligned: (5,) counts after it, of traits with a valence.
    """

    name: str
    asked: IntArray
    aligned: IntArray


def _count_by_category(grid: AnswerGrid) -> list[_CategoryCounts]:
    """Count the answers of each trait category that has any."""
    asked, aligned = grid.count_points(), grid.count_points(aligned=True)
    aligned[grid.traits["valence"].to_numpy() == 0] = 0
    names = grid.traits["trait_category"].astype(str).to_numpy(dtype=object)
    found: list[_CategoryCounts] = []
    for name in sorted(set(names), key=lambda name: (name == UNKNOWN_TRAIT_CATEGORY, name)):
        own = names == name
        if asked[own].any():
            found.append(_CategoryCounts(name, asked[own].sum(axis=0), aligned[own].sum(axis=0)))
    return found


def _mean_and_sd(counts: IntArray) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation (ddof 1) of ratings given as counts of 1..len(counts).

    Returns:
        Mean, None without ratings; deviation, None for fewer than two.
    """
    n = int(counts.sum())
    if n == 0:
        return None, None
    points = np.arange(1, counts.size + 1)
    total = int(counts @ points)
    if n == 1:
        return float(total), None
    squares = int(counts @ points**2)
    # Whole numbers until the last step: no cancellation.
    variance = (n * squares - total * total) / (n * (n - 1))
    return total / n, float(np.sqrt(variance))


def _attribute_means(trait_set: TraitSet, attribute: str) -> list[AttributeMean]:
    cells, scores = trait_set.cells, trait_set.scores
    grouping = compute_grouping(cells, attribute)
    grand = none_if_nan(trait_set.grand_mean)
    answers_of = cells.n_answers.sum(axis=1)
    unrated_of = (cells.n_answers == 0).sum(axis=1)
    # Twice the aligned rating, summed; a pair's two answers share one cell and its mean.
    rating_sum = (cells.half_points * cells.n_answers.astype(np.int64)).sum(axis=1) / 2
    rows: list[AttributeMean] = []
    for category in grouping.categories:
        members = grouping.members(category)
        count = int(answers_of[members].sum())
        z = scores.z[members][scores.enters[members]]
        score = compute_one_sample(z)
        rows.append(
            {
                "category": category,
                "count": count,
                "mean": _plus(grand, score.mean),
                "mean_ratings": float(rating_sum[members].sum()) / count if count else None,
                "n_personas": len(z),
                "n_ratings": count,
                "n_missing": int(unrated_of[members].sum()),
                "se": score.se,
                "ci_low": _plus(grand, score.ci_low),
                "ci_high": _plus(grand, score.ci_high),
                "status": score.status,
            }
        )
    return sorted(
        rows,
        key=lambda row: (row["category"] == UNKNOWN_CATEGORY, -row["n_personas"], row["category"]),
    )


def _plus(grand: float | None, deviation: float | None) -> float | None:
    return None if grand is None or deviation is None else grand + deviation


def _histogram(counts: IntArray) -> RatingHistogram:
    total = int(counts.sum())
    return {
        "bins": [str(point) for point in range(1, counts.size + 1)],
        "counts": counts.tolist(),
        "shares": (counts / total).tolist() if total else [None] * counts.size,
    }
