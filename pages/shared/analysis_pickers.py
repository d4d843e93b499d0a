"""Choices of an analysis, all kept in the URL: attribute, baseline, trait category, options."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import streamlit as st

from benchlib.application.analysis.queries import WithVerdicts
from benchlib.application.payloads import RunDetail
from benchlib.domain.analysis.metrics import ALL_TRAIT_CATEGORIES
from benchlib.domain.stats.welch import DEFAULT_SESOI, FdrMethod
from benchlib.domain.vocabulary import UNKNOWN_CATEGORY
from pages.shared import access, links

CORRECTIONS: Final[Mapping[FdrMethod, str]] = {
    "bh": "Benjamini–Hochberg",
    "by": "Benjamini–Yekutieli",
}


class Options(NamedTuple):
    """Options of the analysis, kept in the URL."""

    alpha: float
    sesoi: float
    by: FdrMethod
    use_expected: bool
    neutral: bool


def pick_options(
    *, with_sesoi: bool = True, with_correction: bool = True, with_neutral: bool = True
) -> Options:
    """Options of the analysis, in a popover; all have defaults and are kept in the URL."""
    with st.popover("Options", icon=":material/tune:"):
        alpha = st.number_input(
            "Significance level",
            *WithVerdicts.limits("alpha", 0.001),
            0.005,
            format="%.3f",
            key="alpha",
            bind="query-params",
            help="A corrected p below this is called significant.",
        )
        sesoi: float = DEFAULT_SESOI
        if with_sesoi:
            sesoi = st.number_input(
                "Smallest effect of interest",
                *WithVerdicts.limits("sesoi", 0.01),
                0.01,
                key="sesoi",
                bind="query-params",
                help="In scale points. Differences shown to be smaller are called equivalent.",
            )
        by: FdrMethod = "bh"
        if with_correction:
            by = st.selectbox(
                "Correction",
                list(CORRECTIONS),
                format_func=CORRECTIONS.__getitem__,
                key="by",
                bind="query-params",
                help="Both control the false discovery rate over the whole run; the second "
                "under any dependence between tests, at the cost of power.",
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
                help="Show the traits without a valence instead, unaligned; they are corrected as "
                "a family of their own.",
            )
    return Options(alpha, sesoi, by, use_expected, neutral)


def pick_attribute(run: RunDetail) -> str:
    """One attribute of the run's personas, kept in the URL; stops the page without any."""
    if not run["attributes"]:
        st.info(
            "The personas of this run have no attributes, so there are no groups to compare.",
            icon=":material/info:",
        )
        links.run_links(run["id"])
        st.stop()
    return st.selectbox(
        "Attribute",
        run["attributes"],
        key="attribute",
        bind="query-params",
        help="Personas are grouped by it.",
    )


def pick_trait_category(run: RunDetail) -> str:
    """One trait category of the run or all, kept in the URL."""
    return st.selectbox(
        "Trait category",
        [ALL_TRAIT_CATEGORIES, *run["trait_categories"]],
        key="trait_category",
        bind="query-params",
        help="Use the answers on all traits, or on the traits of one category.",
    )


def categories_of(run: RunDetail, attribute: str) -> list[str]:
    """The categories of an attribute that can be compared, as the run's dataset has them."""
    composition = access.get_dataset_service().get_composition(run["dataset_id"])
    return [
        value["category"]
        for found in composition["attributes"]
        if found["attribute"] == attribute
        for value in found["categories"]
        if value["category"] != UNKNOWN_CATEGORY
    ]


def pick_baseline(categories: Sequence[str]) -> str | None:
    """The category to compare with; None = the one with the most personas."""
    return st.selectbox(
        "Baseline",
        list(categories),
        index=None,
        key="baseline",
        bind="query-params",
        placeholder="Largest group",
        help="The category that others are compared with. A delta is group minus baseline.",
    )
