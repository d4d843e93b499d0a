"""Figures as SVG, PDF, PNG and HTML; SVG and HTML name the run in their metadata."""

import json
from dataclasses import dataclass
from html import escape

import plotly.graph_objects as go
import plotly.io as pio

from benchlib.presentation.exports.pictures import RENDERER
from benchlib.presentation.provenance import Provenance


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """A figure ready to be written.

    Attributes:
        figure: With caption and colours; its height is used if it has one.
        provenance: Goes into the file's metadata.
        width: Pixels.
        scale: Pixels of a PNG per pixel of the figure.
    """

    figure: go.Figure
    provenance: Provenance
    width: int
    scale: float


def write_svg(drawing: Drawing) -> bytes:
    """Vector graphics with the provenance as a `metadata` element."""
    picture = _draw(drawing, "svg")
    fields = escape(json.dumps(drawing.provenance.fields(), ensure_ascii=False))
    start = picture.index(b">", picture.index(b"<svg")) + 1
    return picture[:start] + f"<metadata>{fields}</metadata>".encode() + picture[start:]


def write_pdf(drawing: Drawing) -> bytes:
    """Vector graphics for LaTeX."""
    return _draw(drawing, "pdf")


def write_png(drawing: Drawing) -> bytes:
    """Pixels, `scale` times as many as the figure has."""
    return _draw(drawing, "png")


def write_html(drawing: Drawing) -> bytes:
    """An interactive page that works offline; its head names the run."""
    page: str = pio.to_html(drawing.figure, include_plotlyjs=True, config={"displaylogo": False})
    fields = drawing.provenance.fields()
    head = "".join(
        f'<meta name="benchlib:{name}" content="{escape(value)}">' for name, value in fields.items()
    )
    title = f"<title>benchlib run {fields['run_id']}</title>"
    return page.replace("<head>", f"<head>{title}{head}", 1).encode()


def _draw(drawing: Drawing, kind: str) -> bytes:
    size = {
        "width": drawing.width,
        "height": drawing.figure.layout.height or 450,
        "scale": drawing.scale,
    }
    return RENDERER.draw(drawing.figure, {"format": kind, **size})
