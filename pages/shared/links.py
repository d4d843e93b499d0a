"""Links between the pages about a run, and addresses to be copied."""

from urllib.parse import urlencode, urljoin

import streamlit as st

PAGES = (
    ("metrics.py", "Metrics", ":material/bar_chart:"),
    ("omnibus.py", "Bias overview", ":material/grid_on:"),
    ("deltas.py", "Deltas", ":material/compare_arrows:"),
    ("forest.py", "Forest", ":material/forest:"),
    ("order_effects.py", "Order effects", ":material/swap_vert:"),
    ("answers.py", "Answers", ":material/forum:"),
)
"""The pages of results: file, title, icon."""


def run_links(run_id: int, *, without: str = "") -> None:
    """Links to the pages about one run."""
    with st.container(horizontal=True):
        for page, label, icon in (
            ("progress.py", "Progress", ":material/monitoring:"),
            ("metrics.py", "Metrics", ":material/bar_chart:"),
            ("answers.py", "Answers", ":material/forum:"),
            ("runs.py", "Manage", ":material/list:"),
        ):
            if page != without:
                st.page_link(page, label=label, icon=icon, query_params={"run": str(run_id)})


def result_links(run_id: int, without: str, **query: str | None) -> None:
    """Links to the other results of a run, with the choices made so far."""
    chosen = {name: value for name, value in query.items() if value}
    with st.container(horizontal=True):
        for page, label, icon in PAGES:
            if page != without:
                st.page_link(
                    page, label=label, icon=icon, query_params={"run": str(run_id), **chosen}
                )


def address_of(page: str, **query: object) -> str:
    """The address that restores a page with these choices, to be copied."""
    return f"{urljoin(st.context.url or '', page)}?{urlencode(query)}"
