"""Compare: two to eight runs on the questions that all of them answered, never pooled."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from benchlib.application.analysis.comparison_panels import Comparison, ConfigDifference
from benchlib.application.payloads import RunDetail, RunSummary
from benchlib.domain.analysis.shared_runs import FEWEST_RUNS, MOST_RUNS
from benchlib.presentation.figures.comparison import delta_differences_figure, levels_figure
from pages.shared import (
    access,
    analysis_pickers,
    downloads,
    run_header,
    run_pickers,
    texts,
)
from pages.shared.columns import count_column, number_column, p_value_column, show_table

_RUNS = "runs"
_PICKER = "compare_runs"

service = access.get_service()


def pick_runs(runs: Sequence[RunSummary]) -> list[int]:
    """Two to eight runs in the order chosen; kept in the URL as `runs=3,5`."""
    known = {run["id"]: run for run in runs}
    asked = st.query_params.get(_RUNS, "").split(",")
    named = dict.fromkeys(int(part) for part in asked if part.isascii() and part.isdigit())
    found = [run_id for run_id in named if run_id in known]
    if len(found) < len(named) or len(found) > MOST_RUNS:
        st.warning(
            f"The address of this page names runs that do not exist, or more than {MOST_RUNS}; "
            "the rest is shown.",
            icon=":material/link_off:",
        )
    st.session_state[_PICKER] = found[:MOST_RUNS]
    chosen = st.multiselect(
        "Runs",
        list(known),
        format_func=lambda run_id: run_pickers.run_label(known[run_id]),
        key=_PICKER,
        max_selections=MOST_RUNS,
        on_change=remember_runs,
        placeholder="Two to eight runs",
        help="The first one is the reference that the others are compared with. The address of "
        "this page leads back to these runs.",
    )
    if len(chosen) < FEWEST_RUNS:
        st.info(
            "Choose two to eight runs on the same personas and traits; the first is the reference.",
            icon=":material/info:",
        )
        st.stop()
    return chosen


def remember_runs() -> None:
    """Name the chosen runs in the URL."""
    st.query_params[_RUNS] = ",".join(map(str, st.session_state[_PICKER]))


def show_differences(differs: Sequence[ConfigDifference], run_ids: Sequence[int]) -> None:
    """What differs in configurations and manifests."""
    if not differs:
        st.text("The configurations and manifests of these runs do not differ.")
        return
    st.caption("What differs in the configurations and manifests")
    columns: dict[str, list[str | None]] = {"What": [found["label"] for found in differs]}
    for place, run_id in enumerate(run_ids):
        columns[f"Run {run_id}"] = [found["values"][place] for found in differs]
    st.dataframe(
        pd.DataFrame(columns, dtype=object),
        key="compare_differs",
        hide_index=True,
        placeholder="–",
        alt="What differs between the runs",
    )


def show_runs(found: Comparison) -> None:
    """How much of each run is compared, and what is left out."""
    show_table(
        [
            {**run, "role": "reference" if run["run_id"] == found["reference_id"] else "compared"}
            for run in found["runs"]
        ],
        "compare_shares",
        {
            "run_id": st.column_config.NumberColumn("Run", width="small"),
            "role": "Role",
            "model_name": "Model",
            "dataset_name": "Dataset",
            "simulated": st.column_config.CheckboxColumn("Simulated"),
            "preliminary": st.column_config.CheckboxColumn("Preliminary"),
            "n_answers": count_column("Answers"),
            "n_cells": count_column("Questions", "Personas × traits with a rating."),
            "n_cells_dropped": count_column("Not shared", "Of these, not rated in every run."),
            "n_personas_dropped": count_column("Personas left out"),
            "n_traits_dropped": count_column("Traits left out"),
        },
        "How much of each run is compared",
    )


def show_levels(reference: RunDetail, others: Sequence[RunDetail], trait_category: str) -> None:
    """How favourably the runs rate the same personas."""
    found = service.analysis.compare_metrics(
        run_ids,
        trait_category=trait_category,
        alpha=options.alpha,
        sesoi=options.sesoi,
        use_expected=options.use_expected,
        by=options.by,
    )
    show_differences(found["differs"], run_ids)
    show_runs(found)
    st.subheader("Differences in level")
    provenance = run_header.panel_facts(found, reference, others)
    rows = found["levels"]["rows"]
    if not all(row["same_orders"] for row in rows):
        st.warning(
            "These runs share no question asked in the same scale order: a difference in level "
            "may come from the orders alone.",
            icon=":material/swap_vert:",
        )
    figure = downloads.draw(levels_figure, provenance, found["levels"], options.by)
    downloads.show_figure(figure, "levels_figure", "Differences in level", provenance, rows)
    show_table(
        [{**row, "trait_category": row["trait_category"] or "all"} for row in rows],
        "levels_table",
        {
            "run_id": st.column_config.NumberColumn("Run", width="small"),
            "trait_category": "Trait category",
            "mean_reference": number_column("Mean, reference"),
            "mean": number_column("Mean, run"),
            **DIFFERENCE,
            "n_personas": count_column("Personas"),
            "n_traits": count_column("Traits"),
            "status": st.column_config.TextColumn("Note", width="medium"),
        },
        "Differences in level",
    )
    show_table(
        found["agreement"],
        "agreement_table",
        {
            "run_id": st.column_config.NumberColumn("Run", width="small"),
            "mean_abs_difference": number_column(
                "Mean distance", 3, "Of the ratings of one persona and trait, scale points."
            ),
            "persona_correlation": number_column("r, personas", 3, "Of the persona scores."),
            "trait_correlation": number_column("r, traits", 3, "Of the means of traits."),
            "n_cells": count_column("Questions"),
        },
        "How alike each run and the reference rate",
    )


def show_deltas(reference: RunDetail, others: Sequence[RunDetail], trait_category: str) -> None:
    """Whether the differences between groups differ between runs."""
    st.subheader("Differences between groups")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        attribute = analysis_pickers.pick_attribute(reference)
        baseline = analysis_pickers.pick_baseline(
            analysis_pickers.categories_of(reference, attribute)
        )
    found = service.analysis.compare_deltas(
        run_ids,
        attribute,
        baseline,
        trait_category=trait_category,
        alpha=options.alpha,
        sesoi=options.sesoi,
        use_expected=options.use_expected,
        by=options.by,
    )
    table = found["data"][attribute]
    provenance = run_header.panel_facts({**found, **table}, reference, others)
    figure = downloads.draw(delta_differences_figure, provenance, table, options.by)
    title = "Differences of deltas"
    downloads.show_figure(figure, "delta_differences_figure", title, provenance, table["rows"])
    show_table(
        table["rows"],
        "delta_differences_table",
        {
            "category": "Category",
            "run_id": st.column_config.NumberColumn("Run", width="small"),
            "delta_reference": number_column("Delta, reference"),
            "delta": number_column("Delta, run"),
            **DIFFERENCE,
            "n_cat": count_column("Personas"),
            "n_base": count_column("In baseline"),
            "status": st.column_config.TextColumn("Note", width="medium"),
        },
        title,
    )


def show_order(trait_category: str) -> None:
    """How consistent each run is across scale orders."""
    st.subheader("Consistency across scale orders")
    found = service.analysis.compare_order_metrics(run_ids, trait_category=trait_category)
    show_table(
        found["runs"],
        "order_comparison",
        {
            "run_id": st.column_config.NumberColumn("Run", width="small"),
            "model_name": "Model",
            "n_pairs": count_column("Pairs", "Questions asked in both scale orders."),
            "exact_rate": st.column_config.NumberColumn("Same answer", format="percent"),
            "mae": number_column("Mean distance", 2),
            "position_shift": number_column("Position shift", 3),
            "position_shift_ci_low": number_column("95% low"),
            "position_shift_ci_high": number_column("95% high"),
            "kappa": number_column("Quadratic kappa", 2),
        },
        "Consistency of each run across scale orders",
    )
    st.caption("Each run uses all of its own pairs. These numbers are descriptive, not tested.")


DIFFERENCE = {
    "difference": number_column("Difference", 3, "Run minus reference, scale points."),
    "ci_low": number_column("95% low"),
    "ci_high": number_column("95% high"),
    "p_value": p_value_column("p"),
    "q_value": p_value_column("q", "Corrected over the whole comparison."),
    "q_by": p_value_column("q, BY", "The same under any dependence of tests."),
    "p_tost": p_value_column("p, equivalence", "That the difference is not smaller than matters."),
    "verdict": "Verdict",
}

st.title("Compare")
runs = service.list_runs()
run_ids = pick_runs(runs)
details = [service.get_run(run_id) for run_id in run_ids]
with st.container(horizontal=True):
    if any(run["simulated"] for run in details):
        run_header.simulated_badge()
    if any(run_header.is_preliminary(run) for run in details):
        run_header.preliminary_badge()
with st.container(gap="small"):
    for run in details:
        if run["n_results"]:
            run_header.data_quality_banner(service, run["id"], f"run {run['id']}")
with st.container(horizontal=True, vertical_alignment="bottom"):
    category = analysis_pickers.pick_trait_category(details[0])
    options = analysis_pickers.pick_options(with_neutral=False)
with st.spinner("Comparing runs"):
    show_levels(details[0], details[1:], category)
    show_deltas(details[0], details[1:], category)
    show_order(category)
texts.explain(
    "Only questions that **every** run rated are compared: the same personas, the same versions of "
    "traits. Runs are never pooled; each is compared with the first, always run minus reference. "
    "**Level**: per persona, the mean aligned rating in the run minus that in the reference, over "
    "questions asked in the same scale order, a trait's mean being that of its two orders; "
    "Student's t on these differences, so that whatever is peculiar to a persona cancels out. "
    "**Between groups**: per persona, the score in the run minus that in the reference; Welch's "
    "t between a group and the baseline on these. This difference is exactly the delta in the "
    "run minus the delta in the reference. **q** is corrected over the whole comparison: levels "
    "over runs × trait categories, deltas over runs × attributes × categories × trait "
    "categories. **Verdict**: *differs* = significant after correction; *equivalent* = shown to be "
    "smaller than the smallest effect of interest (the grey band); *differs, but below the margin* "
    "= both; *too close to call* = neither. "
    "If two runs differ in more than the model, any of it may cause the difference."
)
with st.container(horizontal=True):
    for run in details:
        st.page_link(
            "deltas.py",
            label=f"Deltas of run {run['id']}",
            icon=":material/compare_arrows:",
            query_params={"run": str(run["id"])},
        )
