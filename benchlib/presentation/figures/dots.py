"""Dot plots: one estimate with its interval per row, and words next to it."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import plotly.graph_objects as go

from benchlib.presentation.figures.notes import axis_font
from benchlib.presentation.figures.theme import (
    MAIN,
    QUIET,
    ROW_HEIGHT,
    SMALL_SIZE,
    framed_figure,
    text_width,
)

_NARROWEST: Final = 0.2
"""Half-width of the narrowest axis, scale points."""


def dot_plot(
    axis_title: str, title: str, subtitle: str, dots: Sequence[Mapping[str, Any]]
) -> go.Figure:
    """Dots with intervals on a symmetric axis, words to the right of the plot area.

    Args:
        axis_title: Of the horizontal axis.
        title: Of the figure.
        subtitle: Of the figure.
        dots: Each with `label`, `estimate`, `low`, `high` (None = none), `filled`, `quiet` (grey),
            `symbol`, `words` and `hover`; texts are escaped.
    """
    figure = framed_figure(title, subtitle, ROW_HEIGHT * len(dots) + 180)
    for quiet in (False, True):
        chosen = [(place, dot) for place, dot in enumerate(dots) if dot["quiet"] is quiet]
        if not chosen:
            continue
        colour = QUIET if quiet else MAIN
        figure.add_scatter(
            name="read with care" if quiet else "delta",
            mode="markers",
            x=[dot["estimate"] for _, dot in chosen],
            y=[place for place, _ in chosen],
            error_x=errors_of([(d["estimate"], d["low"], d["high"]) for _, d in chosen], colour),
            marker={
                "color": colour,
                "size": 10,
                "symbol": [
                    dot["symbol"] if dot["filled"] else f"{dot['symbol']}-open" for _, dot in chosen
                ],
                "line": {"width": 2, "color": colour},
            },
            hovertext=[dot["hover"] for _, dot in chosen],
            hoverinfo="text",
        )
    frame_dots(figure, axis_title, [dot["label"] for dot in dots])
    figure.add_scatter(
        name="verdict",
        mode="text",
        xaxis="x2",
        x=[0] * len(dots),
        y=list(range(len(dots))),
        text=[dot["words"] for dot in dots],
        textposition="middle right",
        textfont={"size": SMALL_SIZE},
        hoverinfo="skip",
        cliponaxis=False,
    )
    limit = limit_of([dot[end] for dot in dots for end in ("estimate", "low", "high")])
    figure.update_xaxes(range=[-limit, limit])
    widest = max((text_width(dot["words"], SMALL_SIZE) for dot in dots), default=0)
    return figure.update_layout(
        margin_r=round(widest) + 16,  # in pixels, so that no word is cut in a narrow figure
        xaxis2={
            "domain": [0.999, 1],
            "range": [0, 1],
            "visible": False,
            "fixedrange": True,
            "anchor": "y",
        },
        showlegend=False,
    )


def limit_of(ends: Sequence[float | None]) -> float:
    """Half-width of a symmetric axis on which all ends fit."""
    return max(max((abs(x) for x in ends if x is not None), default=0.0) * 1.08, _NARROWEST)


def add_band(figure: go.Figure, sesoi: float) -> None:
    """Shade what is smaller than the smallest effect of interest, in scale points."""
    figure.add_shape(
        name="sesoi",
        type="rect",
        xref="x",
        yref="paper",
        x0=-sesoi,
        x1=sesoi,
        y0=0,
        y1=1,
        layer="below",
        fillcolor="rgba(138,138,138,0.22)",
        line={"width": 0},
    )


def frame_dots(figure: go.Figure, axis_title: str, labels: Sequence[str]) -> None:
    """Give every row its label, and the zero line its axis."""
    figure.update_yaxes(
        tickmode="array",
        tickvals=list(range(len(labels))),
        ticktext=list(labels),
        range=[len(labels) - 0.4, -0.6],
        ticksuffix=" ",
        showgrid=False,
        zeroline=False,
    )
    figure.update_xaxes(
        zeroline=True,
        zerolinecolor=QUIET,
        zerolinewidth=1.5,
        title={"text": axis_title, "font": axis_font()},
    )
    figure.update_layout(margin_b=76)


def errors_of(
    numbers: Sequence[tuple[float | None, float | None, float | None]], colour: str
) -> dict[str, Any]:
    """Bars of an interval, from (estimate, low, high)."""

    def reach(first: float | None, second: float | None) -> float | None:
        return None if first is None or second is None else first - second

    return {
        "type": "data",
        "symmetric": False,
        "array": [reach(high, estimate) for estimate, _, high in numbers],
        "arrayminus": [reach(estimate, low) for estimate, low, _ in numbers],
        "color": colour,
        "thickness": 2,
        "width": 0,
    }
