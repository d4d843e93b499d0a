"""Figures and tables as files, for pages and API.

Every file carries its provenance: figures as a caption and as metadata, tables as columns (CSV),
metadata (Parquet) or a note (LaTeX).
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import plotly.graph_objects as go

from benchlib.domain.errors import InvalidInput
from benchlib.presentation.exports.figure_formats import Drawing
from benchlib.presentation.exports.formats import FIGURE_FORMATS, TABLE_FORMATS
from benchlib.presentation.exports.table_formats import Table
from benchlib.presentation.figures.notes import (
    CAPTION,
    LINE_HEIGHT,
    add_notes,
    has_note,
    mark_simulated,
    wrapped,
)
from benchlib.presentation.provenance import Provenance
from benchlib.presentation.text import VERDICTS

Theme = Literal["light", "dark"]

PAPER: Final = {"light": "#ffffff", "dark": "#0e1117"}
"""Backgrounds of pictures; those of the dashboard's themes."""

_WIDTH: Final = 1100
_LABELS: Final = 190
"""Pixels that labels to the left of a plot may need; the caption begins after them."""

_LETTER: Final = 6
"""Pixels per letter of a caption."""


def file_name(provenance: Provenance, subject: str, extension: str) -> str:
    """A name that leads back to the run: run-3-deltas-gender-1a2b3c4d.csv."""
    runs = "-".join(str(one.run_id) for one in provenance.runs)
    parts = [f"run-{runs}", *re.findall(r"[a-z0-9]+", subject.lower())]
    if provenance.simulated:
        parts.append("simulated")
    parts.append((provenance.manifest_hash or "none")[:8])
    return "-".join(parts)[:120] + f".{extension}"


def export_figure(
    figure: go.Figure,
    name: str,
    provenance: Provenance,
    *,
    theme: Theme = "light",
    width: int = _WIDTH,
    scale: float = 2,
) -> bytes:
    """Make a file of a figure.

    Args:
        figure: Not changed.
        name: Of a format, see `FIGURE_FORMATS`.
        provenance: Goes into the caption, if the figure has none, and into the file's metadata.
        theme: Of text and background.
        width: Pixels.
        scale: Pixels of a PNG per pixel of the figure.

    Raises:
        InvalidInput: Unknown format.
        NoPictures: The format needs Chromium, which is missing or does not draw.
    """
    if name not in FIGURE_FORMATS:
        raise InvalidInput(f"There is no figure format {name!r}; use {_any_of(FIGURE_FORMATS)}.")
    ready = _ready(figure, provenance, theme, width)
    return FIGURE_FORMATS[name].write(Drawing(ready, provenance, width, scale))


def export_table(
    rows: Sequence[Mapping[str, Any]],
    name: str,
    provenance: Provenance,
    *,
    title: str = "",
    columns: Sequence[str] | None = None,
) -> bytes:
    """Make a file of a table.

    Args:
        rows: Records with the same keys; None = undefined. A `verdict` is written in words.
        name: Of a format, see `TABLE_FORMATS`.
        provenance: Goes into columns (CSV), metadata (Parquet) or a note (LaTeX).
        title: Caption of a LaTeX table.
        columns: The keys, in the order of the columns; None = those of the first row.

    Raises:
        InvalidInput: Unknown format.
    """
    if name not in TABLE_FORMATS:
        raise InvalidInput(f"There is no table format {name!r}; use {_any_of(TABLE_FORMATS)}.")
    if columns is None:
        columns = list(rows[0]) if rows else []
    written = [_with_words(row) for row in rows]
    return TABLE_FORMATS[name].write(Table(written, columns, provenance, title))


def _with_words(row: Mapping[str, Any]) -> Mapping[str, Any]:
    words = VERDICTS.get(str(row.get("verdict")))
    return row if words is None else {**row, "verdict": words}


def _any_of(names: Mapping[str, object]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}"


def _ready(
    figure: go.Figure, provenance: Provenance, theme: Theme, width: int = _WIDTH
) -> go.Figure:
    """A copy with caption, mark and the colours of a theme."""
    ready = go.Figure(figure)
    ready.update_layout(
        template="plotly_white" if theme == "light" else "plotly_dark",
        paper_bgcolor=PAPER[theme],
        font_family="Source Sans Pro, Liberation Sans, DejaVu Sans, Arial, sans-serif",
        meta=provenance.fields(),
    )
    mark_simulated(ready, provenance.simulated)
    if not has_note(ready, CAPTION):
        lines = wrapped(provenance.sentence(), max(40, (width - _LABELS) // _LETTER))
        below = ready.layout.margin.b or 60
        room = LINE_HEIGHT * len(lines) + 10
        ready.update_layout(margin_b=below + room, height=(ready.layout.height or 450) + room)
        add_notes(ready, lines, below=below)
    return ready
