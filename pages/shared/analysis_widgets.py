"""What the analysis pages share: pickers, the health banner, what numbers rest on, downloads."""

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import orjson
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from benchlib.application.benchmark_service import BenchmarkService
from benchlib.application.payloads import RunDetail
from benchlib.domain.errors import BenchlibError
from benchlib.domain.vocabulary import UNKNOWN_CATEGORY
from benchlib.presentation.exports.files import files
from benchlib.presentation.figures.notes import mark_simulated
from benchlib.presentation.figures.theme import leave_room
from benchlib.presentation.provenance import Provenance
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
    provenance = files.provenance_of(run, panel, beside)
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


def draw(
    build: Callable[..., go.Figure], provenance: Provenance, *told: Any, **options: Any
) -> go.Figure:
    """A figure, drawn once for all who look at the same numbers; nobody may change it.

    Args:
        build: Draws it from `told` and `options`, which tell numbers and words only.
        provenance: Says whether the data are simulated.
    """
    plain = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
    content = orjson.dumps((told, options, provenance.simulated), option=plain)
    return _drawn(
        build.__qualname__,
        sha256(content).digest(),
        lambda: mark_simulated(build(*told, **options), provenance.simulated),
    )


@st.cache_resource(max_entries=64, show_spinner=False)
def _drawn(name: str, content: bytes, _build: Callable[[], go.Figure]) -> go.Figure:
    return leave_room(_build())


def show_figure(
    figure: go.Figure,
    key: str,
    alt: str,
    provenance: Provenance,
    rows: Sequence[Mapping[str, Any]] = (),
) -> None:
    """A figure with its downloads."""
    mark_simulated(figure, provenance.simulated)
    st.plotly_chart(figure, key=key, alt=alt)
    downloads(key, provenance, figure=figure, rows=rows, title=alt)


@st.fragment
def downloads(
    key: str,
    provenance: Provenance,
    *,
    figure: go.Figure | None = None,
    rows: Sequence[Mapping[str, Any]] = (),
    title: str = "",
    width: int = 1100,
) -> None:
    """Files of a figure and of the numbers behind it.

    Buttons are made when the list is opened, each file when its button is clicked.
    """
    offer = st.popover(
        "Download", icon=":material/download:", key=f"{key}_download", on_change="rerun"
    )
    if not offer.open:
        return
    with offer:
        if figure is not None:
            dark = st.toggle(
                "Dark background", key=f"{key}_dark", help="Of the figure; white otherwise."
            )
            theme: files.Theme = "dark" if dark else "light"
            drawn = files.pictures_work()
            if not drawn:
                st.caption(str(files.NoPictures()))
            with st.container(horizontal=True):
                for extension in files.FIGURE_FORMATS:
                    st.download_button(
                        extension.upper(),
                        data=lambda extension=extension: files.export_figure(
                            figure, extension, provenance, theme=theme, width=width
                        ),
                        file_name=files.file_name(provenance, key, extension),
                        mime=files.MIME[extension],
                        key=f"{key}_{extension}",
                        on_click="ignore",
                        disabled=extension != "html" and not drawn,
                    )
        if rows:
            with st.container(horizontal=True):
                for kind in files.TABLE_FORMATS:
                    st.download_button(
                        "LaTeX" if kind == "tex" else kind.upper(),
                        data=lambda kind=kind: files.export_table(
                            rows, kind, provenance, title=title
                        ),
                        file_name=files.file_name(provenance, key, kind),
                        mime=files.MIME[kind],
                        key=f"{key}_{kind}",
                        on_click="ignore",
                    )


def table(
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


def number(label: str, digits: int = 3, explanation: str | None = None) -> Any:
    """A column of numbers with fixed digits."""
    return st.column_config.NumberColumn(label, format=f"%.{digits}f", help=explanation)


def chance(label: str, explanation: str | None = None) -> Any:
    """A column of p or q."""
    return st.column_config.NumberColumn(label, format="%.3g", help=explanation)


def count(label: str, explanation: str | None = None) -> Any:
    """A column of whole numbers."""
    return st.column_config.NumberColumn(label, format="localized", help=explanation)


def page_links(run_id: int, without: str, **query: str | None) -> None:
    """Links to the other results of a run, keeping what was chosen."""
    kept = {name: value for name, value in query.items() if value}
    with st.container(horizontal=True):
        for page, label, icon in PAGES:
            if page != without:
                st.page_link(
                    page, label=label, icon=icon, query_params={"run": str(run_id), **kept}
                )
