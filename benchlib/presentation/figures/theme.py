"""Colours, fonts and the frame that all figures share.

Backgrounds are transparent and text has no colour of its own, so that the page's light or dark
theme shows through. Blue and orange stay apart for colour-blind readers and have at least 3:1
contrast on both backgrounds; no figure says anything by colour alone.
"""

import re
from html import unescape
from typing import Any, Final
from unicodedata import east_asian_width

import plotly.graph_objects as go

from benchlib.presentation.text import plain

MAIN: Final = "#2f7fd1"
"""Blue: the one series of a figure, or the first of two."""

SECOND: Final = "#d97706"
"""Orange: the second of two series."""

QUIET: Final = "#8a8a8a"
"""Grey: reference lines, rows to be read with care."""

POINTS: Final = ("#a6611a", "#dcb46e", "#b9bcc2", "#86b7e0", "#2a6cb8")
"""The points of the scale, brown (low) to blue (high)."""

ON_POINTS: Final = ("#ffffff", "#000000", "#000000", "#000000", "#ffffff")
"""Text colours that are readable on POINTS."""

FONT_SIZE: Final = 14
TITLE_SIZE: Final = 17
SMALL_SIZE: Final = 12

ROW_HEIGHT: Final = 28
"""Pixels per row of a dot plot or of stacked bars."""

LONGEST_LABEL: Final = 28
"""Characters of a row's label; the rest shows on hover."""

_LABEL_PADDING: Final = 34
"""Pixels left and right of the labels of rows, together."""

_AXIS_TITLE: Final = 20
"""Pixels of the title of a vertical axis and its padding."""

_TAG: Final = re.compile("<[^>]+>")


def row_label(text: str) -> str:
    """An untrusted text as a row's label, shortened."""
    short = text if len(text) <= LONGEST_LABEL else text[: LONGEST_LABEL - 1] + "…"
    return plain(short)


def framed_figure(title: str, subtitle: str = "", height: int | None = None) -> go.Figure:
    """A figure without traces; see `frame_layout`."""
    figure = go.Figure(layout=frame_layout(title, subtitle, height))
    figure.update_xaxes(automargin=True, title_standoff=12, fixedrange=True)
    figure.update_yaxes(automargin=True, title_standoff=12, fixedrange=True)
    return figure


def frame_layout(title: str, subtitle: str = "", height: int | None = None) -> dict[str, Any]:
    """Title, fonts, margins, transparent background.

    Args:
        title: Our own words only; pass untrusted text through `plain`.
        subtitle: What the numbers are based on.
        height: Pixels; None lets the page decide.
    """
    return {
        "title": {
            "text": title,
            "subtitle": {"text": subtitle, "font": {"size": SMALL_SIZE}},
            "font": {"size": TITLE_SIZE},
            "x": 0,
            "xanchor": "left",
            "xref": "container",
            "yref": "container",
            "y": 1,
            "yanchor": "top",
            "pad": {"t": 10},
        },
        "font": {"size": FONT_SIZE},
        "margin": {"t": 72 if subtitle else 56, "r": 28, "b": 60, "l": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hoverlabel": {"align": "left"},
        "dragmode": False,
        "height": height,
    }


def leave_room(figure: go.Figure) -> go.Figure:
    """Give the labels of the rows their margin before anything is drawn.

    Plotly measures labels once they are drawn, and draws the whole figure again if the margin is
    too small for them. This estimates a little more than they need.

    Args:
        figure: Finished; changed in place.
    """
    axis = figure.layout.yaxis
    if not axis.automargin or axis.visible is False:
        return figure
    labels = axis.ticktext or [
        label
        for trace in figure.data
        if trace.y is not None
        for label in trace.y
        if isinstance(label, str)
    ]
    widest = max(text_width(label, SMALL_SIZE) for label in labels or ("100%",))
    title = _AXIS_TITLE if axis.title.text else 0
    figure.layout.margin.l = round(widest + title + _LABEL_PADDING)
    return figure


def text_width(text: str, size: int) -> float:
    """Roughly how many pixels wide a text is, estimated generously; tags count as nothing.

    Args:
        text: As Plotly gets it.
        size: Of the font, pixels.
    """
    return size * sum(map(_letter_width, unescape(_TAG.sub("", text))))


def _letter_width(letter: str) -> float:
    """Width of a letter as a share of the font size."""
    if east_asian_width(letter) in "WF":
        return 1.0
    if letter in "mwMW@%":
        return 0.82
    if letter in "fijlrtI.,:;'|!()[] ":
        return 0.3
    return 0.62 if letter.isupper() else 0.52


def empty_figure(title: str, sentence: str, height: int = 240) -> go.Figure:
    """A titled figure that says in one sentence why it shows nothing."""
    figure = framed_figure(title, height=height)
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return figure.add_annotation(
        text=sentence, x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False
    )
