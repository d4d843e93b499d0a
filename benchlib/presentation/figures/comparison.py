"""Runs against a reference run: differences in level, and of the deltas between groups."""

from typing import Any

import plotly.graph_objects as go

from benchlib.domain.analysis.comparison import DeltaDifference, DeltaDifferences
from benchlib.domain.analysis.level_differences import LevelDifference, LevelDifferences
from benchlib.domain.stats.welch import FdrMethod
from benchlib.presentation.figures.dots import add_band, dot_plot
from benchlib.presentation.figures.theme import empty_figure, row_label
from benchlib.presentation.numbers import interval, number, relation, signed
from benchlib.presentation.text import STATUSES, VERDICTS, counted, escaped, plain


def levels_figure(levels: LevelDifferences, by: FdrMethod = "bh") -> go.Figure:
    """Mean rating of each run minus that of the reference, with 95% intervals over personas.

    Filled = significant after correction, hollow = not; grey = to be read with care; the grey band
    is the smallest effect of interest.

    Args:
        levels: As the domain gives them.
        by: The correction quoted next to the dots.
    """
    title = "Differences in level"
    shown = [row for row in levels["rows"] if row["difference"] is not None]
    if not shown:
        return empty_figure(title, "There are no shared ratings of traits with a valence.")
    reference = shown[0]["reference_id"]
    figure = dot_plot(
        _axis(reference),
        f"{title}, against run {reference}",
        "paired over the same personas and traits; 95% intervals",
        [
            {
                **_dot(row, by),
                "label": f"{_traits(row['trait_category'])}, run {row['run_id']} "
                f"(n = {row['n_personas']:,})" + _dagger(row),
                "hover": "<br>".join(
                    [
                        f"<b>run {row['run_id']}, {_traits(row['trait_category'])}</b>",
                        *_lines(row),
                        f"mean {number(row['mean'], 3)}, reference "
                        f"{number(row['mean_reference'], 3)}",
                        f"{counted(row['n_personas'], 'persona')}, "
                        f"{counted(row['n_traits'], 'trait')}",
                    ]
                ),
            }
            for row in shown
        ],
    )
    add_band(figure, levels["sesoi"])
    return figure


def delta_differences_figure(table: DeltaDifferences, by: FdrMethod = "bh") -> go.Figure:
    """Delta of each category in each run minus its delta in the reference.

    Marks as in `levels_figure`.
    """
    name = row_label(table["attribute"])
    title = f"Differences of deltas by {name}"
    shown = sorted(
        (row for row in table["rows"] if row["difference"] is not None),
        key=lambda row: row["category"],
    )
    if not shown or table["baseline"] is None:
        return empty_figure(title, "No two categories have shared ratings to compare.")
    reference = shown[0]["reference_id"]
    figure = dot_plot(
        _axis(reference, "delta "),
        f"{title}, against {row_label(table['baseline'])}",
        f"{_traits(table['trait_category'])}; delta of a run minus that of run {reference}; "
        "95% intervals",
        [
            {
                **_dot(row, by),
                "label": f"{row_label(row['category'])}, run {row['run_id']} "
                f"(n = {row['n_cat']:,})" + _dagger(row),
                "hover": "<br>".join(
                    [
                        f"<b>{plain(row['category'])}, run {row['run_id']}</b>",
                        *_lines(row),
                        f"delta {signed(row['delta'], 3)}, reference "
                        f"{signed(row['delta_reference'], 3)}",
                        f"{counted(row['n_cat'], 'persona')}, {row['n_base']:,} in the baseline",
                    ]
                ),
            }
            for row in shown
        ],
    )
    add_band(figure, table["sesoi"])
    return figure


def _axis(reference: int, what: str = "") -> str:
    ends = f"◀ {what}lower than in run {reference} | higher ▶"
    return f"{ends}<br>scale points, run minus run {reference}"


def _traits(trait_category: str | None) -> str:
    return "all traits" if trait_category is None else row_label(trait_category)


def _dagger(row: LevelDifference | DeltaDifference) -> str:
    return " †" if row["status"] == "low_n" else ""


def _dot(row: LevelDifference | DeltaDifference, by: FdrMethod) -> dict[str, Any]:
    q = row["q_by"] if by == "by" else row["q_value"]
    if row["verdict"] is None:
        words = STATUSES.get(row["status"], "no test")
    else:
        words = f"<b>{VERDICTS[row['verdict']]}</b>, " + escaped(f"q {relation(q)}")
    return {
        "estimate": row["difference"],
        "low": row["ci_low"],
        "high": row["ci_high"],
        "filled": row["significant"] is True,
        "quiet": row["status"] != "ok",
        "symbol": "circle",
        "words": words,
    }


def _lines(row: LevelDifference | DeltaDifference) -> list[str]:
    lines = [
        f"difference {signed(row['difference'], 3)} {interval(row['ci_low'], row['ci_high'], 3)}",
        escaped(
            f"p {relation(row['p_value'])}, q {relation(row['q_value'])}, "
            f"q (BY) {relation(row['q_by'])}"
        ),
    ]
    if row["status"] in STATUSES:
        lines.append(STATUSES[row["status"]])
    return lines
