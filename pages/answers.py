"""Single answers of a run: filters, pages, one answer in full; failures and missing answers."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from benchlib.application.payloads import RunDetail
from benchlib.domain.records import AnswerFilter, StoredAnswer
from benchlib.domain.vocabulary import SCALE_ORDERS, ScaleOrder
from benchlib.presentation.figures.histogram import answer_distribution_figure
from benchlib.presentation.text import counted
from pages.shared import filters, links, run_header, run_pickers, texts, words
from pages.shared.access import get_dataset_service, get_service

PAGE_SIZE = 50
TABS = ("Answers", "Failures", "Missing")
PAGERS = ("page", "failures_page", "missing_page")

service = get_service()


def show_answers(run: RunDetail) -> None:
    """Filters, one page of answers, and the chosen one in full."""
    where = pick_filter(run, answered=True)
    page, rows = filters.paged(
        "page",
        run["n_results"],
        PAGE_SIZE,
        lambda **at: service.runs.list_answers(run["id"], where, **at),
    )
    if not rows:
        st.info("No answer matches these filters.", icon=":material/search_off:")
        return
    frame = pd.DataFrame(
        {
            "digit": [row.rating_raw for row in rows],
            "trait": [row.case_id for row in rows],
            "category": [row.trait_category for row in rows],
            "scale": [words.SCALE_ORDERS[row.scale_order] for row in rows],
            "persona": [row.persona_uuid for row in rows],
            "text": [row.raw_answer for row in rows],
            "attempt": [row.attempt for row in rows],
        }
    )
    event = st.dataframe(
        frame,
        key=f"answers_table_{page}",
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        column_config={
            "digit": st.column_config.NumberColumn("Digit", width="small"),
            "trait": "Trait",
            "category": "Trait category",
            "scale": st.column_config.TextColumn("Scale shown", width="medium"),
            "persona": "Persona",
            "text": st.column_config.TextColumn("Raw answer", width="medium"),
            "attempt": st.column_config.NumberColumn("Attempt", width="small"),
        },
        alt="Answers",
    )
    chosen = event.selection.rows
    if chosen and chosen[0] < len(rows):
        show_answer(run, rows[chosen[0]])
    elif len(rows) == 1:
        show_answer(run, rows[0])
    else:
        st.caption("Tick the box at the start of a row to read the whole answer.")


def to_first_page() -> None:
    """Back to page 1: with other filters, the list is another one."""
    for pager in PAGERS:
        if pager in st.session_state:
            st.session_state[pager] = 1


def pick_filter(
    run: RunDetail, *, answered: bool = False, kinds: Sequence[str] = ()
) -> AnswerFilter:
    """Which questions to show; every choice is kept in the URL.

    Args:
        answered: Offer a filter by digit.
        kinds: Offer a filter by these kinds of failure.
    """
    datasets = get_dataset_service()
    asked = set(run["config"]["trait_ids"])
    case_ids = sorted({trait.case_id for trait in datasets.list_traits() if trait.id in asked})
    with st.container(horizontal=True, vertical_alignment="bottom"):
        traits = st.multiselect(
            "Trait",
            case_ids,
            key="trait",
            bind="query-params",
            on_change=to_first_page,
            placeholder="All",
            help="Nothing chosen shows all traits.",
        )
        attributes = filters.pick_persona_values(
            datasets.get_composition(run["dataset_id"]), to_first_page
        )
        rating = kind = None
        if answered:
            rating = st.selectbox(
                "Digit",
                [1, 2, 3, 4, 5],
                index=None,
                key="digit",
                bind="query-params",
                on_change=to_first_page,
                placeholder="All",
                help="The digit as the model gave it, before recoding.",
            )
        if kinds:
            kind = st.selectbox(
                "Reason",
                kinds,
                index=None,
                format_func=lambda kind: words.FAILURES.get(kind, kind),
                key="reason",
                bind="query-params",
                on_change=to_first_page,
                placeholder="All",
                help="Why the attempt failed.",
            )
        order: ScaleOrder | None = st.selectbox(
            "Scale order",
            SCALE_ORDERS,
            index=None,
            key="order",
            bind="query-params",
            on_change=to_first_page,
            placeholder="Both",
            help="in: original scale order, 1 = not at all, 5 = very. rev: reversed scale order.",
        )
        persona = st.text_input(
            "Persona",
            key="persona",
            bind="query-params",
            on_change=to_first_page,
            placeholder="All",
            help="Identifier of one persona, as in the table.",
        )
    return AnswerFilter(
        case_ids=tuple(traits),
        rating_raw=rating,
        scale_order=order,
        persona_uuid=persona.strip() or None,
        attributes=attributes,
        kind=kind,
    )


def show_answer(run: RunDetail, answer: StoredAnswer) -> None:
    """One answer with everything known about it."""
    st.subheader("One answer")
    question = service.runs.get_prompt(run["id"], answer)
    shown = words.SCALE_ORDERS[answer.scale_order]
    texts.numbers(
        {
            "Digit": (str(answer.rating_raw), "As the model gave it."),
            "Scale shown": (shown, "The scale as the model saw it."),
            "Attempt": (str(answer.attempt), "1 = the first attempt gave a rating."),
            "Time": (f"{answer.latency_ms:,} ms", "Of the request that carried this answer."),
            "Tokens": (
                words.tokens(answer.prompt_tokens, answer.completion_tokens),
                "Prompt + answer, where the engine counts them.",
            ),
        }
    )
    left, right = st.columns(2, gap="large")
    with left:
        st.caption("Raw answer")
        texts.untrusted_text(answer.raw_answer)
        st.plotly_chart(
            answer_distribution_figure(answer.probabilities, answer.rating_raw),
            key="answer_distribution",
            alt="Probability of each digit",
        )
        if answer.valid_mass is not None:
            st.caption(f"Probability of valid digits before renormalising: {answer.valid_mass:.1%}")
    with right:
        texts.show_question(question)
    st.caption("Address of this answer")
    texts.untrusted_text(
        links.address_of(
            "answers",
            run=run["id"],
            trait=answer.case_id,
            order=answer.scale_order,
            persona=answer.persona_uuid,
        )
    )


def show_failures(run: RunDetail) -> None:
    """Filters, and one page of failed attempts, newest first."""
    failures = run["tally"].get("failures", {})
    if not failures:
        st.text("No attempt failed.")
        return
    texts.failures_table(failures)
    where = pick_filter(run, kinds=list(failures))
    page, rows = filters.paged(
        "failures_page",
        sum(failures.values()),
        PAGE_SIZE,
        lambda **at: service.runs.list_failures(run["id"], where, **at),
    )
    if not rows:
        st.info("No failed attempt matches these filters.", icon=":material/search_off:")
        return
    frame = pd.DataFrame(
        {
            "reason": [words.FAILURES.get(row.kind, row.kind) for row in rows],
            "final": [row.final for row in rows],
            "trait": [row.case_id for row in rows],
            "persona": [row.persona_uuid for row in rows],
            "attempt": [row.attempt for row in rows],
            "message": [row.message for row in rows],
            "text": [row.raw_snippet for row in rows],
            "when": [row.created_at for row in rows],
        }
    )
    event = st.dataframe(
        frame,
        key=f"failures_table_{page}",
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        column_config={
            "reason": "Reason",
            "final": st.column_config.CheckboxColumn(
                "Given up", help="No further attempt was made at this question."
            ),
            "trait": "Trait",
            "persona": "Persona",
            "attempt": st.column_config.NumberColumn("Attempt", width="small"),
            "message": st.column_config.TextColumn("Message", width="medium"),
            "text": st.column_config.TextColumn("Answer begins", width="medium"),
            "when": st.column_config.DatetimeColumn(
                "When", format="YYYY-MM-DD HH:mm:ss", timezone=st.context.timezone
            ),
        },
        alt="Failed attempts",
    )
    chosen = event.selection.rows
    if chosen and chosen[0] < len(rows):
        failure = rows[chosen[0]]
        for caption, text in (
            ("Message", failure.message),
            ("The answer began", failure.raw_snippet),
            ("The prompt began", failure.prompt_snippet),
        ):
            st.caption(caption)
            texts.untrusted_text(text)


def show_missing(run: RunDetail) -> None:
    """How much is missing; filters, and one page of it."""
    n_missing = run["total"] - run["n_results"]
    if not n_missing:
        st.success("Every planned question has a rating.", icon=":material/check_circle:")
        return
    st.text(
        f"{n_missing:,} of {counted(run['total'], 'planned question')} have no rating; "
        f"{run['failed']:,} of them failed in the last execution."
    )
    where = pick_filter(run)
    page, rows = filters.paged(
        "missing_page",
        n_missing,
        PAGE_SIZE,
        lambda **at: service.runs.get_missing(run["id"], where, **at)["samples"],
    )
    if not rows:
        st.info("No missing question matches these filters.", icon=":material/search_off:")
        return
    st.dataframe(
        pd.DataFrame(rows).replace({"scale_order": words.SCALE_ORDERS}),
        key=f"missing_table_{page}",
        hide_index=True,
        column_config={
            "persona_uuid": "Persona",
            "case_id": "Trait",
            "adjective": "Wording",
            "scale_order": "Scale shown",
        },
        alt="Questions without a rating",
    )


st.title("Answers")
run = service.get_run(run_pickers.pick_run(service.list_runs()))
run_header.run_badges(run, results=True)
run_header.run_facts(run)
if run["n_results"]:
    run_header.data_quality_banner(service, run["id"])
answers, failures, missing = st.tabs(TABS, key="tab", bind="query-params")
with answers:
    if answers.open:
        show_answers(run)
with failures:
    if failures.open:
        show_failures(run)
with missing:
    if missing.open:
        show_missing(run)
links.run_links(run["id"], without="answers.py")
