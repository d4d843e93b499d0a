"""Tables of a page: columns, statuses and verdicts in words."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

STATUSES = {
    "ok": "",
    "low_n": "fewer than 5 personas: read with care",
    "n_lt_2": "fewer than 2 personas: no interval",
    "zero_variance": "all equal: no interval",
    "no_data": "no ratings",
}


VERDICTS = {
    "biased": "biased",
    "negligible": "significant, but below the smallest effect of interest",
    "equivalent": "equivalent",
    "inconclusive": "inconclusive",
}


def show_table(
    rows: Sequence[Mapping[str, Any]], key: str, columns: Mapping[str, Any], alt: str
) -> None:
    """Rows as a table with chosen columns; status and verdict in words."""
    frame = pd.DataFrame([dict(row) for row in rows], columns=list(columns))
    for name, told in (("status", STATUSES), ("verdict", VERDICTS)):
        if name in frame:
            frame[name] = [told.get(value, "") for value in frame[name]]
    st.dataframe(
        frame, key=key, hide_index=True, column_config=dict(columns), placeholder="–", alt=alt
    )


def number_column(label: str, digits: int = 3, explanation: str | None = None) -> Any:
    """A column of numbers with fixed digits."""
    return st.column_config.NumberColumn(label, format=f"%.{digits}f", help=explanation)


def p_value_column(label: str, explanation: str | None = None) -> Any:
    """A column of p or q."""
    return st.column_config.NumberColumn(label, format="%.3g", help=explanation)


def count_column(label: str, explanation: str | None = None) -> Any:
    """A column of whole numbers."""
    return st.column_config.NumberColumn(label, format="localized", help=explanation)
