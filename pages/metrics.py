"""Ratings of one run: histogram, trait categories, means with intervals by attribute."""

import pandas as pd
import streamlit as st

from benchlib.domain.analysis.metrics import AttributeMean, TraitCategorySummary
from benchlib.presentation.figures.histogram import rating_histogram_figure, trait_category_figure
from benchlib.presentation.figures.means import means_figure
from benchlib.presentation.provenance import provenance_of
from benchlib.presentation.rows import histogram_rows, trait_category_rows
from pages.shared import analysis_pickers, downloads, links, run_header, run_pickers, texts
from pages.shared.access import get_service
from pages.shared.columns import count_column, number_column, show_table


def show_summary(summary: list[TraitCategorySummary]) -> None:
    """Level and spread per trait category."""
    st.dataframe(
        pd.DataFrame(summary),
        placeholder="–",
        key="metrics_summary",
        hide_index=True,
        column_config={
            "category": "Trait category",
            "count": st.column_config.NumberColumn("Answers", format="localized"),
            "mean": st.column_config.NumberColumn("Mean, aligned", format="%.2f"),
            "std": st.column_config.NumberColumn("SD, aligned", format="%.2f"),
            "n_aligned": st.column_config.NumberColumn("Answers, aligned", format="localized"),
            "mean_pre_valence": st.column_config.NumberColumn("Mean, recoded", format="%.2f"),
            "std_pre_valence": st.column_config.NumberColumn("SD, recoded", format="%.2f"),
        },
        alt="Answers, mean and standard deviation per trait category",
    )


def show_means(rows: list[AttributeMean]) -> None:
    """The numbers behind the dot plot."""
    shown = {
        "category": "Category",
        "n_personas": count_column("Personas"),
        "count": count_column("Answers"),
        "n_missing": count_column("Missing"),
        "mean": number_column("Mean"),
        "ci_low": number_column("95% low"),
        "ci_high": number_column("95% high"),
        "status": "Note",
    }
    if all(row["status"] == "ok" for row in rows):
        del shown["status"]
    show_table(rows, "metrics_means", shown, "Mean rating and interval per category")


service = get_service()
st.title("Metrics")
run = service.get_run(run_pickers.pick_run(service.list_runs()))
run_header.run_badges(run, results=True)
run_header.run_facts(run)
metrics = service.get_metrics(run["id"])
run_header.sample_numbers(metrics)
run_header.stop_without_answers(run, without="metrics.py")
run_header.data_quality_banner(service, run["id"])
provenance = provenance_of(run, metrics)

left, right = st.columns(2, gap="large")
with left:
    downloads.show_figure(
        downloads.draw(rating_histogram_figure, provenance, metrics["hist"]),
        "metrics_histogram",
        "Share of answers per point of the scale",
        provenance,
        histogram_rows(metrics["hist"]),
    )
with right:
    downloads.show_figure(
        downloads.draw(
            trait_category_figure, provenance, metrics["trait_categories"]["histograms"]
        ),
        "metrics_categories",
        "Share of answers per point of the scale, by trait category",
        provenance,
        trait_category_rows(metrics["trait_categories"]["histograms"]),
    )
summary = metrics["trait_categories"]["summary"]
show_summary(summary)
downloads.downloads(
    "metrics_summary", provenance, rows=summary, title="Level and spread per trait category"
)
texts.explain(
    "In every rating 1 means “not at all” and 5 means “very”: answers in the reversed scale order "
    "are *recoded*. *Aligned* also reverses unfavourable traits, so that 5 is most favourable, and "
    "leaves neutral traits out. SD is the standard deviation of single answers."
)

st.subheader("Means by attribute")
with st.container(horizontal=True):
    attribute = analysis_pickers.pick_attribute(run)
    category = analysis_pickers.pick_trait_category(run)
means = service.get_means(run["id"], attribute, trait_category=category)
provenance = run_header.panel_facts(means, run)
figure, table = st.columns(2, gap="large")
with figure:
    downloads.show_figure(
        downloads.draw(
            means_figure,
            provenance,
            means["rows"],
            attribute,
            metrics["attributes"][attribute]["baseline"],
        ),
        "metrics_means_figure",
        "Mean rating with 95% interval per category",
        provenance,
        means["rows"],
    )
with table:
    show_means(means["rows"])
texts.explain(
    "The persona is the unit: each persona gets one score, the mean over its traits after "
    "valence alignment, centred by trait and scale order. The dot is the grand mean plus the mean "
    "score of the category, the line its 95% t interval. Hollow dots have fewer than five personas "
    "or no interval. The dashed line is the mean of the category with the most personas."
)
links.run_links(run["id"], without="metrics.py")
