"""What is running, the latest finished run, what needs attention, and where to begin."""

import streamlit as st

from benchlib.application.payloads import RunSummary
from benchlib.domain.run_state import ACTIVE
from benchlib.domain.vocabulary import RunStatus
from benchlib.presentation.figures.histogram import tally_figure
from benchlib.presentation.text import counted
from pages.shared import links, run_header, words
from pages.shared.access import get_dataset_service, get_service

FINISHED = (RunStatus.DONE, RunStatus.PARTIAL)
NEEDS_ATTENTION = (RunStatus.FAILED, RunStatus.INTERRUPTED, RunStatus.PARTIAL)
SHOWN = 5

service = get_service()
runs = service.list_runs()
active = [run for run in runs if run["status"] in ACTIVE]
ended = [run for run in runs if run["status"] in FINISHED and run["n_results"]]
troubled = [run for run in runs if run["status"] in NEEDS_ATTENTION]


def show_line(run: RunSummary) -> None:
    """One run: badges, what it is, where to look."""
    run_header.run_badges(run)
    run_header.run_facts(run)
    if run["error"]:
        st.text(run["error"])
    links.run_links(run["id"])


@st.fragment(run_every=1.0 if active else None)
def show_active() -> None:
    """Progress bars of active runs; only reads."""
    now = {run["id"]: service.bench_status(run["id"]) for run in active}
    if any(now[run["id"]]["status"] != run["status"] for run in active):
        st.rerun()
    for run in active:
        status = now[run["id"]]
        with st.container(border=True):
            st.progress(
                words.share(status["done"], status["total"]),
                text=f"{status['done']:,} of {counted(status['total'], 'answer')}"
                f" · {words.rate(status['rate_per_s'])} · {words.duration(status['eta_s'])} left",
            )
            show_line(run)


st.title("Overview")
st.write("How differently does a language model judge people who differ in one attribute?")
if not runs:
    datasets = get_dataset_service()
    personas = sum(dataset.n_personas for dataset in datasets.list_datasets())
    traits = [trait for trait in datasets.list_traits() if trait.active]
    st.info(
        f"Sample data are included: {counted(personas, 'persona')} and "
        f"{counted(len(traits), 'trait')}. The first run needs nothing else: if no vLLM "
        "server answers, a simulated rater shows how everything works.",
        icon=":material/waving_hand:",
    )
if service.may(service.start_benchmark) and st.button(
    "Start a run" if runs else "Start the first run",
    key="overview_start",
    type="primary",
    icon=":material/rocket_launch:",
):
    st.switch_page("start_run.py")

if active:
    st.subheader("Running now")
    show_active()
if runs:
    finished, attention = st.columns(2, gap="large")
    with finished:
        st.subheader("Latest finished run")
        if ended:
            newest = service.get_run(max(ended, key=lambda run: run["finished_at"] or "")["id"])
            show_line(newest)
            st.plotly_chart(
                tally_figure(newest["tally"], "Ratings"),
                key="overview_tally",
                alt="Ratings of the latest finished run",
            )
        else:
            st.text("No run has finished yet.")
    with attention:
        st.subheader("Needs attention")
        for run in troubled[:SHOWN]:
            with st.container(border=True):
                show_line(run)
        if len(troubled) > SHOWN:
            st.page_link("runs.py", label=f"{len(troubled) - SHOWN} more under Runs")
        if not troubled:
            st.text("No run has failed or been interrupted.")
