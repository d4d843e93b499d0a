"""Tables of statistics: their columns, and the words for statuses and verdicts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import isnan
from typing import Any, Final

import pandas as pd
import streamlit as st

from benchlib.presentation.numbers import number, probability
from benchlib.presentation.text import STATUSES, VERDICTS
from pages.shared import words

_MOST_STYLED_ROWS: Final = 300
"""Longer tables show plain numbers: texts for every cell would take them seconds."""


@dataclass(frozen=True, slots=True)
class NumberColumn:
    """A column of statistics.

    Attributes:
        label: Its heading.
        explanation: Shown at the heading.
        text: What a cell shows, where a table is short.
        format: What a cell shows otherwise, as `printf` has it.
    """

    label: str
    explanation: str | None
    text: Callable[[float | None], str]
    format: str


def number_column(label: str, digits: int = 3, explanation: str | None = None) -> NumberColumn:
    """A column of numbers with fixed digits and a real minus sign."""
    return NumberColumn(label, explanation, partial(number, digits=digits), f"%.{digits}f")


def p_value_column(label: str, explanation: str | None = None) -> NumberColumn:
    """A column of p or q in APA style."""
    return NumberColumn(label, explanation, probability, "%.3g")


def count_column(label: str, explanation: str | None = None) -> Any:
    """A column of whole numbers."""
    return st.column_config.NumberColumn(label, format="localized", help=explanation)


def show_table(
    rows: Sequence[Mapping[str, Any]], key: str, columns: Mapping[str, Any], alt: str
) -> None:
    """Rows as a table that sorts by number; statuses, verdicts and valences in words.

    Args:
        rows: Records; None = undefined.
        key: Of the element.
        columns: Key of a row -> its column, in their order; the other keys are not shown.
        alt: Says what the table holds.
    """
    frame = pd.DataFrame([dict(row) for row in rows], columns=list(columns))
    for name, texts in (("status", STATUSES), ("verdict", VERDICTS), ("valence", words.VALENCES)):
        if name in frame:
            frame[name] = [texts.get(value, "") for value in frame[name]]
    statistics = {
        name: column for name, column in columns.items() if isinstance(column, NumberColumn)
    }
    frame = frame.astype(dict.fromkeys(statistics, float))
    styled = 0 < len(frame) <= _MOST_STYLED_ROWS
    config = {
        name: st.column_config.NumberColumn(
            column.label, format=None if styled else column.format, help=column.explanation
        )
        for name, column in statistics.items()
    }
    cells: dict[Any, str | Callable[[object], str] | None] = {
        name: _of_cell(column.text) for name, column in statistics.items()
    }
    st.dataframe(
        frame.style.format(cells) if styled else frame,
        key=key,
        hide_index=True,
        column_config={**columns, **config},
        placeholder="–",
        alt=alt,
    )


def _of_cell(text: Callable[[float | None], str]) -> Callable[[object], str]:
    def cell(value: object) -> str:
        return text(value if isinstance(value, float) and not isnan(value) else None)

    return cell
