"""What several pages show: run picker, badges, errors, foreign text."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode, urljoin

import pandas as pd
import streamlit as st

from benchlib.application.benchmark_service import BenchmarkService
from benchlib.application.commands import start_benchmark
from benchlib.application.dataset_service import Composition
from benchlib.application.payloads import Metrics, RunDetail, RunSummary
from benchlib.domain.analysis.metrics import ALL_TRAIT_CATEGORIES
from benchlib.domain.errors import BenchlibError
from benchlib.domain.records import Question
from benchlib.domain.run_state import ACTIVE
from benchlib.domain.users import OWNER
from benchlib.domain.vocabulary import RunStatus
from pages.shared import words

_RUN = "run"
_Row = TypeVar("_Row")


def show_error(error: BenchlibError | str) -> None:
    """Show the sentence of an error, literally."""
    st.error(words.plain_markdown(str(error)), icon=":material/error:")


def foreign_text(text: str) -> None:
    """Show what a model, persona, trait or server says: copyable, wrapped, never interpreted."""
    st.code(text or " ", language=None, wrap_lines=True)


def pick_run(runs: Sequence[RunSummary]) -> int:
    """Let the user choose a run; the choice lives in the URL as `run`, whatever page is open.

    Not `bind="query-params"`: that would put the label into the URL, and links from outside name
    the number. Without a run, says so and stops the page.
    """
    known = {run["id"]: run for run in runs}
    if not known:
        st.info("There is no run yet.", icon=":material/info:")
        st.page_link("start_run.py", label="Start a run", icon=":material/rocket_launch:")
        st.stop()
    asked = st.query_params.get(_RUN, "")
    wanted = int(asked) if asked.isascii() and asked.isdigit() else None
    if asked and wanted not in known:
        st.warning(
            "The run in this page's address does not exist; another one is shown.",
            icon=":material/link_off:",
        )
    if wanted not in known:
        wanted = st.session_state.get("current_run")
    if wanted not in known:
        wanted = next(iter(known))
    remember_run(wanted)
    st.session_state["run_picker"] = wanted
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


def address_of(page: str, **query: object) -> str:
    """The address that restores a page with these choices, to be copied."""
    return f"{urljoin(st.context.url or '', page)}?{urlencode(query)}"


def forget_run(run_id: int) -> None:
    """Let go of a run that was deleted."""
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
                st.page_link(page, label=label, icon=icon, query_params={_RUN: str(run_id)})


def stop_without_answers(run: RunDetail, *, without: str = "") -> None:
    """End a page of results where there are none, with what to do about it."""
    if run["n_results"]:
        return
    if run["status"] in ACTIVE:
        told = "This run has no answers yet; its results show here as they come in."
    elif run["failed"]:
        told = (
            f"This run ended without a rating: {words.counted(run['failed'], 'question')} failed. "
            "The tab Failures under Answers tells why."
        )
    else:
        told = "This run ended before its first answer; resume it under Progress."
    st.info(told, icon=":material/info:")
    run_links(run["id"], without=without)
    st.stop()


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
        help="Numbers change when the missing answers come in.",
    )


def simulated_badge() -> None:
    """Says that ratings are made up."""
    st.badge(
        "Simulated data",
        icon=":material/science:",
        color="violet",
        help="Made up by the simulated rater with planted effects; says nothing about any model.",
    )


def run_facts(run: RunSummary | RunDetail) -> None:
    """Number, model and dataset of a run as plain text, and its time."""
    st.text(f"Run {run['id']}: {run['model_name']} on {run['dataset_name']}")
    zone = st.context.timezone
    if run["started_at"]:
        st.caption(f"Started {words.moment(run['started_at'], zone)}")
    else:
        st.caption(f"Queued {words.moment(run['created_at'], zone)}")
    launched_by = run.get("launched_by")
    if launched_by not in (None, OWNER.name):
        st.text(f"Launched by {launched_by}")


def numbers(values: Mapping[str, tuple[str, str]]) -> None:
    """A row of numbers that wraps: label -> (value, help)."""
    with st.container(horizontal=True):
        for label, (value, explanation) in values.items():
            st.metric(label, value, help=explanation or None, width="content", border=True)


def basis(metrics: Metrics) -> None:
    """What the numbers on a page rest on, missing and failed included."""
    numbers(
        {
            "Answers": (f"{metrics['n']:,}", "Ratings that the numbers below rest on."),
            "Personas": (f"{metrics['n_personas']:,}", "Personas with at least one rating."),
            "Missing": (f"{metrics['missing']:,}", "Planned questions that have no rating."),
            "Failed": (f"{metrics['failed']:,}", "Of the missing: given up after all attempts."),
        }
    )


def pick_attribute(run: RunDetail) -> str | None:
    """One attribute of the run's personas, kept in the URL."""
    return st.selectbox(
        "Attribute",
        run["attributes"],
        key="attribute",
        bind="query-params",
        help="By which the personas are grouped.",
    )


def pick_trait_category(run: RunDetail) -> str:
    """One trait category of the run or all, kept in the URL."""
    return st.selectbox(
        "Trait category",
        [ALL_TRAIT_CATEGORIES, *run["trait_categories"]],
        key="trait_category",
        bind="query-params",
        help="Which answers count: those to the traits of one category, or all.",
    )


def explain(text: str) -> None:
    """How the numbers above are computed, in own words."""
    with st.expander("How is this computed?", icon=":material/help:"):
        st.markdown(text)


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
        "Persona is",
        list(options),
        key="personas",
        bind="query-params",
        on_change=on_change,
        placeholder="Anyone",
        help="Personas that have all the values chosen; one value per attribute.",
    )
    wanted = dict(options[label] for label in chosen)
    if len(wanted) < len(chosen):
        st.caption("Of several values of one attribute, the last one counts.")
    return wanted


def paged(
    key: str, most: int, size: int, fetch: Callable[..., Sequence[_Row]]
) -> tuple[int, Sequence[_Row]]:
    """One page of rows from the server, its number in the URL.

    Args:
        most: Rows there are without a filter.
        fetch: Takes `limit` and `offset`.
    """
    place = st.empty()
    with place:
        page = st.pagination(
            max(1, -(-most // size)), key=key, bind="query-params", max_visible_pages=5
        )
    rows = fetch(limit=size, offset=(page - 1) * size)
    if page == 1 and len(rows) < size:
        place.empty()  # all fits on one page
    return page, rows


def show_question(question: Question) -> None:
    """A prompt exactly as it is sent."""
    st.caption("System prompt")
    foreign_text(question.system)
    st.caption("User prompt")
    foreign_text(question.user)


def failures_table(failures: Mapping[str, int]) -> None:
    """Failed attempts by kind."""
    table = pd.DataFrame(
        {
            "Reason": [words.FAILURES.get(kind, kind) for kind in failures],
            "Attempts": list(failures.values()),
        }
    )
    st.dataframe(
        table,
        hide_index=True,
        key="failures_by_kind",
        column_config={"Attempts": st.column_config.NumberColumn(format="localized")},
        alt="Failed attempts by reason",
    )


def resume_button(service: BenchmarkService, run: RunDetail) -> None:
    """Resume a run; a run of a server may get another address and, for this time, a key."""
    fields: dict[str, Any] = {"resume_run_id": run["id"]}
    clicked = st.button(
        "Resume run",
        key=f"resume_{run['id']}",
        type="primary",
        icon=":material/replay:",
        help="Asks only what is missing.",
    )
    if run["config"]["llm"] == "vllm":
        with st.popover("Address and key", icon=":material/key:"):
            fields["vllm_base_url"] = st.text_input(
                "Address",
                key=f"resume_address_{run['id']}",
                placeholder=run["config"]["vllm_base_url"] or "as before",
                help="Only if the server has moved; it must serve the same model.",
            )
            fields["vllm_api_key"] = st.text_input(
                "API key",
                key=f"resume_key_{run['id']}",
                type="password",
                autocomplete="off",
                help="Used for this run only, kept in memory, never stored.",
            )
    if clicked:
        given = {name: value for name, value in fields.items() if value}
        act(lambda: service.start_benchmark(start_benchmark(**given)))


def act(action: Any) -> None:
    """Do something that may be refused, then show the page anew, or say why not."""
    try:
        action()
    except BenchlibError as error:
        show_error(error)
    else:
        st.rerun()
