"""The script of the app: which pages there are, in what order."""

from pathlib import Path

import streamlit as st

from benchlib.bootstrap import get_service
from benchlib.domain.errors import BenchlibError
from pages import widgets

st.set_page_config(page_title="benchlib", page_icon=":material/balance:", layout="wide")

START = st.Page("start_run.py", title="Start run", icon=":material/rocket_launch:")
PROGRESS = st.Page("progress.py", title="Progress", icon=":material/monitoring:")
RUNS = st.Page("runs.py", title="Runs", icon=":material/list:")
PAGES = {
    "": [st.Page("overview.py", title="Overview", icon=":material/home:", default=True)],
    "Run": [START, PROGRESS, RUNS],
    "Results": [
        st.Page("metrics.py", title="Metrics", icon=":material/bar_chart:"),
        st.Page("omnibus.py", title="Bias overview", icon=":material/grid_on:"),
        st.Page("deltas.py", title="Deltas", icon=":material/compare_arrows:"),
        st.Page("forest.py", title="Forest", icon=":material/forest:"),
        st.Page("order_effects.py", title="Order effects", icon=":material/swap_vert:"),
        st.Page("answers.py", title="Answers", icon=":material/forum:"),
    ],
    "Materials": [
        st.Page(file, title=title, icon=icon)
        for file, title, icon in (
            ("datasets.py", "Datasets", ":material/groups:"),
            ("traits.py", "Traits", ":material/label:"),
            ("engines.py", "Engines", ":material/dns:"),
        )
        if Path(__file__).with_name(file).exists()
    ],
}

page = st.navigation(PAGES, expanded=True)
try:
    if get_service().read_only:
        st.info("Read-only: everything can be seen, nothing changed.", icon=":material/lock:")
    page.run()
except BenchlibError as error:
    widgets.show_error(error)
