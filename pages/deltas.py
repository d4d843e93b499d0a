"""Deltas of one attribute: dot plot, table, adjusted deltas, counterfactual pairs."""

import streamlit as st

from benchlib.application.analysis import detail_panels
from benchlib.presentation.figures.deltas import (
    adjusted_figure,
    counterfactual_figure,
    deltas_figure,
)
from pages.shared import analysis_pickers, downloads, links, run_header, texts, words
from pages.shared.columns import count_column, number_column, p_value_column, show_table

service, run = run_header.open_run("Deltas")
with st.container(horizontal=True, vertical_alignment="bottom"):
    attribute = analysis_pickers.pick_attribute(run)
    categories = analysis_pickers.categories_of(run, attribute)
    baseline = analysis_pickers.pick_baseline(categories)
    trait_category = analysis_pickers.pick_trait_category(run)
    options = analysis_pickers.pick_options()

with st.spinner("Comparing groups"):
    deltas = service.get_deltas(
        run["id"], attribute, baseline, trait_category=trait_category, **options._asdict()
    )
provenance = run_header.panel_facts(deltas, run)
if deltas["n"] == 0 and not options.neutral:
    st.info(words.NO_VALENCE, icon=":material/info:")
downloads.show_figure(
    downloads.draw(deltas_figure, provenance, deltas),
    "deltas_figure",
    "Delta per category",
    provenance,
    deltas["rows"],
)
show_table(
    deltas["rows"],
    "deltas_table",
    {
        "category": "Category",
        "verdict": "Verdict",
        "delta": number_column("Delta", 3, "Category minus baseline, scale points."),
        "ci_low": number_column("95% low"),
        "ci_high": number_column("95% high"),
        "p_value": p_value_column("p", "Welch's t on persona scores."),
        "p_perm": p_value_column("p, permutation", "Personas shuffled between groups."),
        "q_value": p_value_column("q", "Corrected over all deltas of the run."),
        "q_by": p_value_column("q, BY", "The same under any dependence of tests."),
        "cliffs_delta": number_column("Cliff's delta", 3, "Positive = rated higher."),
        "hedges_g": number_column("Hedges' g"),
        "mean": number_column("Mean"),
        "n_personas": count_column("Personas"),
        "n_ratings": count_column("Answers"),
        "n_missing": count_column("Missing"),
        "status": st.column_config.TextColumn("Note", width="medium"),
    },
    "Deltas with intervals, p, q and verdict",
)
texts.explain(
    "Each persona has one score: the mean over its traits of the aligned rating, centred by trait "
    "and scale order. **Delta** is the mean score of the category minus that of the baseline, in "
    "scale points, with Welch's t interval. **q** is the p-value corrected over all deltas of the "
    "run (attributes × categories × trait categories). **Cliff's delta** is the "
    "probability that a persona of the category is rated higher than one of the baseline, minus "
    "the probability that it is rated lower. "
    "**Verdict**: *differs* = significant after correction; *equivalent* = the 90% interval lies "
    "within ± the smallest effect of interest; *differs, but below the margin* = both; *too close "
    "to call* = neither, more personas are needed. The baseline and `Unknown` are not tested. † "
    "and grey mark groups of fewer than five personas."
)

adjusted_part = st.expander(
    "Adjusted for other attributes",
    icon=":material/balance:",
    key="adjusted",
    on_change="rerun",
    bind="query-params",
)
with adjusted_part:
    if adjusted_part.open:
        adjusted = service.analysis.get_panel(
            detail_panels.adjusted_deltas,
            run["id"],
            trait_category=trait_category,
            alpha=options.alpha,
            use_expected=options.use_expected,
            neutral=options.neutral,
        )
        rows = [row for row in adjusted["rows"] if row["attribute"] == attribute]
        if any(row["confounded"] for row in rows):
            st.warning(
                "Some of these deltas may be due to another attribute: the groups differ in more "
                "than this one.",
                icon=":material/warning:",
            )
        for sentence in adjusted["warnings"]:
            if sentence.startswith((f"{attribute} = ", "Personas left out")):
                st.caption(words.plain_markdown(sentence))
        facts = run_header.panel_facts(adjusted, run)
        downloads.show_figure(
            downloads.draw(adjusted_figure, facts, rows),
            "adjusted_figure",
            "Unadjusted and adjusted deltas",
            facts,
            rows,
        )
        show_table(
            rows,
            "adjusted_table",
            {
                "category": "Category",
                "n_cat": count_column("Personas"),
                "delta": number_column("Unadjusted"),
                "adjusted_delta": number_column("Adjusted"),
                "ci_low": number_column("95% low"),
                "ci_high": number_column("95% high"),
                "p_value": p_value_column("p"),
                "q_value": p_value_column("q"),
                "vif": number_column(
                    "VIF", 1, "Variance inflation factor, due to the other attributes."
                ),
                "confounded": st.column_config.CheckboxColumn("May be confounded"),
                "status": "Note",
            },
            "Adjusted deltas",
        )
        st.caption(
            "Ordinary least squares of persona scores on all attributes at once, HC3 standard "
            "errors; each attribute is compared with its largest category."
        )

pairs_part = st.expander(
    "The same personas with one attribute changed (counterfactual pairs)",
    icon=":material/difference:",
    key="pairs",
    on_change="rerun",
    bind="query-params",
)
with pairs_part:
    if pairs_part.open:
        pairs = service.analysis.get_panel(
            detail_panels.counterfactuals,
            run["id"],
            trait_category=trait_category,
            alpha=options.alpha,
            use_expected=options.use_expected,
        )
        changed = [row for row in pairs["rows"] if row["attribute"] == attribute]
        if not pairs["available"]:
            st.text("The dataset of this run has no counterfactual pairs.")
        elif not changed:
            st.text("No pair in this dataset changes this attribute.")
        else:
            facts = run_header.panel_facts(pairs, run)
            downloads.show_figure(
                downloads.draw(counterfactual_figure, facts, changed),
                "pairs_figure",
                "Paired deltas",
                facts,
                changed,
            )
            show_table(
                changed,
                "pairs_table",
                {
                    "source_category": "From",
                    "category": "To",
                    "n_sources": count_column("Sources"),
                    "delta": number_column("Delta"),
                    "ci_low": number_column("95% low"),
                    "ci_high": number_column("95% high"),
                    "p_value": p_value_column("p"),
                    "p_signflip": p_value_column("p, sign flip"),
                    "q_value": p_value_column("q"),
                    "dz": number_column("dz"),
                    "status": "Note",
                },
                "Paired deltas",
            )
            st.caption("One-sample t on the mean difference per source persona; sign-flip test.")
links.result_links(run["id"], "deltas.py", attribute=attribute, baseline=baseline)
