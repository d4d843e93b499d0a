"""One exporter for pages and API: figures to SVG, PDF, PNG and HTML, tables to CSV, Parquet, LaTeX.

Every file carries its provenance: figures as a caption and as metadata, tables as columns (CSV),
metadata (Parquet) or a note (LaTeX). Pictures are drawn by one Chromium that is started at the
first picture and kept.
"""

import asyncio
import atexit
import hashlib
import json
import logging
import re
import threading
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import TimeoutError as TooSlow
from concurrent.futures import wait
from html import escape
from typing import Any, Final, Literal

import plotly.graph_objects as go
import plotly.io as pio

from benchlib.application.payloads import RunDetail
from benchlib.domain.errors import BenchlibError, InvalidInput
from benchlib.presentation.figures.notes import (
    CAPTION,
    LINE_HEIGHT,
    add_notes,
    has_note,
    mark_simulated,
    wrapped,
)
from benchlib.presentation.provenance import Provenance, correction_sentence
from benchlib.presentation.table_formats import paper_columns, to_csv, to_latex, to_parquet

FigureFormat = Literal["svg", "pdf", "png", "html"]
TableFormat = Literal["csv", "parquet", "tex"]
Theme = Literal["light", "dark"]

FIGURE_FORMATS: Final[tuple[FigureFormat, ...]] = ("svg", "pdf", "png", "html")
TABLE_FORMATS: Final[tuple[TableFormat, ...]] = ("csv", "parquet", "tex")
MIME: Final = {
    "svg": "image/svg+xml",
    "pdf": "application/pdf",
    "png": "image/png",
    "html": "text/html",
    "csv": "text/csv",
    "parquet": "application/vnd.apache.parquet",
    "tex": "application/x-tex",
}
PAPER: Final = {"light": "#ffffff", "dark": "#0e1117"}
"""Backgrounds of pictures; those of the dashboard's themes."""

_LOG: Final = logging.getLogger(__name__)
_WIDTH: Final = 1100
_LABELS: Final = 190
"""Pixels that labels to the left of a plot may need; the caption begins after them."""

_LETTER: Final = 6
"""Pixels per letter of a caption."""

_SECONDS: Final = 60.0


class NoPictures(BenchlibError):
    """Pictures cannot be drawn on this machine."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(
            "SVG, PDF and PNG need Chrome or Chromium beside the dashboard (and kaleido: pip "
            "install 'benchlib[export]'). HTML works without; so do the camera button of a chart, "
            "and CSV, Parquet and LaTeX tables." + (f" The cause: {reason}" if reason else "")
        )


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


def pictures_work() -> bool:
    """Whether a Chromium is there to draw SVG, PDF and PNG; does not start it."""
    try:
        from choreographer.browsers.chromium import Chromium
    except ImportError:
        return False
    return bool(Chromium.find_browser(skip_local=False))


class Renderer:
    """One Chromium in a thread of its own, for all threads of the process."""

    def __init__(self) -> None:
        # One picture at a time, and never two browsers.
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._kaleido: Any = None

    def draw(self, figure: go.Figure, options: Mapping[str, Any]) -> bytes:
        """Draw a figure; starts the browser where there is none, and anew where it has died.

        Raises:
            NoPictures: It cannot.
        """
        given = json.loads(figure.to_json())
        with self._lock:
            try:
                if self._kaleido is not None:
                    return self._draw(given, options)
            except Exception as problem:
                _LOG.warning("The browser that draws pictures is started anew: %r", problem)
                self._stop()
                if isinstance(problem, TooSlow):
                    raise NoPictures("the browser did not answer in time.") from problem
            try:
                self._start()
                return self._draw(given, options)
            except Exception as problem:
                self._stop()
                raise NoPictures(str(problem) or type(problem).__name__) from problem

    def close(self) -> None:
        """End the browser; the next picture starts another one."""
        with self._lock:
            self._stop()

    def _draw(self, given: dict[str, Any], options: Mapping[str, Any]) -> bytes:
        drawn = self._wait(self._kaleido.calc_fig(given, opts=dict(options)))
        return bytes(drawn)

    def _start(self) -> None:
        if not pictures_work():
            raise NoPictures
        from kaleido import Kaleido

        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="benchlib-pictures", daemon=True
        )
        self._thread.start()

        async def opened() -> Any:
            browser = Kaleido(n=1, mathjax=False, timeout=_SECONDS)
            await browser.open()
            return browser

        self._kaleido = self._wait(opened())
        # After opening: at exit, the browser then closes before its temporary folders vanish.
        atexit.register(self.close)

    def _stop(self) -> None:
        loop, thread, browser = self._loop, self._thread, self._kaleido
        self._loop = self._thread = self._kaleido = None
        if loop is None or thread is None:
            return
        atexit.unregister(self.close)
        if browser is not None:
            closing = asyncio.run_coroutine_threadsafe(browser.close(), loop)
            wait([closing], _SECONDS)
            problem = closing.exception() if closing.done() else TooSlow()
            if problem is not None:
                _LOG.warning("The browser that draws pictures did not close in order: %r", problem)
        asyncio.run_coroutine_threadsafe(_finish(), loop).result(_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_SECONDS)
        loop.close()

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        if self._loop is None:
            raise NoPictures
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_SECONDS)


RENDERER: Final = Renderer()


async def _finish() -> None:
    """Let go of what is still waiting in the loop."""
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


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
