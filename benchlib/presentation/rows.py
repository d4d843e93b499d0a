"""Rows of the tables behind figures where a panel has none of that shape, for pages and API."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypedDict

from benchlib.domain.analysis.metrics import RatingHistogram, TraitCategoryHistogram
from benchlib.domain.analysis.order_effects import OrderEffectMetrics
from benchlib.domain.stats.agreement import Agreement, Estimate

AGREEMENT: Final = (
    ("kappa", "Cohen's kappa, quadratic"),
    ("icc_a1", "ICC(A,1), absolute"),
    ("icc_c1", "ICC(C,1), consistency"),
    ("alpha_ordinal", "Krippendorff's alpha, ordinal"),
    ("alpha_interval", "Krippendorff's alpha, interval"),
    ("kendall", "Kendall's tau-b"),
    ("spearman", "Spearman"),
    ("pearson", "Pearson"),
)
"""Measures of agreement that have an interval, and their names."""


class PointRow(TypedDict):
    """One point of the scale; `share` is None without answers."""

    rating: str
    count: int
    share: float | None


class TraitCategoryPointRow(PointRow):
    """One point of the scale within a trait category."""

    trait_category: str


class OrderRow(TypedDict):
    """One statistic of the scale order with its 95% interval; None = undefined."""

    measure: str
    value: float | None
    ci_low: float | None
    ci_high: float | None


def agreement_rows(agreement: Agreement) -> list[OrderRow]:
    """One row per measure of agreement against chance."""
    found: Mapping[str, Any] = {**agreement, "kappa": agreement["kappa"]["quadratic"]}
    rows: list[OrderRow] = []
    for name, label in AGREEMENT:
        estimate: Estimate = found[name]
        value, low, high = (estimate[part] for part in ("value", "ci_low", "ci_high"))
        rows.append({"measure": label, "value": value, "ci_low": low, "ci_high": high})
    return rows


def order_rows(order: OrderEffectMetrics) -> list[OrderRow]:
    """One row per statistic of the whole run: rates, differences, agreement."""
    rates, bias, retest = order["rma"], order["obe"], order["test_retest"]
    statistics = (
        ("Same answer", rates, "exact_rate", "exact_rate_ci"),
        ("Within one", retest, "within1_rate", "within1_rate_ci"),
        ("Mean distance", rates, "mae", "mae_ci"),
        ("Mean difference", bias, "mean_diff", "ci"),
        ("Mean difference, similar traits", bias, "mean_diff", "two_way_ci"),
        ("Limits of agreement (Bland–Altman)", bias, "mean_diff", "loa"),
        ("Position shift", bias, "position_shift", "position_shift_ci"),
    )
    rows: list[OrderRow] = []
    for label, part, name, reach in statistics:
        found: Mapping[str, Any] = part
        ends = found[f"{reach}_low"], found[f"{reach}_high"]
        rows.append({"measure": label, "value": found[name], "ci_low": ends[0], "ci_high": ends[1]})
    return [*rows, *agreement_rows(order["agreement"])]


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
