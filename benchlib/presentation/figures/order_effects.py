"""What the order of the scale does: agreement table, agreement numbers, shift by trait."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import plotly.graph_objects as go

from benchlib.domain.analysis.order_effects import OrderByCase, OrderByTraitCategory, RawDigits
from benchlib.domain.stats.agreement import Agreement
from benchlib.presentation.figures.dots import errors_of, frame_dots, limit_of
from benchlib.presentation.figures.notes import axis_font
from benchlib.presentation.figures.omnibus import SHADES
from benchlib.presentation.figures.theme import (
    MAIN,
    QUIET,
    ROW_HEIGHT,
    SECOND,
    empty_figure,
    framed_figure,
    row_label,
)
from benchlib.presentation.numbers import interval, number, signed
from benchlib.presentation.rows import agreement_rows
from benchlib.presentation.text import counted, plain

NO_PAIRS: Final = "No question was asked in both scale orders."


def agreement_table_figure(table: Sequence[Sequence[int]]) -> go.Figure:
    """Pairs by both answers; the diagonal, framed, holds those that agree.

    Args:
        table: (5, 5) counts; rows the rating in the original scale order, columns the recoded
            rating in the reversed order.
    """
    title = "Both answers to the same question"
    total = sum(map(sum, table))
    if not total:
        return empty_figure(title, NO_PAIRS)
    points = [str(point) for point in range(1, len(table) + 1)]
    figure = framed_figure(title, f"{counted(total, 'pair')}; framed = the same answer", 420)
    figure.add_heatmap(
        z=[[count / total for count in row] for row in table],
        x=points,
        y=points,
        text=[[f"{count:,}<br>{count / total:.0%}" for count in row] for row in table],
        texttemplate="%{text}",
        hovertemplate="original %{y}, reversed %{x}: %{text}<extra></extra>",
        colorscale=[list(shade) for shade in SHADES],
        zmin=0,
        showscale=False,
        xgap=2,
        ygap=2,
    )
    for place in range(len(table)):
        figure.add_shape(
            type="rect",
            x0=place - 0.48,
            x1=place + 0.48,
            y0=place - 0.48,
            y1=place + 0.48,
            line={"color": SECOND, "width": 2},
        )
    figure.update_xaxes(
        type="category", title_text="Rating in the reversed order, recoded", showgrid=False
    )
    figure.layout.margin.b += 8  # the ticks of a heatmap
    return figure.update_yaxes(
        type="category", title_text="Rating in the original order", showgrid=False
    )


def agreement_figure(agreement: Agreement) -> go.Figure:
    """Agreement against chance with jackknife intervals; 0 = chance level, 1 = identical.

    Args:
        agreement: As `compute_agreement` gives it.
    """
    title = "Agreement between scale orders"
    shown = [(row["measure"], row) for row in agreement_rows(agreement) if row["value"] is not None]
    if not shown:
        return empty_figure(title, "Agreement cannot be measured: no pairs, or no variation.")
    figure = framed_figure(
        title, "95% intervals, jackknife over personas", ROW_HEIGHT * len(shown) + 150
    )
    figure.add_scatter(
        mode="markers",
        x=[value["value"] for _, value in shown],
        y=[label for label, _ in shown],
        error_x=errors_of([(v["value"], v["ci_low"], v["ci_high"]) for _, v in shown], MAIN),
        marker={"color": MAIN, "size": 10},
        hovertext=[
            f"{label}: {number(value['value'], 3)} {interval(value['ci_low'], value['ci_high'], 3)}"
            for label, value in shown
        ],
        hoverinfo="text",
        showlegend=False,
    )
    low = min(
        0.0, *(v for _, value in shown for v in (value["value"], value["ci_low"]) if v is not None)
    )
    figure.update_xaxes(
        range=[low - 0.05, 1.05],
        zeroline=True,
        zerolinecolor=QUIET,
        title={"text": "0 = chance level, 1 = identical", "font": axis_font()},
    )
    return figure.update_yaxes(type="category", autorange="reversed", ticksuffix=" ")


def shift_by_category_figure(rows: Sequence[OrderByTraitCategory]) -> go.Figure:
    """Order difference by trait category, with intervals over personas."""
    return _shift_figure(
        "Order difference by trait category",
        [(row["trait_category"], row) for row in rows],
        "exact_rate",
    )


def shift_by_trait_figure(rows: Sequence[OrderByCase]) -> go.Figure:
    """Order difference by trait, the least consistent first."""
    return _shift_figure("Order difference by trait", [(row["label"], row) for row in rows], "rma")


def digits_figure(digits: RawDigits) -> go.Figure:
    """Raw digits as given, by scale order."""
    title = "Digits as given"
    totals = sum(digits["counts_in"]), sum(digits["counts_rev"])
    if not sum(totals):
        return empty_figure(title, "No answers yet.")
    figure = framed_figure(
        title, "for a rater that follows the scale, one order mirrors the other", 340
    )
    for name, counts, total, colour, shape in (
        ("original", digits["counts_in"], totals[0], MAIN, ""),
        ("reversed", digits["counts_rev"], totals[1], SECOND, "/"),
    ):
        figure.add_bar(
            name=f"{name} (n = {total:,})",
            x=digits["bins"],
            y=[count / total if total else 0.0 for count in counts],
            customdata=counts,
            marker={"color": colour, "pattern": {"shape": shape, "size": 6, "solidity": 0.3}},
            hovertemplate=f"Digit %{{x}}, {name} scale order: %{{customdata:,}} (%{{y:.1%}})"
            "<extra></extra>",
        )
    figure.update_layout(
        barmode="group",
        showlegend=True,
        legend={"orientation": "h", "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom"},
        margin_t=100,
    )
    figure.update_xaxes(type="category", title_text="Digit")
    return figure.update_yaxes(title_text="Share of answers", tickformat=".0%")


def _shift_figure(title: str, rows: Sequence[tuple[str, Any]], rate: str) -> go.Figure:
    if not rows:
        return empty_figure(title, NO_PAIRS)
    figure = framed_figure(
        title, "95% intervals over personas; 0 = no order effect", ROW_HEIGHT * len(rows) + 170
    )
    figure.add_scatter(
        mode="markers",
        x=[row["mean_diff"] for _, row in rows],
        y=list(range(len(rows))),
        error_x=errors_of([(r["mean_diff"], r["ci_low"], r["ci_high"]) for _, r in rows], MAIN),
        marker={"color": MAIN, "size": 9},
        hovertext=[_shift_hover(name, row, rate) for name, row in rows],
        hoverinfo="text",
        showlegend=False,
    )
    limit = limit_of([row[end] for _, row in rows for end in ("mean_diff", "ci_low", "ci_high")])
    frame_dots(
        figure,
        "◀ towards low digits | towards high digits ▶<br>scale points",
        [row_label(name) for name, _ in rows],
    )
    return figure.update_xaxes(range=[-limit, limit])


def _shift_hover(name: str, row: Mapping[str, Any], rate: str) -> str:
    return "<br>".join(
        (
            f"<b>{plain(name)}</b>",
            f"difference {signed(row['mean_diff'], 3)} "
            f"{interval(row['ci_low'], row['ci_high'], 3)}",
            f"mean distance {number(row['abs_diff'])}, same answer {row[rate]:.0%}",
            counted(row["n"], "pair"),
        )
    )
