"""One run's live progress: a timed fragment that only reads; Cancel and Resume outside of it."""

import pandas as pd
import streamlit as st

from benchlib.domain.asking.engine_reports import EngineStats
from benchlib.domain.errors import BenchlibError
from benchlib.domain.run_state import ACTIVE
from benchlib.domain.vocabulary import RunStatus
from benchlib.presentation.figures.histogram import tally_figure
from benchlib.presentation.text import counted
from pages.shared import actions, links, run_header, run_pickers, texts, words
from pages.shared.access import get_service

service = get_service()
st.title("Progress")
run_id = run_pickers.pick_run(service.list_runs())
run = service.get_run(run_id)
is_active = run["status"] in ACTIVE


@st.fragment(run_every=1.0 if is_active else None)
def show_progress() -> None:
    """Everything that moves. When the status changes, the whole page runs again."""
    try:
        now, seen = service.bench_status(run_id), service.get_run(run_id)
    except BenchlibError as error:  # deleted in the meantime
        texts.show_error(error)
        return
    if now["status"] != run["status"]:
        st.rerun()
    st.progress(words.share(now["done"], now["total"]), text=_headline(now["done"], now["total"]))
    if now["cancel_requested"] and is_active:
        st.info("Cancelling; requests already sent will be kept.", icon=":material/hourglass_top:")
    elif now["activity"]:
        st.text(now["activity"])
    texts.numbers(
        {
            "Rated": (f"{now['done']:,}", "Answers with a valid rating, all stored."),
            "Failed": (f"{now['failed']:,}", "Questions given up after all attempts."),
            "Missing": (f"{now['total'] - now['done']:,}", "Planned questions without a rating."),
            "Speed": (words.rate(now["rate_per_s"]), "Over the last minute."),
            "Time left": (words.duration(now["eta_s"]), "At the speed of the last minute."),
            "Time spent": (
                words.duration(seen["duration_s"]),
                "Time of execution, resumes included.",
            ),
        }
    )
    if is_active and not run["simulated"]:
        _show_engines(service.engines.get_stats(run_id))
    left, right = st.columns([3, 2], gap="large")
    with left:
        st.plotly_chart(
            tally_figure(seen["tally"], "Ratings so far" if is_active else "Ratings"),
            key="progress_tally",
            alt="Ratings, by scale order",
        )
    with right:
        _show_latest(seen["tally"].get("latest", []))
        if failures := seen["tally"].get("failures"):
            st.markdown("**Failed attempts**")
            texts.failures_table(failures)


def _show_engines(engines: list[EngineStats]) -> None:
    if not engines:
        return
    st.markdown(
        "**Engine**",
        help="What the model server reports about itself, for all its users together. Speeds and "
        "cache hits are over the last minute; cache hits are the share of prompt tokens that the "
        "server still had in its prefix cache.",
    )
    rows = [
        {
            "Address": engine["address"],
            "State": words.ENGINE_STATES[engine["state"]],
            "Running": words.amount(engine["requests_running"]),
            "Waiting": words.amount(engine["requests_waiting"]),
            "Prompt tokens": words.rate(engine["prompt_tokens_per_s"]),
            "Generated tokens": words.rate(engine["generation_tokens_per_s"]),
            "Prefix cache hits": words.percent(engine["prefix_cache_hit_rate"]),
        }
        for engine in engines
    ]
    st.dataframe(
        pd.DataFrame(rows),
        key="progress_engines",
        hide_index=True,
        alt="What the model servers report about themselves",
    )


def _headline(done: int, total: int) -> str:
    return f"{done:,} of {counted(total, 'answer')}"


def _show_latest(latest: list[dict[str, object]]) -> None:
    st.markdown("**Last answers**")
    if not latest:
        st.text("None yet.")
        return
    table = pd.DataFrame(latest[::-1])
    table["scale_order"] = table["scale_order"].map(words.SHORT_ORDERS)
    st.dataframe(
        table,
        key="progress_latest",
        hide_index=True,
        column_order=["rating_raw", "case_id", "scale_order", "persona"],
        column_config={
            "rating_raw": st.column_config.NumberColumn("Digit", width="small"),
            "case_id": "Trait",
            "scale_order": st.column_config.TextColumn("Scale", width="small"),
            "persona": "Persona",
        },
        alt="The last answers, newest first",
    )


run_header.run_badges(run)
run_header.run_facts(run)
with st.container(horizontal=True):
    if is_active and service.may(service.runs.cancel_benchmark):
        if st.button("Cancel run", key="progress_cancel", icon=":material/cancel:"):
            actions.act(lambda: service.runs.cancel_benchmark(run_id))
    elif run["resumable"] and service.may(service.start_benchmark):
        actions.resume_button(service, run)
if not is_active:
    look = words.STATUS[RunStatus(run["status"])]
    notice = st.success if run["status"] == RunStatus.DONE else st.warning
    notice(look.sentence, icon=look.icon)
if run["error"]:
    texts.untrusted_text(run["error"])
show_progress()
links.run_links(run_id, without="progress.py")
