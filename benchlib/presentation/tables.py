"""Rows of the tables behind figures, for pages and API, where a panel has none of that shape."""

from collections.abc import Sequence
from typing import TypedDict

from benchlib.domain.metrics import RatingHistogram, TraitCategoryHistogram


class PointRow(TypedDict):
    """One point of the scale; `share` is None without answers."""

    rating: str
    count: int
    share: float | None


class TraitCategoryPointRow(PointRow):
    """One point of the scale within a trait category."""

    trait_category: str


def histogram_rows(histogram: RatingHistogram) -> list[PointRow]:
    """One row per point of the scale."""
    columns = zip(histogram["bins"], histogram["counts"], histogram["shares"], strict=True)
    return [{"rating": point, "count": n, "share": share} for point, n, share in columns]


def trait_category_rows(
    histograms: Sequence[TraitCategoryHistogram],
) -> list[TraitCategoryPointRow]:
    """One row per trait category and point of the scale."""
    return [
        {"trait_category": histogram["category"], "rating": point, "count": n, "share": share}
        for histogram in histograms
        for point, n, share in zip(
            histogram["bins"], histogram["counts"], histogram["shares"], strict=True
        )
    ]
