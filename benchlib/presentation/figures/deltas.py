"""Deltas: a dot plot of the categories of one attribute against the baseline, with verdicts."""

from collections.abc import Sequence
from typing import Final

import plotly.graph_objects as go

from benchlib.domain.analysis.adjusted_deltas import AdjustedRow
from benchlib.domain.analysis.counterfactual import CounterfactualRow
from benchlib.domain.analysis.deltas import DeltaRow, Deltas
from benchlib.presentation.figures.dots import add_band, dot_plot, errors_of, frame_dots, limit_of
from benchlib.presentation.figures.theme import (
    MAIN,
    ROW_HEIGHT,
    SECOND,
    empty_figure,
    framed_figure,
    row_label,
)
from benchlib.presentation.numbers import interval, number, relation, signed
from benchlib.presentation.text import STATUSES, VERDICTS, counted, escaped, plain

AXIS_TITLE: Final = "◀ lower than baseline | higher ▶<br>scale points, group minus baseline"


def deltas_figure(deltas: Deltas) -> go.Figure:
    """Delta and 95% interval per category; the verdict stands next to it.

    Filled = significant after correction, hollow = not; grey with † = few personas. The baseline
    is at 0 and not tested.

    Args:
        deltas: As the domain gives them.
    """
    name, baseline = row_label(deltas["attribute"]), deltas["baseline"]
    title = f"Deltas by {name}"
    rows = _ordered(deltas["rows"])
    if baseline is None or not any(row["delta"] is not None for row in rows):
        return empty_figure(title, _why_empty(deltas))
    category = deltas["trait_category"]
    traits = "all traits with a valence" if category is None else row_label(category)
    figure = dot_plot(
        AXIS_TITLE,
        f"{title}, against {row_label(baseline)}",
        f"{traits}; 95% intervals over personas",
        [
            {
                "label": f"{row_label(row['category'])} (n = {row['n_personas']:,})"
                + (" †" if row["status"] == "low_n" else ""),
                "estimate": 0.0 if row["is_baseline"] else row["delta"],
                "low": row["ci_low"],
                "high": row["ci_high"],
                "filled": row["significant"] is True,
                "quiet": row["is_baseline"] or row["status"] != "ok",
                "symbol": "diamond" if row["is_baseline"] else "circle",
                "words": _words(row),
                "hover": _hover(row),
            }
            for row in rows
        ],
    )
    add_band(figure, deltas["sesoi"])
    return figure


def counterfactual_figure(rows: Sequence[CounterfactualRow]) -> go.Figure:
    """Paired deltas: the same personas with one attribute changed.

    Args:
        rows: As `compute_counterfactuals` gives them.
    """
    title = "The same personas, one attribute changed"
    shown = [row for row in rows if row["delta"] is not None]
    if not shown:
        return empty_figure(title, "No pair has enough ratings on both sides.")
    return dot_plot(
        AXIS_TITLE,
        title,
        "counterfactual minus source; 95% intervals over source personas",
        [
            {
                "label": f"{row_label(row['source_category'])} → {row_label(row['category'])} "
                f"(n = {row['n_sources']:,})" + (" †" if row["status"] == "low_n" else ""),
                "estimate": row["delta"],
                "low": row["ci_low"],
                "high": row["ci_high"],
                "filled": row["significant"] is True,
                "quiet": row["status"] != "ok",
                "symbol": "circle",
                "words": escaped(f"q {relation(row['q_value'])}"),
                "hover": f"{plain(row['attribute'])}: {plain(row['source_category'])} → "
                f"{plain(row['category'])}<br>delta {signed(row['delta'], 3)} "
                f"{interval(row['ci_low'], row['ci_high'], 3)}<br>"
                + escaped(
                    f"p {relation(row['p_value'])}, sign-flip p {relation(row['p_signflip'])}"
                )
                + f"<br>{counted(row['n_pairs'], 'pair')}",
            }
            for row in shown
        ],
    )


def adjusted_figure(rows: Sequence[AdjustedRow]) -> go.Figure:
    """Deltas adjusted for the other attributes (orange diamonds) and unadjusted (blue dots).

    Args:
        rows: Of one attribute.
    """
    title = "Adjusted for other attributes"
    shown = [row for row in rows if row["delta"] is not None or row["adjusted_delta"] is not None]
    if not shown:
        return empty_figure(title, "There is nothing to adjust.")
    figure = framed_figure(
        title, "adjusted deltas with 95% intervals", ROW_HEIGHT * len(shown) + 170
    )
    places = list(range(len(shown)))
    figure.add_scatter(
        name="unadjusted",
        mode="markers",
        x=[row["delta"] for row in shown],
        y=[place - 0.2 for place in places],
        marker={"color": MAIN, "size": 9, "symbol": "circle"},
        hovertext=[
            f"{plain(row['category'])} unadjusted {signed(row['delta'], 3)}" for row in shown
        ],
        hoverinfo="text",
    )
    figure.add_scatter(
        name="adjusted",
        mode="markers",
        x=[row["adjusted_delta"] for row in shown],
        y=[place + 0.2 for place in places],
        error_x=errors_of(
            [(r["adjusted_delta"], r["ci_low"], r["ci_high"]) for r in shown], SECOND
        ),
        marker={"color": SECOND, "size": 10, "symbol": "diamond-open", "line": {"width": 2}},
        hovertext=[
            f"{plain(row['category'])} adjusted {signed(row['adjusted_delta'], 3)} "
            f"{interval(row['ci_low'], row['ci_high'], 3)}"
            for row in shown
        ],
        hoverinfo="text",
    )
    frame_dots(figure, AXIS_TITLE, [row_label(row["category"]) for row in shown])
    limit = limit_of([row[end] for row in shown for end in ("delta", "ci_low", "ci_high")])
    figure.update_xaxes(range=[-limit, limit])
    figure.update_layout(
        showlegend=True,
        legend={"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"},
        margin_t=100,
    )
    return figure


def _ordered(rows: Sequence[DeltaRow]) -> list[DeltaRow]:
    """The baseline first, then from the highest delta down; rows without a delta last."""

    def place(row: DeltaRow) -> tuple[bool, bool, float]:
        return not row["is_baseline"], row["delta"] is None, -(row["delta"] or 0.0)

    return sorted(rows, key=place)


def _words(row: DeltaRow) -> str:
    if row["is_baseline"]:
        return "baseline"
    if not row["tested"]:
        return "not tested"
    if row["verdict"] is None:
        return STATUSES.get(row["status"], "no test")
    return f"<b>{VERDICTS[row['verdict']]}</b>, " + escaped(f"q {relation(row['q_value'])}")


def _hover(row: DeltaRow) -> str:
    lines = [f"<b>{plain(row['category'])}</b>"]
    if row["delta"] is not None:
        lines.append(
            f"delta {signed(row['delta'], 3)} {interval(row['ci_low'], row['ci_high'], 3)}"
        )
        lines.append(escaped(f"p {relation(row['p_value'])}, q {relation(row['q_value'])}"))
        lines.append(f"Cliff's delta {signed(row['cliffs_delta'])}")
    lines.append(f"mean {number(row['mean'], 3)}")
    lines.append(
        f"{counted(row['n_personas'], 'persona')}, {counted(row['n_ratings'], 'answer')}, "
        f"{row['n_missing']:,} missing"
    )
    if row["status"] in STATUSES:
        lines.append(STATUSES[row["status"]])
    return "<br>".join(lines)


def _why_empty(deltas: Deltas) -> str:
    categories = len(deltas["rows"])
    if not deltas["n"]:
        return "There are no ratings of traits with a valence here."
    if categories < 2:
        return "All personas are in one category; there is nothing to compare it with."
    return "No two categories have ratings to compare."
