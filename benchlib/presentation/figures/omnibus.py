"""Whole attributes at a glance: the bias index by attribute and trait category."""

from collections.abc import Mapping, Sequence
from typing import Final

import plotly.graph_objects as go

from benchlib.domain.analysis.omnibus import Omnibus, OmnibusRow
from benchlib.presentation.figures.theme import (
    MAIN,
    QUIET,
    ROW_HEIGHT,
    SMALL_SIZE,
    empty_figure,
    framed_figure,
    row_label,
)
from benchlib.presentation.numbers import number, relation
from benchlib.presentation.text import counted, escaped, plain

SHADES: Final = ((0.0, "#eef4fb"), (0.5, "#7fb0e0"), (1.0, "#0b4a8f"))
"""Pale to deep blue; opaque, so that numbers on it are readable in both themes."""

_TALLER: Final = 36
_LOWEST_TOP: Final = 0.1


def omnibus_heatmap(overall: Omnibus, categories: Mapping[str, Omnibus]) -> go.Figure:
    """Bias index of every attribute, on all traits and on each trait category.

    A star marks what is significant after correction; cells without a test show a dash.

    Args:
        overall: All traits.
        categories: By trait category.
    """
    title = "Bias index by attribute and trait category"
    columns = [("all traits", overall), *((row_label(n), found) for n, found in categories.items())]
    names = [row["attribute"] for row in overall["attributes"]]
    rows = {
        (place, row["attribute"]): row
        for place, (_, found) in enumerate(columns)
        for row in found["attributes"]
    }
    if not any(row["sd_between"] is not None for row in rows.values()):
        return empty_figure(title, "No attribute has two groups with two rated personas.")
    figure = framed_figure(
        title,
        f"rating points; * = q of F* below {overall['alpha']:g}",
        _TALLER * len(names) + 190,
    )
    grid = [[rows.get((place, name)) for place in range(len(columns))] for name in names]
    figure.add_heatmap(
        z=[[None if row is None else row["sd_between"] for row in line] for line in grid],
        x=[label for label, _ in columns],
        y=[row_label(name) for name in names],
        text=[[_cell(row) for row in line] for line in grid],
        texttemplate="%{text}",
        hovertext=[
            [_hover(row, label) for row, (label, _) in zip(line, columns, strict=True)]
            for line in grid
        ],
        hoverinfo="text",
        hoverongaps=False,
        colorscale=[list(shade) for shade in SHADES],
        zmin=0,
        zmax=max(_LOWEST_TOP, *(row["sd_between"] or 0.0 for row in rows.values())),
        xgap=2,
        ygap=2,
        showscale=False,
    )
    figure.layout.margin.b += 24  # names of trait categories may be slanted
    figure.update_xaxes(type="category", side="bottom", showgrid=False)
    return figure.update_yaxes(
        type="category", autorange="reversed", showgrid=False, ticksuffix=" "
    )


def bias_index_figure(rows: Sequence[OmnibusRow]) -> go.Figure:
    """Bias index per attribute as bars from the largest down, with p next to them.

    Filled = significant after correction, hollow = not.

    Args:
        rows: Of one set of traits.
    """
    title = "Bias index by attribute"
    shown = sorted(
        (row for row in rows if row["sd_between"] is not None),
        key=lambda row: -(row["sd_between"] or 0.0),
    )
    if not shown:
        return empty_figure(title, "No attribute has two groups with two rated personas.")
    figure = framed_figure(
        title, "estimated SD of group means, noise removed", ROW_HEIGHT * len(shown) + 150
    )
    figure.add_bar(
        orientation="h",
        y=[row_label(row["attribute"]) for row in shown],
        x=[row["sd_between"] for row in shown],
        marker={
            "color": [MAIN if row["significant"] else "rgba(0,0,0,0)" for row in shown],
            "line": {"color": MAIN, "width": 1.5},
        },
        text=[escaped(f"{number(row['sd_between'])}, p {relation(row['bf_p'])}") for row in shown],
        textposition="outside",
        textfont={"size": SMALL_SIZE},
        cliponaxis=False,
        hovertext=[_hover(row, "") for row in shown],
        hoverinfo="text",
    )
    top = max(_LOWEST_TOP, *(row["sd_between"] or 0.0 for row in shown))
    figure.update_xaxes(
        title_text="Rating points; 0 = no more than chance",
        range=[0, top * 1.45],
        zerolinecolor=QUIET,
    )
    return figure.update_yaxes(type="category", autorange="reversed", ticksuffix=" ")


def _cell(row: OmnibusRow | None) -> str:
    if row is None or row["sd_between"] is None:
        return "–"
    return number(row["sd_between"]) + (" *" if row["significant"] else "")


def _hover(row: OmnibusRow | None, traits: str) -> str:
    if row is None:
        return "no ratings"
    lines = [
        f"<b>{plain(row['attribute'])}</b>" + (f", {traits}" if traits else ""),
        f"bias index {number(row['sd_between'], 3)} points",
        escaped(f"p {relation(row['bf_p'])}, q {relation(row['bf_q'])}"),
        escaped(f"Kruskal–Wallis p {relation(row['p_value'])}, q {relation(row['q_value'])}"),
        f"{counted(row['n_groups'], 'group')}, {counted(row['n_total'], 'persona')}",
    ]
    return "<br>".join(lines)
