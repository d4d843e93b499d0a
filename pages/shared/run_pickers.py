"""Which run a page shows: the picker, and the choice that all pages share."""

from collections.abc import Sequence

import streamlit as st

from benchlib.application.payloads import RunSummary

_RUN = "run"


def pick_run(runs: Sequence[RunSummary]) -> int:
    """Let the user choose a run; on every page the URL names it as `run`.

    Not `bind="query-params"`: that would put the label into the URL, while links from outside use
    the number. If there is no run, says so and stops the page.
    """
    known = {run["id"]: run for run in runs}
    if not known:
        st.info("There is no run yet.", icon=":material/info:")
        st.page_link("start_run.py", label="Start a run", icon=":material/rocket_launch:")
        st.stop()
    asked = st.query_params.get(_RUN, "")
    run_id = int(asked) if asked.isascii() and asked.isdigit() else None
    if asked and run_id not in known:
        st.warning(
            "The run in this page's address does not exist; another one is shown.",
            icon=":material/link_off:",
        )
    if run_id not in known:
        run_id = st.session_state.get("current_run")
    if run_id not in known:
        run_id = next(iter(known))
    remember_run(run_id)
    st.session_state["run_picker"] = run_id
    return st.selectbox(
        "Run",
        list(known),
        format_func=lambda run_id: run_label(known[run_id]),
        key="run_picker",
        on_change=_take_picked_run,
        help="Type to search. The address of this page leads back to this run.",
    )


def remember_run(run_id: int) -> None:
    """Make a run the one that all pages show next, and name it in the URL."""
    st.session_state["current_run"] = run_id
    if st.query_params.get(_RUN) != str(run_id):
        st.query_params[_RUN] = str(run_id)


def forget_run(run_id: int) -> None:
    """Forget a run that was deleted."""
    if st.session_state.get("current_run") == run_id:
        del st.session_state["current_run"]
    if st.query_params.get(_RUN) == str(run_id):
        del st.query_params[_RUN]


def _take_picked_run() -> None:
    remember_run(st.session_state["run_picker"])


def run_label(run: RunSummary) -> str:
    """A run in one line, for pickers and tables."""
    parts = [f"{run['id']}", run["model_name"], run["dataset_name"], run["status"]]
    return " · ".join([*parts, *run["tags"]])
