"""What heads a page about a run: status, facts, data quality, what its numbers are based on."""

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from benchlib.application.analysis import answer_panels
from benchlib.application.benchmark_service import BenchmarkService
from benchlib.application.payloads import RunDetail, RunSummary
from benchlib.domain.errors import BenchlibError
from benchlib.domain.run_state import ACTIVE
from benchlib.domain.users import OWNER
from benchlib.domain.vocabulary import RunStatus
from benchlib.presentation.provenance import Provenance, provenance_of
from benchlib.presentation.text import counted
from pages.shared import access, links, run_pickers, texts, words

QUALITY_ICONS = {
    "ok": ":material/check_circle:",
    "warn": ":material/warning:",
    "bad": ":material/error:",
}
QUALITY_WORDS = {"ok": "good", "warn": "read with care", "bad": "poor"}


def open_run(title: str) -> tuple[BenchmarkService, RunDetail]:
    """Title, run picker, badges and data quality; stops the page if there are no answers."""
    service = access.get_service()
    st.title(title)
    run = service.get_run(run_pickers.pick_run(service.list_runs()))
    run_badges(run, results=True)
    run_facts(run)
    stop_without_answers(run)
    data_quality_banner(service, run["id"])
    return service, run


def run_badges(run: RunSummary | RunDetail, *, results: bool = False) -> None:
    """Status, and what a reader of the run's numbers must know."""
    look = words.STATUS[RunStatus(run["status"])]
    with st.container(horizontal=True):
        st.badge(look.label, icon=look.icon, color=look.colour)
        if run["simulated"]:
            simulated_badge()
        if results and is_preliminary(run):
            preliminary_badge()


def is_preliminary(run: RunSummary | RunDetail) -> bool:
    """Whether answers of a run are missing."""
    return run["status"] in ACTIVE or run["n_results"] < run["total"]


def preliminary_badge() -> None:
    """Says that answers are missing."""
    st.badge(
        "Preliminary: answers are missing",
        icon=":material/hourglass_empty:",
        color="orange",
        help="The numbers will change when the missing answers come in.",
    )


def simulated_badge() -> None:
    """Says that ratings are made up."""
    st.badge(
        "Simulated data",
        icon=":material/science:",
        color="violet",
        help="Made up by the simulated rater with planted effects; they say nothing about any "
        "model.",
    )


def run_facts(run: RunSummary | RunDetail) -> None:
    """Number, model, dataset and start of a run as plain text."""
    st.text(f"Run {run['id']}: {run['model_name']} on {run['dataset_name']}")
    zone = st.context.timezone
    if run["started_at"]:
        st.caption(f"Started {words.moment(run['started_at'], zone)}")
    else:
        st.caption(f"Queued {words.moment(run['created_at'], zone)}")
    launched_by = run.get("launched_by")
    if launched_by not in (None, OWNER.name):
        st.text(f"Launched by {launched_by}")


def data_quality_banner(service: BenchmarkService, run_id: int, name: str = "this run") -> None:
    """Order consistency and effect, valid mass, missing and failed answers, scale use: worst first.

    For every page that shows results of a run.
    """
    try:
        quality = service.analysis.get_panel(answer_panels.data_quality, run_id)
    except BenchlibError as error:
        texts.show_error(error)
        return
    status = quality["status"]
    label = f"Data quality of {name}: {QUALITY_WORDS[status]}"
    concerns = [item["label"].lower() for item in quality["items"] if item["status"] != "ok"]
    if concerns:
        label += f" ({', '.join(concerns)})"
    with st.expander(label, icon=QUALITY_ICONS[status], expanded=status == "bad"):
        worst_first = sorted(
            quality["items"], key=lambda item: -list(QUALITY_ICONS).index(item["status"])
        )
        for item in worst_first:
            sentence = f"**{item['label']}.** {words.plain_markdown(item['sentence'])}"
            st.markdown(f"{QUALITY_ICONS[item['status']]} {sentence}")


def sample_numbers(metrics: answer_panels.MetricsPanel) -> None:
    """What the numbers on a page are based on, missing and failed answers included."""
    texts.numbers(
        {
            "Answers": (f"{metrics['n']:,}", "Ratings that the numbers below are based on."),
            "Personas": (f"{metrics['n_personas']:,}", "Personas with at least one rating."),
            "Missing": (f"{metrics['missing']:,}", "Planned questions that have no rating."),
            "Failed": (
                f"{metrics['failed']:,}",
                "Of the missing ones: given up after all attempts.",
            ),
        }
    )


def panel_facts(
    panel: Mapping[str, Any], run: RunDetail, compared: Sequence[RunDetail] = ()
) -> Provenance:
    """Say what a panel is based on; returns the same for its figures and files."""
    provenance = provenance_of(run, panel, compared)
    parts = [
        counted(provenance.n_personas, "persona"),
        counted(int(panel.get("n", provenance.n_answers)), "answer"),
        f"{provenance.n_missing:,} missing",
    ]
    if provenance.n_dropped:
        parts.append(f"{counted(provenance.n_dropped, 'persona')} left out (too few ratings)")
    if provenance.n_copies:
        parts.append(f"{counted(provenance.n_copies, 'counterfactual')} left out")
    if panel.get("uses_expected"):
        parts.append("expected ratings")
    if provenance.correction:
        parts.append(provenance.correction)
    if provenance.preliminary:
        parts.append("preliminary")
    if provenance.simulated:
        parts.append("simulated data")
    st.caption(words.plain_markdown(" · ".join(parts)))
    return provenance


def stop_without_answers(run: RunDetail, *, without: str = "") -> None:
    """Stop a page of results if there are none, and say what to do."""
    if run["n_results"]:
        return
    if run["status"] in ACTIVE:
        sentence = "This run has no answers yet; results appear here as they come in."
    elif run["failed"]:
        sentence = (
            f"This run ended without a rating: {counted(run['failed'], 'question')} failed. "
            "The tab Failures under Answers says why."
        )
    else:
        sentence = "This run ended before its first answer; resume it under Progress."
    st.info(sentence, icon=":material/info:")
    links.run_links(run["id"], without=without)
    st.stop()
