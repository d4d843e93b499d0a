"""Bias overview: which attributes matter at all, and for which traits."""

from typing import Any

import streamlit as st

from benchlib.application.analysis import detail_panels, group_panels
from benchlib.presentation.figures.omnibus import bias_index_figure, omnibus_heatmap
from pages.shared import analysis_pickers, downloads, links, run_header, texts, words
from pages.shared.columns import count_column, number_column, p_value_column, show_table


def root(variance: float | None) -> str:
    """A standard deviation; a dash where it is undefined."""
    return "–" if variance is None else f"{variance**0.5:.2f}"


service, run = run_header.open_run("Bias overview")
with st.container(horizontal=True, vertical_alignment="bottom"):
    trait_category = analysis_pickers.pick_trait_category(run)
    options = analysis_pickers.pick_options(with_sesoi=False, with_correction=False)
chosen: dict[str, Any] = {
    "alpha": options.alpha,
    "use_expected": options.use_expected,
    "neutral": options.neutral,
}
with st.spinner("Testing attributes"):
    overall = service.analysis.get_panel(
        group_panels.omnibus, run["id"], trait_category=trait_category, **chosen
    )
    whole = service.analysis.get_panel(group_panels.omnibus, run["id"], **chosen)
    by_category = service.analysis.get_panel(group_panels.omnibus_by_category, run["id"], **chosen)
provenance = run_header.panel_facts(overall, run)
if overall["n"] == 0 and not options.neutral:
    st.info(words.NO_VALENCE, icon=":material/info:")
significant = sum(row["significant"] is True for row in overall["attributes"])
texts.numbers(
    {
        "Attributes": (f"{len(overall['attributes']):,}", "Attributes of the personas."),
        "Significant": (
            f"{significant:,}",
            "By Brown and Forsythe's F* after correction over the run.",
        ),
    }
)
left, right = st.columns(2, gap="large")
with left:
    downloads.show_figure(
        downloads.draw(bias_index_figure, provenance, overall["attributes"]),
        "bias_index",
        "Bias index by attribute",
        provenance,
        overall["attributes"],
    )
with right:
    rows = [row for table in by_category["categories"].values() for row in table["attributes"]]
    downloads.show_figure(
        downloads.draw(omnibus_heatmap, provenance, whole, by_category["categories"]),
        "bias_heatmap",
        "Bias index by attribute and trait category",
        provenance,
        rows,
    )
show_table(
    overall["attributes"],
    "omnibus_table",
    {
        "attribute": "Attribute",
        "n_groups": count_column("Groups"),
        "n_total": count_column("Personas"),
        "n_missing": count_column("Missing"),
        "sd_between": number_column("Bias index", 3, "Scale points."),
        "sd_between_low": number_column("95% low", 3, "Of the bias index."),
        "sd_between_high": number_column("95% high", 3, "Of the bias index."),
        "bf_f": number_column("F*", 2, "Brown and Forsythe's test."),
        "bf_p": p_value_column("p"),
        "bf_q": p_value_column("q"),
        "welch_f": number_column("Welch F", 2),
        "welch_p": p_value_column("p, Welch"),
        "omega_squared": number_column("ω²"),
        "h_stat": number_column("Kruskal–Wallis H", 2),
        "p_value": p_value_column("p, ranks"),
        "q_value": p_value_column("q, ranks"),
        "eta_squared": number_column("η²"),
        "epsilon_squared": number_column("ε²"),
        "effect_interpretation": "Effect",
        "status": "Note",
    },
    "Omnibus tests by attribute",
)
texts.explain(
    "The **bias index** is the estimated standard deviation of group means in scale points, noise "
    "removed: 0 = groups differ no more than by chance. It does not grow with the number of "
    "categories or shrink with the number of personas. F\\* (Brown and "
    "Forsythe) tests whether all groups are alike, one number per persona, and holds for small "
    "groups of unequal spread: a star follows its q, corrected over all attributes × sets of "
    "traits of the run. Welch's ANOVA and Kruskal–Wallis are for comparison with other work. "
    "Groups below two personas and `Unknown` are left out. η² and ε² are "
    "shares of the variance of ranks: below .01 negligible, .06 small, .14 medium."
)
spread_part = st.expander(
    "Where the variance of ratings comes from (variance components)",
    icon=":material/donut_small:",
    key="spread",
    on_change="rerun",
    bind="query-params",
)
with spread_part:
    if spread_part.open:
        spread = service.analysis.get_panel(
            detail_panels.variance_components,
            run["id"],
            trait_category=trait_category,
            use_expected=options.use_expected,
            neutral=options.neutral,
        )
        run_header.panel_facts(spread, run)
        if spread["icc_persona"] is None:
            st.text("This needs at least two traits and two personas that differ.")
        else:
            texts.numbers(
                {
                    "Personas": (root(spread["var_persona"]), "SD between personas, scale points."),
                    "Traits": (root(spread["var_trait"]), "SD between traits, scale points."),
                    "Single ratings": (
                        root(spread["var_resid"]),
                        "SD of the residual, scale points.",
                    ),
                    "ICC": (
                        f"{spread['icc_persona']:.2f}",
                        "Correlation of two traits of the same persona.",
                    ),
                    "Design effect": (
                        f"× {spread['design_effect']:.1f}",
                        "By what factor a test on single ratings would understate the variance "
                        "of a group mean; this is why the persona is the unit here.",
                    ),
                }
            )
        st.caption(
            "Two-way analysis of variance of personas × traits; negative estimates are shown as 0."
        )
links.result_links(run["id"], "omnibus.py")
