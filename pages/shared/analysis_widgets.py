"""What the analysis pages share: pickers, the health banner, what numbers rest on, downloads."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import streamlit as st

from benchlib.application.benchmark_service import BenchmarkService
from benchlib.application.payloads import RunDetail
from benchlib.domain.errors import BenchlibError
from benchlib.domain.vocabulary import UNKNOWN_CATEGORY
from benchlib.presentation.provenance import Provenance, provenance_of
from pages.shared import access, run_widgets, words

PAGES = (
    ("metrics.py", "Metrics", ":material/bar_chart:"),
    ("omnibus.py", "Bias overview", ":material/grid_on:"),
    ("deltas.py", "Deltas", ":material/compare_arrows:"),
    ("forest.py", "Forest", ":material/forest:"),
    ("order_effects.py", "Order effects", ":material/swap_vert:"),
    ("answers.py", "Answers", ":material/forum:"),
)
HEALTH_ICONS = {
    "ok": ":material/check_circle:",
    "warn": ":material/warning:",
    "bad": ":material/error:",
}
HEALTH_WORDS = {
    "ok": "{} is in good health",
    "warn": "{} is to be read with care",
    "bad": "{} is in poor health",
}


class Options(NamedTuple):
    """Constants of the analysis, kept in the URL."""

    alpha: float
    sesoi: float
    by: str
    use_expected: bool
    neutral: bool


def open_run(title: str) -> tuple[BenchmarkService, RunDetail]:
    """Title, run picker, badges and the health banner; stops the page without answers."""
    service = access.get_service()
    st.title(title)
    run = service.get_run(run_widgets.pick_run(service.list_runs()))
    run_widgets.run_badges(run, results=True)
    run_widgets.run_facts(run)
    run_widgets.stop_without_answers(run)
    health_banner(service, run["id"])
    return service, run


def health_banner(service: BenchmarkService, run_id: int, name: str = "This run") -> None:
    """Order consistency, valid mass, missing, failures and scale use, the worst first.

    For every page that shows results of a run.
    """
    try:
        health = service.get_health_check(run_id)
    except BenchlibError as error:
        run_widgets.show_error(error)
        return
    status = health["status"]
    concerns = [item for item in health["items"] if item["status"] != "ok"]
    label = HEALTH_WORDS[status].format(name)
    if concerns:
        label += ": " + ", ".join(item["label"].lower() for item in concerns)
    with st.expander(label, icon=HEALTH_ICONS[status], expanded=status == "bad"):
        ordered = sorted(
            health["items"], key=lambda item: -list(HEALTH_ICONS).index(item["status"])
        )
        for item in ordered:
            told = f"**{item['label']}.** {words.plain_markdown(item['sentence'])}"
            st.markdown(f"{HEALTH_ICONS[item['status']]} {told}")


def pick_options(
    *, with_sesoi: bool = True, with_correction: bool = True, with_neutral: bool = True
) -> Options:
    """Constants of the analysis, in a popover; all have defaults and live in the URL."""
    with st.popover("Options", icon=":material/tune:"):
        alpha = st.number_input(
            "Significance level",
            0.001,
            0.2,
            0.05,
            0.005,
            format="%.3f",
            key="alpha",
            bind="query-params",
            help="Corrected p below this is called significant.",
        )
        sesoi = 0.1
        if with_sesoi:
            sesoi = st.number_input(
                "Smallest effect of interest",
                0.01,
                2.0,
                0.1,
                0.01,
                key="sesoi",
                bind="query-params",
                help="In scale points. Differences proven to be below it are called equivalent.",
            )
        by = "bh"
        if with_correction:
            by = st.selectbox(
                "Correction",
                ["bh", "by"],
                format_func={"bh": "Benjamini–Hochberg", "by": "Benjamini–Yekutieli"}.get,
                key="by",
                bind="query-params",
                help="Both hold the share of false discoveries over the whole run; the second "
                "under any dependence of tests, at the price of power.",
            )
        use_expected = st.toggle(
            "Expected ratings",
            value=True,
            key="expected",
            bind="query-params",
            help="Where the engine gave the probability of each digit, use the expected rating "
            "instead of the digit: the same mean with less noise.",
        )
        neutral = False
        if with_neutral:
            neutral = st.toggle(
                "Neutral traits",
                key="neutral",
                bind="query-params",
                help="Show the traits without a valence instead, un-aligned; a family of their "
                "own.",
            )
    return Options(alpha, sesoi, by, use_expected, neutral)


def categories_of(run: RunDetail, attribute: str) -> list[str]:
    """The categories of an attribute in the run's dataset that can be compared."""
    composition = access.get_service().get_composition(run["id"])
    return [
        value["category"]
        for found in composition["attributes"]
        if found["attribute"] == attribute
        for value in found["categories"]
        if value["category"] != UNKNOWN_CATEGORY
    ]


def pick_attribute(run: RunDetail) -> str:
    """One attribute of the run's personas, kept in the URL; stops the page without any."""
    if not run["attributes"]:
        st.info(
            "The personas of this run have no attributes, so there are no groups to compare.",
            icon=":material/info:",
        )
        run_widgets.run_links(run["id"])
        st.stop()
    return run_widgets.pick_attribute(run) or run["attributes"][0]


def pick_baseline(categories: Sequence[str]) -> str | None:
    """The category to compare against; None = the one with most personas."""
    return st.selectbox(
        "Baseline",
        list(categories),
        index=None,
        key="baseline",
        bind="query-params",
        placeholder="Largest group",
        help="The category that others are compared with. A delta is group minus baseline.",
    )


def panel_facts(
    panel: Mapping[str, Any], run: RunDetail, beside: Sequence[RunDetail] = ()
) -> Provenance:
    """Say what a panel rests on; gives the same for its figures and files."""
    provenance = provenance_of(run, panel, beside)
    parts = [
        words.counted(provenance.n_personas, "persona"),
        words.counted(int(panel.get("n", provenance.n_answers)), "answer"),
        f"{provenance.n_missing:,} missing",
    ]
    if provenance.n_dropped:
        parts.append(f"{words.counted(provenance.n_dropped, 'persona')} left out (too few ratings)")
    if provenance.n_copies:
        parts.append(f"{words.counted(provenance.n_copies, 'counterfactual')} left out")
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


def page_links(run_id: int, without: str, **query: str | None) -> None:
    """Links to the other results of a run, keeping what was chosen."""
    kept = {name: value for name, value in query.items() if value}
    with st.container(horizontal=True):
        for page, label, icon in PAGES:
            if page != without:
                st.page_link(
                    page, label=label, icon=icon, query_params={"run": str(run_id), **kept}
                )
