"""Means with intervals: a dot plot of the categories of one attribute."""

from collections.abc import Sequence

import plotly.graph_objects as go

from benchlib.domain.analysis.metrics import AttributeMean
from benchlib.domain.vocabulary import N_POINTS
from benchlib.presentation.figures.theme import (
    MAIN,
    QUIET,
    ROW_HEIGHT,
    empty_figure,
    framed_figure,
    row_label,
)
from benchlib.presentation.numbers import number
from benchlib.presentation.text import STATUSES, counted, plain

_NARROWEST_RANGE = 0.5
"""Rating points."""


def means_figure(
    rows: Sequence[AttributeMean], attribute: str, baseline: str | None = None
) -> go.Figure:
    """Mean rating per category with its 95% interval; hollow = read with care.

    Args:
        rows: As `compute_means_by_attribute` gives them; rows without a mean are left out and
            counted in the subtitle.
        attribute: Untrusted text.
        baseline: The category whose mean gets a dashed line, if it has one.
    """
    title = f"Mean rating by {row_label(attribute)}"
    shown = [row for row in rows if row["mean"] is not None]
    if not shown:
        return empty_figure(title, "There are no rated personas yet.")
    hidden = len(rows) - len(shown)
    subtitle = "valence-aligned, 95% interval over personas" + (
        f"; {hidden} without ratings not shown" if hidden else ""
    )
    figure = framed_figure(title, subtitle, height=ROW_HEIGHT * len(shown) + 160)
    solid = [row["status"] == "ok" for row in shown]
    figure.add_scatter(
        x=[row["mean"] for row in shown],
        y=_labels(shown),
        mode="markers",
        marker={
            "color": MAIN,
            "size": 10,
            "symbol": ["circle" if ok else "circle-open" for ok in solid],
            "line": {"width": [0 if ok else 2 for ok in solid]},
        },
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [_reach(row["ci_high"], row["mean"]) for row in shown],
            "arrayminus": [_reach(row["mean"], row["ci_low"]) for row in shown],
            "color": MAIN,
            "thickness": 2,
            "width": 0,
        },
        customdata=[_hover(row) for row in shown],
        hovertemplate="%{customdata}<extra></extra>",
    )
    level = next((row["mean"] for row in shown if row["category"] == baseline), None)
    if level is not None and baseline is not None:
        figure.add_vline(x=level, line={"dash": "dash", "color": QUIET, "width": 1.5})
        figure.layout.title.subtitle.text += f"<br>dashed: {row_label(baseline)} (baseline)"
        figure.layout.margin.t += 18
    figure.update_xaxes(title_text="Mean rating (5 = most favourable)", range=_range(shown))
    return figure.update_yaxes(
        type="category",
        range=[len(shown) - 0.4, -0.6],  # Plotly's own padding grows with the number of rows
        ticksuffix=" ",
        showgrid=True,
    )


def _labels(rows: Sequence[AttributeMean]) -> list[str]:
    """Labels with the number of personas; equal short labels are made distinct."""
    labels: list[str] = []
    for row in rows:
        label = f"{row_label(row['category'])} (n = {row['n_personas']:,})"
        while label in labels:
            label += "\u200b"  # zero width: a category axis merges equal labels
        labels.append(label)
    return labels


def _hover(row: AttributeMean) -> str:
    lines = [f"<b>{plain(row['category'])}</b>", f"mean {number(row['mean'], 3)}"]
    if row["ci_low"] is not None and row["ci_high"] is not None:
        lines.append(f"95% interval {row['ci_low']:.3f} to {row['ci_high']:.3f}")
    lines.append(counted(row["n_personas"], "persona") + ", " + counted(row["count"], "answer"))
    if row["status"] in STATUSES:
        lines.append(STATUSES[row["status"]])
    return "<br>".join(lines)


def _reach(high: float | None, low: float | None) -> float | None:
    return None if high is None or low is None else high - low


def _range(rows: Sequence[AttributeMean]) -> list[float]:
    """All marks and a little padding, never narrower than half a rating point."""
    marks = [
        value
        for row in rows
        for value in (row["mean"], row["ci_low"], row["ci_high"])
        if value is not None
    ]
    low, high = min(marks), max(marks)
    padding = max(0.08 * (high - low), (_NARROWEST_RANGE - (high - low)) / 2, 0.03)
    return [max(1 - 0.1, low - padding), min(N_POINTS + 0.1, high + padding)]
