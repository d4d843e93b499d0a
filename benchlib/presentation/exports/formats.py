"""The formats that files can have."""

from typing import Final, Literal

FigureFormat = Literal["svg", "pdf", "png", "html"]


TableFormat = Literal["csv", "parquet", "tex"]


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
