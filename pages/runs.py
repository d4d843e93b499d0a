"""Browse, filter, open, annotate, cancel, resume and delete runs."""

import pandas as pd
import streamlit as st

from benchlib.application.payloads import RunDetail, RunSummary
from benchlib.domain.analysis.shared_runs import FEWEST_RUNS, MOST_RUNS
from benchlib.domain.run_state import ACTIVE
from benchlib.domain.vocabulary import RunStatus
from benchlib.presentation.text import counted
from pages.shared import actions, links, run_header, run_pickers, texts, words
from pages.shared.access import get_service

SORTS = {
    "Newest": lambda run: -run["id"],
    "Oldest": lambda run: run["id"],
    "Model": lambda run: run["model_name"].casefold(),
    "Dataset": lambda run: run["dataset_name"].casefold(),
    "Status": lambda run: run["status"],
    "Most answers": lambda run: -run["n_results"],
    "Longest": lambda run: -run["duration_s"],
}

service = get_service()


def show_table(shown: list[RunSummary]) -> None:
    """The runs as a table; a row that is selected opens below, several can be compared."""
    frame = pd.DataFrame(
        {
            "id": [run["id"] for run in shown],
            "link": [f"progress?run={run['id']}" for run in shown],
            "status": [run["status"] for run in shown],
            "progress": [words.share(run["n_results"], run["total"]) for run in shown],
            "model": [run["model_name"] for run in shown],
            "dataset": [run["dataset_name"] for run in shown],
            "answers": [run["n_results"] for run in shown],
            "failed": [run["failed"] for run in shown],
            "duration": [words.duration(run["duration_s"]) for run in shown],
            "created": pd.to_datetime(
                [run["created_at"] for run in shown], utc=True, format="ISO8601"
            ),
            "simulated": [run["simulated"] for run in shown],
            "tags": [run["tags"] for run in shown],
            "note": [run["note"] for run in shown],
        }
    )
    st.dataframe(
        frame,
        key="runs_table",
        hide_index=True,
        on_select=lambda: open_selected([run["id"] for run in shown]),
        selection_mode="multi-row",
        column_config={
            "id": st.column_config.NumberColumn("Run", width="small", pinned=True),
            "link": st.column_config.LinkColumn("Link", display_text="open", width="small"),
            "status": "Status",
            "progress": st.column_config.ProgressColumn("Rated", min_value=0, max_value=1),
            "model": st.column_config.TextColumn("Model"),
            "dataset": st.column_config.TextColumn("Dataset"),
            "answers": st.column_config.NumberColumn("Answers", format="localized"),
            "failed": st.column_config.NumberColumn("Failed", format="localized"),
            "duration": "Duration",
            "created": st.column_config.DatetimeColumn(
                "Created", format="YYYY-MM-DD HH:mm", timezone=st.context.timezone
            ),
            "simulated": st.column_config.CheckboxColumn("Simulated"),
            "tags": st.column_config.ListColumn("Tags"),
            "note": st.column_config.TextColumn("Note", width="medium"),
        },
        alt="Runs",
    )


def selected(ids: list[int]) -> list[int]:
    """The runs whose rows are selected."""
    rows = st.session_state["runs_table"]["selection"]["rows"]
    return [ids[row] for row in rows if row < len(ids)]


def open_selected(ids: list[int]) -> None:
    """Show the run if a single row is selected."""
    chosen = selected(ids)
    if len(chosen) == 1:
        run_pickers.remember_run(chosen[0])


def offer_comparison(chosen: list[int]) -> None:
    """Link to a comparison of the selected runs; the oldest is the reference."""
    if FEWEST_RUNS <= len(chosen) <= MOST_RUNS:
        st.page_link(
            "compare.py",
            label=f"Compare the {len(chosen)} selected runs",
            icon=":material/compare:",
            query_params={"runs": ",".join(map(str, sorted(chosen)))},
        )
    elif len(chosen) > MOST_RUNS:
        st.caption(f"At most {MOST_RUNS} runs can be compared.")


@st.dialog("Delete this run?", icon=":material/delete:")
def ask_to_delete(run: RunDetail) -> None:
    """Ask before deleting, which cannot be undone."""
    run_header.run_facts(run)
    st.write(
        f"This deletes run {run['id']} with {counted(run['n_results'], 'answer')}, its "
        "failures, tags and note. It cannot be undone."
    )
    with st.container(horizontal=True):
        if st.button("Delete permanently", key="runs_delete_yes", type="primary"):
            actions.act(lambda: delete(run["id"]))
        if st.button("Keep it", key="runs_delete_no"):
            st.rerun()


def delete(run_id: int) -> None:
    """Delete a run; the next one in the list takes its place."""
    service.runs.delete_run(run_id)
    run_pickers.forget_run(run_id)


def show_actions(run: RunDetail) -> None:
    """Cancel, resume or delete, as status and role allow."""
    with st.container(horizontal=True):
        if run["status"] in ACTIVE:
            if service.may(service.runs.cancel_benchmark) and st.button(
                "Cancel run", key="runs_cancel", icon=":material/cancel:"
            ):
                actions.act(lambda: service.runs.cancel_benchmark(run["id"]))
            return
        if run["resumable"] and service.may(service.start_benchmark):
            actions.resume_button(service, run)
        if service.may(service.runs.delete_run) and st.button(
            "Delete run", key="runs_delete", icon=":material/delete:"
        ):
            ask_to_delete(run)


def show_notes(run: RunDetail, known_tags: list[str]) -> None:
    """Tags and note, for people to find the run again."""
    may_write = service.may(service.runs.annotate_run)
    tags = st.multiselect(
        "Tags",
        sorted({*known_tags, *run["tags"]}),
        default=run["tags"],
        accept_new_options=True,
        key=f"runs_tags_{run['id']}",
        disabled=not may_write,
        help="Short words to find this run by; type a new one and press Enter.",
    )
    note = st.text_area(
        "Note",
        run["note"],
        key=f"runs_note_{run['id']}",
        disabled=not may_write,
        help="What this run was for, and what you saw. Up to 10,000 characters.",
    )
    changed = tags != run["tags"] or note != run["note"]
    if may_write and st.button(
        "Save tags and note", key="runs_save", icon=":material/save:", disabled=not changed
    ):
        actions.act(lambda: service.runs.annotate_run(run["id"], note=note, tags=tags))


st.title("Runs")
runs = service.list_runs()
known_tags = sorted({tag for run in runs for tag in run["tags"]})
with st.container(horizontal=True, vertical_alignment="bottom"):
    search = st.text_input(
        "Search",
        key="q",
        bind="query-params",
        type="search",
        placeholder="Number, model, dataset, tag or note",
        help="Shows runs that contain all the words typed.",
    )
    statuses = st.multiselect(
        "Status",
        [status.value for status in RunStatus],
        key="status",
        bind="query-params",
        help="Nothing chosen shows all.",
    )
    sort = st.selectbox(
        "Sort by",
        list(SORTS),
        key="sort",
        bind="query-params",
        help="Clicking a column header also sorts the table.",
    )
shown = sorted(
    (
        run
        for run in runs
        if words.matches(search, [run_pickers.run_label(run), run["note"]])
        and (not statuses or run["status"] in statuses)
    ),
    key=SORTS[sort],
)
if runs:
    show_table(shown)
    st.caption(f"{len(shown)} of {counted(len(runs), 'run')}; select several to compare them")
    offer_comparison(selected([run["id"] for run in shown]))
run = service.get_run(run_pickers.pick_run(runs))
run_header.run_badges(run)
run_header.run_facts(run)
if run["error"]:
    texts.untrusted_text(run["error"])
links.run_links(run["id"], without="runs.py")
show_actions(run)
notes, files = st.columns(2, gap="large")
with notes:
    show_notes(run, known_tags)
with files:
    with st.expander("Configuration", icon=":material/tune:"):
        st.json(run["config"])
    with st.expander("Manifest: what was used, as the engine reported it", icon=":material/badge:"):
        if run["manifest"]:
            st.json(run["manifest"])
        else:
            st.text("The manifest is written when the run starts.")
