"""The formats of exported files; pages, API and docs read them from here.

To add one, write its writer (`table_formats.py`, `figure_formats.py`), add an entry here and a
line to the table in docs/API.md, which a test compares with this registry.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from benchlib.presentation.exports.figure_formats import (
    Drawing,
    write_html,
    write_pdf,
    write_png,
    write_svg,
)
from benchlib.presentation.exports.table_formats import (
    Table,
    write_csv,
    write_latex,
    write_parquet,
)


@dataclass(frozen=True, slots=True)
class TableFormat:
    """A format of tables.

    Attributes:
        name: In addresses of the API.
        label: On buttons.
        media_type: Of the file.
        write: Makes the file.
        extension: Of the file's name, without a dot.
    """

    name: str
    label: str
    media_type: str
    write: Callable[[Table], bytes]
    extension: str


@dataclass(frozen=True, slots=True)
class FigureFormat:
    """A format of figures.

    Attributes:
        name: In addresses of the API.
        label: On buttons.
        media_type: Of the file.
        write: Makes the file.
        extension: Of the file's name, without a dot.
        needs_browser: Whether a Chromium on the server draws it.
    """

    name: str
    label: str
    media_type: str
    write: Callable[[Drawing], bytes]
    extension: str
    needs_browser: bool = True


FIGURE_FORMATS: Final[Mapping[str, FigureFormat]] = {
    one.name: one
    for one in (
        FigureFormat("svg", "SVG", "image/svg+xml", write_svg, "svg"),
        FigureFormat("pdf", "PDF", "application/pdf", write_pdf, "pdf"),
        FigureFormat("png", "PNG", "image/png", write_png, "png"),
        FigureFormat("html", "HTML", "text/html", write_html, "html", needs_browser=False),
    )
}

TABLE_FORMATS: Final[Mapping[str, TableFormat]] = {
    one.name: one
    for one in (
        TableFormat("csv", "CSV", "text/csv", write_csv, "csv"),
        TableFormat(
            "parquet", "Parquet", "application/vnd.apache.parquet", write_parquet, "parquet"
        ),
        TableFormat("latex", "LaTeX", "application/x-tex", write_latex, "tex"),
    )
}

FORMATS: Final[Mapping[str, FigureFormat | TableFormat]] = {**FIGURE_FORMATS, **TABLE_FORMATS}
"""All formats by name."""
