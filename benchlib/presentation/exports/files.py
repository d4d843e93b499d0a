"""One exporter for pages and API: figures to SVG, PDF, PNG and HTML, tables to CSV, Parquet, LaTeX.

Every file carries its provenance: figures as a caption and as metadata, tables as columns (CSV),
metadata (Parquet) or a note (LaTeX). Pictures are drawn by one Chromium that is started at the
first picture and kept.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final, Literal

import plotly.graph_objects as go
import plotly.io as pio

from benchlib.application.payloads import RunDetail
from benchlib.domain.errors import InvalidInput
from benchlib.presentation.exports.formats import FIGURE_FORMATS, FigureFormat, TableFormat
from benchlib.presentation.exports.pictures import RENDERER
from benchlib.presentation.exports.table_formats import paper_columns, to_csv, to_latex, to_parquet
from benchlib.presentation.figures.notes import (
    CAPTION,
    LINE_HEIGHT,
    add_notes,
    has_note,
    mark_simulated,
    wrapped,
)
from benchlib.presentation.provenance import Provenance, correction_sentence

Theme = Literal["light", "dark"]

PAPER: Final = {"light": "#ffffff", "dark": "#0e1117"}
"""Backgrounds of pictures; those of the dashboard's themes."""

_WIDTH: Final = 1100
_LABELS: Final = 190
"""Pixels that labels to the left of a plot may need; the caption begins after them."""

_LETTER: Final = 6
"""Pixels per letter of a caption."""


def provenance_of(
    run: RunDetail, panel: Mapping[str, Any], beside: Sequence[RunDetail] = ()
) -> Provenance:
    """Where a panel's numbers come from.

    Args:
        run: The run.
        panel: A payload of the analysis; reads what of `n_personas`, `n_answers`, `missing`,
            `n_dropped`, `n_copies`, `preliminary` and `correction` it has.
        beside: Runs that this one is compared with.
    """
    engine = run["manifest"].get("engine", {})
    correction = panel.get("correction")
    return Provenance(
        run_id=run["id"],
        model_name=run["model_name"],
        model_revision=engine.get("model_revision"),
        dataset_name=run["dataset_name"],
        manifest_hash=manifest_hash(run["manifest"]),
        correction=""
        if correction is None
        else correction_sentence(correction["method"], correction["family"], correction["size"]),
        simulated=any(one["simulated"] for one in (run, *beside)),
        preliminary=bool(panel.get("preliminary", run["n_results"] < run["total"])),
        n_personas=int(panel.get("n_personas") or 0),
        n_answers=int(panel.get("n", panel.get("n_answers", 0))),
        n_missing=int(panel.get("missing") or 0),
        n_dropped=panel.get("n_dropped"),
        n_copies=int(panel.get("n_copies") or 0),
        beside=tuple(provenance_of(other, {}) for other in beside),
    )


def manifest_hash(manifest: Mapping[str, Any]) -> str | None:
    """SHA-256 of what a run froze at its first start; resuming does not change it.

    Returns:
        None for a run that never started.
    """
    if not manifest:
        return None
    frozen = {
        name: value for name, value in manifest.items() if name not in ("executions", "engine")
    }
    engine = manifest.get("engine", {})
    lasting = ("model_name", "model_revision", "answer_mode_used", "logprobs_source")
    frozen["engine"] = {name: engine.get(name) for name in lasting}
    text = json.dumps(frozen, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def file_name(provenance: Provenance, what: str, extension: str) -> str:
    """A name that leads back to the run: run-3-deltas-gender-1a2b3c4d.csv."""
    runs = "-".join(str(one.run_id) for one in provenance.every)
    parts = [f"run-{runs}", *re.findall(r"[a-z0-9]+", what.lower())]
    if provenance.simulated:
        parts.append("simulated")
    parts.append((provenance.manifest_hash or "none")[:8])
    return "-".join(parts)[:120] + f".{extension}"


def export_figure(
    figure: go.Figure,
    extension: FigureFormat,
    provenance: Provenance,
    *,
    theme: Theme = "light",
    width: int = _WIDTH,
    scale: float = 2,
) -> bytes:
    """Make a file of a figure.

    Args:
        figure: Not changed.
        extension: `svg`, `pdf`, `png` or `html`.
        provenance: Goes into the caption, if the figure has none, and into the file's metadata.
        theme: Of text and background.
        width: Pixels.
        scale: Pixels of a PNG per pixel of the figure.

    Raises:
        InvalidInput: Unknown format.
        NoPictures: There is no Chromium, or it does not draw.
    """
    if extension not in FIGURE_FORMATS:
        raise InvalidInput(f"There is no figure format {extension!r}; use svg, pdf, png or html.")
    ready = _ready(figure, provenance, theme, width)
    if extension == "html":
        return _html(ready, provenance)
    height = ready.layout.height or 450
    picture = RENDERER.draw(
        ready, {"format": extension, "width": width, "height": height, "scale": scale}
    )
    if extension == "svg":
        told = escape(json.dumps(provenance.fields(), ensure_ascii=False))
        opened = picture.index(b">", picture.index(b"<svg")) + 1
        return picture[:opened] + f"<metadata>{told}</metadata>".encode() + picture[opened:]
    return picture


def export_table(
    rows: Sequence[Mapping[str, Any]],
    extension: TableFormat,
    provenance: Provenance,
    *,
    title: str = "",
    columns: Sequence[str] | None = None,
) -> bytes:
    """Make a file of a table.

    Args:
        rows: Records with the same keys; None = undefined.
        extension: `csv`, `parquet` or `tex`.
        provenance: Goes into columns (CSV), metadata (Parquet) or a note (LaTeX).
        title: Caption of a LaTeX table.
        columns: Which keys, in which order, a LaTeX table has; None = those that fit a page, see
            `table_formats.PAPER_COLUMNS`. CSV and Parquet always hold all.

    Raises:
        InvalidInput: Unknown format.
    """
    names = list(rows[0]) if rows else list(columns or ())
    if extension == "csv":
        return to_csv(rows, names, provenance)
    if extension == "parquet":
        return to_parquet(rows, names, provenance)
    if extension == "tex":
        return to_latex(rows, list(columns or paper_columns(names)), provenance, title)
    raise InvalidInput(f"There is no table format {extension!r}; use csv, parquet or tex.")


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


def _html(figure: go.Figure, provenance: Provenance) -> bytes:
    """A page that works offline; its head names the run."""
    page: str = pio.to_html(figure, include_plotlyjs=True, config={"displaylogo": False})
    head = "".join(
        f'<meta name="benchlib:{name}" content="{escape(value)}">'
        for name, value in provenance.fields().items()
    )
    name = f"<title>benchlib run {provenance.fields()['run_id']}</title>"
    return page.replace("<head>", f"<head>{name}{head}", 1).encode()
