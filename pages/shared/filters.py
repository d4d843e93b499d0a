"""Long lists: filtering by persona, and paging."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import streamlit as st

from benchlib.domain.material.composition import Composition

_Row = TypeVar("_Row")


def pick_persona_values(composition: Composition, on_change: Callable[[], None]) -> dict[str, str]:
    """Attribute values that personas must have, kept in the URL as "gender = female"."""
    options = {
        f"{attribute['attribute']} = {value['category']}": (
            attribute["attribute"],
            value["category"],
        )
        for attribute in composition["attributes"]
        for value in attribute["categories"]
    }
    chosen = st.multiselect(
        "Filter personas",
        list(options),
        key="personas",
        bind="query-params",
        on_change=on_change,
        placeholder="All",
        help="Personas that match all the values chosen; one value per attribute.",
    )
    values = dict(options[label] for label in chosen)
    if len(values) < len(chosen):
        st.caption("If you choose several values of one attribute, the last one counts.")
    return values


def paged(
    key: str, most: int, size: int, fetch: Callable[..., Sequence[_Row]]
) -> tuple[int, Sequence[_Row]]:
    """One page of rows from the server, its number in the URL.

    Args:
        most: Number of rows without a filter.
        fetch: Takes `limit` and `offset`.
    """
    place = st.empty()
    with place:
        page = st.pagination(
            max(1, -(-most // size)), key=key, bind="query-params", max_visible_pages=5
        )
    rows = fetch(limit=size, offset=(page - 1) * size)
    if page == 1 and len(rows) < size:
        place.empty()  # everything fits on one page
    return page, rows
