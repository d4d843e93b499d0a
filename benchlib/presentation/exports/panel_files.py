"""Panels as files: which figure and which rows represent a panel outside the dashboard."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import plotly.graph_objects as go

from benchlib.application.analysis.answer_panels import MeansPanel, MetricsPanel, OrderPanel
from benchlib.application.analysis.group_panels import DeltasPanel, ForestPanel, OmnibusPanel
from benchlib.application.payloads import RunDetail
from benchlib.domain.stats.welch import FdrMethod
from benchlib.presentation.exports import files
from benchlib.presentation.exports.formats import FORMATS, TABLE_FORMATS
from benchlib.presentation.figures.deltas import deltas_figure
from benchlib.presentation.figures.forest import forest_figure
from benchlib.presentation.figures.forest_lines import SortBy
from benchlib.presentation.figures.histogram import rating_histogram_figure
from benchlib.presentation.figures.means import means_figure
from benchlib.presentation.figures.omnibus import bias_index_figure
from benchlib.presentation.figures.order_effects import shift_by_trait_figure
from benchlib.presentation.provenance import Provenance, provenance_of
from benchlib.presentation.rows import histogram_rows

_WIDTH: Final = 1100
_COMPACT_WIDTH: Final = 520
"""Pixels of a compact forest: one column of a journal."""


class File(NamedTuple):
    """A file to be downloaded."""

    content: bytes
    name: str
    media_type: str


@dataclass(frozen=True, slots=True, eq=False)
class PanelExport:
    """A panel that can become a file: its figure, or the rows behind it.

    Attributes:
        subject: Goes into the file's name, which keeps only letters and digits of it.
        title: Caption of a LaTeX table.
        figure: As the page draws it.
        rows: The numbers behind the figure.
        provenance: Goes into every file.
        width: Pixels of a picture.
    """

    subject: str
    title: str
    figure: go.Figure
    rows: Sequence[Mapping[str, Any]]
    provenance: Provenance
    width: int = _WIDTH

    def file(self, name: str, theme: files.Theme = "light") -> File:
        """Make the file.

        Args:
            name: Of a format, see `FORMATS`.
            theme: Of a figure; tables have none.

        Raises:
            InvalidInput: Unknown format.
            NoPictures: The format needs Chromium, which is missing or does not draw.
        """
        if name in TABLE_FORMATS:
            content = files.export_table(self.rows, name, self.provenance, title=self.title)
        else:
            content = files.export_figure(
                self.figure, name, self.provenance, theme=theme, width=self.width
            )
        found = FORMATS[name]
        saved_as = files.file_name(self.provenance, self.subject, found.extension)
        return File(content, saved_as, found.media_type)


def metrics_export(run: RunDetail, metrics: MetricsPanel) -> PanelExport:
    """The histogram of all ratings."""
    return PanelExport(
        "metrics",
        "Answers per point of the scale",
        rating_histogram_figure(metrics["hist"]),
        histogram_rows(metrics["hist"]),
        provenance_of(run, metrics),
    )


def means_export(run: RunDetail, means: MeansPanel, baseline: str | None) -> PanelExport:
    """Means of one attribute; the baseline gets a dashed line."""
    return PanelExport(
        f"means {means['attribute']}",
        f"Mean rating by {means['attribute']}",
        means_figure(means["rows"], means["attribute"], baseline),
        means["rows"],
        provenance_of(run, means),
    )


def deltas_export(run: RunDetail, deltas: DeltasPanel) -> PanelExport:
    """Deltas of one attribute."""
    return PanelExport(
        f"deltas {deltas['attribute']}",
        f"Deltas of {deltas['attribute']} against {deltas['baseline']}",
        deltas_figure(deltas),
        deltas["rows"],
        provenance_of(run, deltas),
    )


def forest_export(
    run: RunDetail, forest: ForestPanel, *, by: FdrMethod, max_t: bool, sort: SortBy, compact: bool
) -> PanelExport:
    """A forest; the figure shows its first target, the rows are of all targets."""
    provenance = provenance_of(run, forest)
    figure = forest_figure(
        forest, provenance, sort=sort, correction="max_t" if max_t else by, compact=compact
    )
    return PanelExport(
        f"forest {forest['attribute']}",
        f"Deltas of {forest['attribute']} against {forest['baseline']} by trait",
        figure,
        forest["rows"],
        provenance,
        _COMPACT_WIDTH if compact else _WIDTH,
    )


def omnibus_export(run: RunDetail, omnibus: OmnibusPanel) -> PanelExport:
    """The bias index of every attribute, with its tests."""
    return PanelExport(
        "omnibus",
        "Omnibus tests by attribute",
        bias_index_figure(omnibus["attributes"]),
        omnibus["attributes"],
        provenance_of(run, omnibus),
    )


def order_export(run: RunDetail, order: OrderPanel) -> PanelExport:
    """What the order of the scale does to every trait."""
    return PanelExport(
        "order",
        "Order difference by trait",
        shift_by_trait_figure(order["by_case"]),
        order["by_case"],
        provenance_of(run, order),
    )
