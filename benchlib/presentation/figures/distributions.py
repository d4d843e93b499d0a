"""The distributions behind the answers: mean probability of every point, by trait category."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from benchlib.domain.analysis.distributions import DistributionSummary
from benchlib.presentation.figures.theme import (
    MAIN,
    ON_POINTS,
    POINTS,
    QUIET,
    ROW_HEIGHT,
    SMALL_SIZE,
    empty_figure,
    framed_figure,
    row_label,
)
from benchlib.presentation.numbers import number
from benchlib.presentation.text import counted

NO_DISTRIBUTIONS = "The answers of this run came without probabilities."
_SMALLEST_LABELLED = 0.06
"""Smallest share whose label fits into its part of a bar."""


def distribution_figure(summary: DistributionSummary) -> go.Figure:
    """Mean probability of every point; the dashed line is the mean expected rating.

    Args:
        summary: As `compute_distribution_summary` gives it.
    """
    title = "Mean probability of each rating"
    shares = [share for share in summary["probabilities"] if share is not None]
    if not shares:
        return empty_figure(title, NO_DISTRIBUTIONS)
    subtitle = f"{counted(summary['n'], 'answer')}, recoded"
    if summary["expected"] is not None:
        subtitle += f"; dashed: expected rating {number(summary['expected'])}"
    figure = framed_figure(title, subtitle, 340)
    figure.add_bar(
        x=list(range(1, len(shares) + 1)),
        y=shares,
        marker_color=MAIN,
        text=[f"{share:.1%}" for share in shares],
        textposition="outside",
        cliponaxis=False,
        hovertemplate="Rating %{x}: %{y:.2%}<extra></extra>",
    )
    if summary["expected"] is not None:
        figure.add_vline(x=summary["expected"], line={"dash": "dash", "color": QUIET, "width": 2})
    figure.update_xaxes(title_text="Rating (1 = not at all, 5 = very)", dtick=1)
    return figure.update_yaxes(
        title_text="Probability", tickformat=".0%", range=[0, max(shares) * 1.2]
    )


def distributions_by_figure(rows: Sequence[Mapping[str, Any]], by: str) -> go.Figure:
    """Mean probabilities as stacked bars, one per trait category or trait.

    Args:
        rows: Summaries with a name in the field `by`.
        by: `trait_category` or `label`.
    """
    title = "Mean probability of each rating by " + ("trait" if by == "label" else "trait category")
    shown = [row for row in rows if row["n"]]
    if not shown:
        return empty_figure(title, NO_DISTRIBUTIONS)
    figure = framed_figure(title, "recoded", ROW_HEIGHT * len(shown) + 170)
    places = list(range(len(shown)))
    for index, colour in enumerate(POINTS):
        shares = [row["probabilities"][index] or 0.0 for row in shown]
        figure.add_bar(
            orientation="h",
            name=str(index + 1),
            y=places,
            x=shares,
            marker={"color": colour, "line": {"color": QUIET, "width": 0.5}},
            text=[f"{share:.0%}" if share >= _SMALLEST_LABELLED else "" for share in shares],
            textposition="inside",
            insidetextanchor="middle",
            textangle=0,
            textfont={"color": ON_POINTS[index], "size": SMALL_SIZE},
            hovertemplate=f"Rating {index + 1}: %{{x:.1%}}<extra></extra>",
        )
    figure.update_layout(
        barmode="stack",
        bargap=0.25,
        legend={
            "orientation": "h",
            "traceorder": "normal",
            "x": 0,
            "y": 1,
            "yanchor": "bottom",
            "title": {"text": "Rating "},
        },
        margin_t=100,
    )
    figure.update_xaxes(title_text="Probability", tickformat=".0%", range=[0, 1])
    return figure.update_yaxes(
        tickmode="array",
        tickvals=places,
        ticktext=[f"{row_label(row[by])} ({number(row['expected'])})" for row in shown],
        range=[len(shown) - 0.4, -0.6],
        ticksuffix=" ",
    )
