"""Ratings per point of the scale: one bar chart, stacked rows by trait category, one answer."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from benchlib.domain.analysis.metrics import RatingHistogram, TraitCategoryHistogram
from benchlib.presentation.figures.theme import (
    MAIN,
    ON_POINTS,
    POINTS,
    QUIET,
    ROW_HEIGHT,
    SECOND,
    SMALL_SIZE,
    empty_figure,
    framed_figure,
    row_label,
)
from benchlib.presentation.text import counted, plain

NO_ANSWERS = "No answers yet."
SCALE_TITLE = "Rating, recoded (1 = not at all, 5 = very)"
_SMALLEST_LABELLED_SHARE = 0.06
"""Smallest share whose label fits into its part of a bar."""


def rating_histogram_figure(histogram: RatingHistogram, title: str = "Ratings") -> go.Figure:
    """Answers per point of the scale, with shares above the bars and counts on hover.

    Args:
        histogram: As `compute_rating_histogram` gives it.
        title: Our own words; pass untrusted text through `text.plain`.
    """
    total = sum(histogram["counts"])
    if not total:
        return empty_figure(title, NO_ANSWERS)
    shares = [share or 0.0 for share in histogram["shares"]]
    figure = framed_figure(title, counted(total, "answer"), height=360)
    figure.add_bar(
        x=histogram["bins"],
        y=shares,
        customdata=histogram["counts"],
        marker_color=MAIN,
        text=[f"{share:.1%}" for share in shares],
        textposition="outside",
        cliponaxis=False,
        hovertemplate=(
            f"Rating %{{x}}: %{{customdata:,}} of {total:,} answers (%{{y:.1%}})<extra></extra>"
        ),
    )
    figure.update_xaxes(type="category", title_text=SCALE_TITLE)
    return figure.update_yaxes(
        title_text="Share of answers", tickformat=".0%", range=[0, max(shares) * 1.12]
    )


def trait_category_figure(histograms: Sequence[TraitCategoryHistogram]) -> go.Figure:
    """One row per trait category, split into the shares of the scale's points.

    Args:
        histograms: As `compute_trait_category_histograms` gives them.
    """
    title = "Ratings by trait category"
    rated = [histogram for histogram in histograms if sum(histogram["counts"])]
    if not rated:
        return empty_figure(title, NO_ANSWERS)
    totals = [sum(histogram["counts"]) for histogram in rated]
    figure = framed_figure(
        title,
        f"{counted(sum(totals), 'answer')}, recoded",
        height=ROW_HEIGHT * 2 * len(rated) + 170,
    )
    rows = [row_label(histogram["category"]) for histogram in rated]
    for index, point in enumerate(rated[0]["bins"]):
        shares = [histogram["shares"][index] or 0.0 for histogram in rated]
        figure.add_bar(
            orientation="h",
            name=point,
            y=rows,
            x=shares,
            marker={
                "color": POINTS[index % len(POINTS)],
                "line": {"color": QUIET, "width": 0.5},
            },
            text=[f"{share:.0%}" if share >= _SMALLEST_LABELLED_SHARE else "" for share in shares],
            textposition="inside",
            insidetextanchor="middle",
            textangle=0,
            textfont={"color": ON_POINTS[index % len(ON_POINTS)], "size": SMALL_SIZE},
            customdata=[
                [plain(histogram["category"]), histogram["counts"][index], total]
                for histogram, total in zip(rated, totals, strict=True)
            ],
            hovertemplate=(
                f"%{{customdata[0]}}<br>Rating {point}: %{{customdata[1]:,}} of "
                "%{customdata[2]:,} answers (%{x:.1%})<extra></extra>"
            ),
        )
    figure.update_layout(
        barmode="stack",
        bargap=0.3,
        legend={
            "orientation": "h",
            "traceorder": "normal",
            "x": 0,
            "xanchor": "left",
            "y": 1,
            "yanchor": "bottom",
            "title": {"text": "Rating ", "side": "left"},
        },
    )
    figure.layout.margin.t += 28
    figure.update_xaxes(title_text="Share of answers", tickformat=".0%", range=[0, 1])
    return figure.update_yaxes(type="category", autorange="reversed")


def tally_figure(tally: Mapping[str, Any], title: str = "Ratings so far") -> go.Figure:
    """Ratings of a run that may still be running, stacked by scale order.

    Args:
        tally: Raw digits per scale order: {"in": [n1..n5], "rev": [n1..n5], ...}. Those of the
            reversed order are recoded here, so that 5 always means "very".
        title: Our own words.
    """
    shown = {"in": list(tally.get("in", [])), "rev": list(reversed(tally.get("rev", [])))}
    total = sum(map(sum, shown.values()))
    if not total:
        return empty_figure(title, NO_ANSWERS, height=320)
    figure = framed_figure(title, counted(total, "answer"), height=320)
    for order, name, colour, shape in (
        ("in", "original", MAIN, ""),
        ("rev", "reversed", SECOND, "/"),
    ):
        counts = shown[order]
        figure.add_bar(
            x=[str(point) for point in range(1, len(counts) + 1)],
            y=counts,
            name=name,
            marker={"color": colour, "pattern": {"shape": shape, "size": 6, "solidity": 0.3}},
            hovertemplate=f"Rating %{{x}}, {name} scale order: %{{y:,}} answers<extra></extra>",
        )
    figure.update_layout(
        barmode="stack",
        showlegend=True,
        legend={
            "orientation": "h",
            "traceorder": "normal",
            "x": 1,
            "xanchor": "right",
            "y": 1,
            "yanchor": "bottom",
            "title": {"text": "Scale order ", "side": "left"},
        },
    )
    figure.update_xaxes(type="category", title_text=SCALE_TITLE)
    return figure.update_yaxes(title_text="Answers", rangemode="tozero")


def answer_distribution_figure(probabilities: Sequence[float] | None, rating_raw: int) -> go.Figure:
    """The probability a model gave each digit in one answer; the digit used is filled.

    Args:
        probabilities: p1..p5 of the digits as shown to the model, or None.
        rating_raw: The digit used as the rating.
    """
    title = "Probability of each digit"
    if not probabilities:
        return empty_figure(title, "The engine gave no probabilities.", height=200)
    figure = framed_figure(title, "as shown to the model, before recoding", height=280)
    figure.add_bar(
        x=[str(point) for point in range(1, len(probabilities) + 1)],
        y=list(probabilities),
        marker={
            "color": [
                MAIN if point == rating_raw else "rgba(0,0,0,0)"
                for point in range(1, len(probabilities) + 1)
            ],
            "line": {"color": MAIN, "width": 1.5},
        },
        text=[f"{share:.1%}" for share in probabilities],
        textposition="outside",
        cliponaxis=False,
        hovertemplate="Digit %{x}: %{y:.4f}<extra></extra>",
    )
    figure.update_xaxes(type="category", title_text="Digit")
    return figure.update_yaxes(visible=False, range=[0, max(probabilities) * 1.18])
