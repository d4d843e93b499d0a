"""The script of the app: which pages there are, in what order."""

import streamlit as st

from benchlib.domain.errors import BenchlibError
from pages.shared import access, texts

st.set_page_config(page_title="benchlib", page_icon=":material/balance:", layout="wide")

PAGES = {
    "": [st.Page("overview.py", title="Overview", icon=":material/home:", default=True)],
    "Run": [
        st.Page("start_run.py", title="Start run", icon=":material/rocket_launch:"),
        st.Page("progress.py", title="Progress", icon=":material/monitoring:"),
        st.Page("runs.py", title="Runs", icon=":material/list:"),
    ],
    "Results": [
        st.Page("metrics.py", title="Metrics", icon=":material/bar_chart:"),
        st.Page("omnibus.py", title="Bias overview", icon=":material/grid_on:"),
        st.Page("deltas.py", title="Deltas", icon=":material/compare_arrows:"),
        st.Page("forest.py", title="Forest", icon=":material/forest:"),
        st.Page("order_effects.py", title="Order effects", icon=":material/swap_vert:"),
        st.Page("compare.py", title="Compare", icon=":material/compare:"),
        st.Page("answers.py", title="Answers", icon=":material/forum:"),
    ],
    "Materials": [
        st.Page("datasets.py", title="Datasets", icon=":material/groups:"),
        st.Page("traits.py", title="Traits", icon=":material/label:"),
        st.Page("engines.py", title="Engines", icon=":material/dns:"),
    ],
}

ACTIVITY = st.Page("activity.py", title="Activity", icon=":material/history:")

admitted = access.is_admitted()
try:
    if admitted:
        service = access.get_service()
        if service.may(service.list_activity):
            PAGES["Materials"].append(ACTIVITY)
    page = st.navigation(PAGES, expanded=True, position="sidebar" if admitted else "hidden")
    access.admit()
    if access.get_service().read_only:
        st.info("Read-only: everything can be seen, nothing changed.", icon=":material/lock:")
    page.run()
except BenchlibError as error:
    texts.show_error(error)
