"""Notes of figures: captions under the plot and the mark of simulated data."""

from collections.abc import Sequence
from textwrap import wrap
from typing import Final

import plotly.graph_objects as go

from benchlib.presentation.figures.theme import FONT_SIZE, SMALL_SIZE
from benchlib.presentation.text import plain

CAPTION: Final = "caption"
"""Name of the annotation that holds a figure's provenance."""

SIMULATED: Final = "<b>SIMULATED DATA</b>"
"""How the subtitle of a figure of made-up data begins."""

NOTE_SIZE: Final = 11
"""Font size of a note."""

LINE_HEIGHT: Final = 16
"""Pixels per line of a note."""

WIDEST_LINE: Final = 150
"""Characters of a note that fit in one line under a figure of full width."""

NARROW_LINE: Final = 62
"""The same for a compact figure."""


def wrapped(text: str, widest: int = WIDEST_LINE) -> list[str]:
    """A plain text as escaped lines."""
    return [plain(line) for line in wrap(text, widest)]


def wrapped_markup(text: str, widest: int = WIDEST_LINE) -> list[str]:
    """A text of our own, which may contain entities, as lines."""
    return wrap(text, widest, break_long_words=False, break_on_hyphens=False)


def add_notes(figure: go.Figure, lines: Sequence[str], *, below: int, name: str = CAPTION) -> None:
    """Write lines under the axis; the caller makes room for them in the margin.

    Args:
        figure: Changed in place.
        lines: Escaped; may contain markup of our own.
        below: Pixels between the plot area and the first line.
        name: Tells a note from others.
    """
    figure.add_annotation(
        name=name,
        text="<br>".join(lines),
        xref="paper",
        yref="paper",
        x=0,
        y=0,
        xanchor="left",
        yanchor="top",
        yshift=-below,
        align="left",
        showarrow=False,
        font={"size": NOTE_SIZE},
    )


def mark_simulated(figure: go.Figure, simulated: bool) -> go.Figure:
    """Begin the subtitle of a figure of made-up data with SIMULATED DATA, once."""
    if simulated and not is_marked(figure):
        subtitle = figure.layout.title.subtitle.text
        figure.update_layout(
            title_subtitle_text=SIMULATED + (f" · {subtitle}" if subtitle else ""),
            title_subtitle_font_size=SMALL_SIZE,
        )
    return figure


def is_marked(figure: go.Figure) -> bool:
    """Whether a figure says that its data are made up."""
    return (figure.layout.title.subtitle.text or "").startswith(SIMULATED)


def has_note(figure: go.Figure, name: str) -> bool:
    """Whether a figure has an annotation of this name."""
    return any(note.name == name for note in figure.layout.annotations)


def axis_font() -> dict[str, int]:
    """Font of an axis title."""
    return {"size": FONT_SIZE - 1}
