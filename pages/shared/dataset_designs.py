"""The form that builds a dataset by design."""

from collections.abc import Callable, Sequence

import pandas as pd
import streamlit as st

from benchlib.application.dataset_designs import (
    BalancedDesign,
    CounterfactualDesign,
    Design,
    FactorialDesign,
    PoolDesign,
    RealityDesign,
    parse_factors,
)
from benchlib.application.dataset_service import DatasetService
from benchlib.application.sample_data import SAMPLE_FACTORS
from benchlib.domain.errors import BenchlibError
from benchlib.domain.records import DatasetRecord
from pages.shared import texts
from pages.shared.dataset_forms import make

_KINDS = {
    "pool": "Pool: all personas of some datasets, or some of them",
    "balanced": "Balanced: equally many of each category",
    "factorial": "Factorial: new personas, attributes crossed",
    "counterfactual": "Counterfactual: copies with one attribute changed",
    "reality": "Reality: shares as in a population",
}


def build_form(service: DatasetService, known: Sequence[DatasetRecord]) -> None:
    """A design, its fields, and the button that makes the dataset."""
    kind = st.selectbox(
        "Design",
        list(_KINDS),
        format_func=_KINDS.__getitem__,
        key="datasets_design",
        help="How the personas of the new dataset are chosen or made.",
    )
    try:
        design = _FIELDS[kind](service, known)
    except BenchlibError as error:
        texts.show_error(error)
        return
    name = st.text_input("Name of the new dataset", max_chars=100, key="datasets_build_name")
    note = st.text_area("Note", key="datasets_build_note", help="What the dataset is for.")
    if st.button("Build", key="datasets_build", type="primary", icon=":material/build:"):
        make(lambda: service.build_dataset(design, name, note))


def _pick_sources(known: Sequence[DatasetRecord]) -> tuple[int, ...]:
    by_id = {dataset.id: dataset for dataset in known}
    chosen = st.multiselect(
        "Take personas from",
        list(by_id),
        default=list(by_id)[:1],
        format_func=lambda key: f"{key} · {by_id[key].name}",
        key="datasets_sources",
        help="Each persona counts once. Counterfactuals are left out; their sources are used.",
    )
    if not chosen:
        st.info("Choose at least one dataset.", icon=":material/info:")
        st.stop()
    return tuple(chosen)


def _categories(service: DatasetService, sources: Sequence[int]) -> dict[str, dict[str, int]]:
    """Attribute -> category -> number of personas in all sources."""
    found: dict[str, dict[str, int]] = {}
    for dataset_id in sources:
        for one in service.get_composition(dataset_id)["attributes"]:
            counts = found.setdefault(one["attribute"], {})
            for category in one["categories"]:
                name = category["category"]
                counts[name] = counts.get(name, 0) + category["count"]
    return found


def _seed() -> int:
    return st.number_input(
        "Seed",
        min_value=0,
        value=0,
        key="datasets_seed",
        help="The same seed gives the same dataset again.",
    )


def _optional_count(label: str, key: str, explanation: str) -> int | None:
    return st.number_input(
        label, min_value=1, value=None, step=1, key=key, placeholder="All", help=explanation
    )


def _pool(service: DatasetService, known: Sequence[DatasetRecord]) -> Design:
    sources = _pick_sources(known)
    options = {
        f"{attribute} = {category}": (attribute, category)
        for attribute, counts in _categories(service, sources).items()
        for category in counts
    }
    chosen = st.multiselect(
        "Filter personas",
        list(options),
        key="datasets_where",
        placeholder="All",
        help="A persona must have one of the values chosen for each attribute.",
    )
    where: dict[str, tuple[str, ...]] = {}
    for attribute, category in map(options.__getitem__, chosen):
        where[attribute] = (*where.get(attribute, ()), category)
    return PoolDesign(sources, where)


def _balanced(service: DatasetService, known: Sequence[DatasetRecord]) -> Design:
    sources = _pick_sources(known)
    attribute = st.selectbox(
        "Attribute to balance",
        list(_categories(service, sources)),
        key="datasets_attribute",
        help="Personas whose category is unknown are left out.",
    )
    per_category = _optional_count(
        "Personas per category",
        "datasets_per_category",
        "Empty: as many as the smallest category has.",
    )
    return BalancedDesign(sources, attribute, per_category, _seed())


def _factorial(service: DatasetService, known: Sequence[DatasetRecord]) -> Design:
    text = st.text_area(
        "Attributes and their categories",
        "\n".join(f"{name}: {', '.join(values)}" for name, values in SAMPLE_FACTORS.items()),
        height=260,
        key="datasets_factors",
        help="One attribute per line: its name, a colon, its categories separated by commas. "
        "Categories of age_group are age groups; ages are spread within them.",
    )
    n_personas = _optional_count(
        "Personas",
        "datasets_n_factorial",
        "Empty: every combination. Fewer: a balanced fraction, in which no attribute predicts "
        "another.",
    )
    youngest = st.number_input(
        "Youngest age", 0, 120, 18, key="datasets_youngest", help="No persona is younger."
    )
    return FactorialDesign(parse_factors(text), n_personas, youngest, _seed())


def _counterfactual(service: DatasetService, known: Sequence[DatasetRecord]) -> Design:
    sources = _pick_sources(known)
    found = _categories(service, sources)
    attribute = st.selectbox(
        "Attribute to change",
        list(found),
        key="datasets_attribute",
        help="Source and copy differ in this attribute only.",
    )
    categories = st.multiselect(
        "Categories to change between",
        list(found[attribute]),
        default=list(found[attribute])[:2],
        key=f"datasets_categories_{attribute}",
        help="Sources have one of these; their copies have another one.",
    )
    n_sources = _optional_count(
        "Sources",
        "datasets_n_sources",
        "Equally many of each category. Empty: everyone who qualifies.",
    )
    every = st.checkbox(
        "A copy for every other category",
        key="datasets_every",
        help="Otherwise one copy of each source, with the changes spread evenly.",
    )
    keep_texts = st.checkbox(
        "Keep name, appearance and biography",
        key="datasets_keep_texts",
        help="They may give the attribute away; by default they are left out.",
    )
    return CounterfactualDesign(
        sources, attribute, tuple(categories), n_sources, every, keep_texts, _seed()
    )


def _reality(service: DatasetService, known: Sequence[DatasetRecord]) -> Design:
    sources = _pick_sources(known)
    found = _categories(service, sources)
    attributes = st.multiselect(
        "Attributes with given shares",
        list(found),
        default=list(found)[:1],
        key="datasets_shares_of",
        help="The shares of each attribute sum to 100%.",
    )
    rows = [
        (attribute, category, count, 100 * count / sum(found[attribute].values()))
        for attribute in attributes
        for category, count in found[attribute].items()
    ]
    table = pd.DataFrame(rows, columns=["Attribute", "Category", "Personas", "Share in %"])
    edited = st.data_editor(
        table,
        hide_index=True,
        disabled=["Attribute", "Category", "Personas"],
        key=f"datasets_shares_{'_'.join(attributes)}",
        alt="Shares of categories",
    )
    n_personas = st.number_input(
        "Personas", min_value=1, value=100, key="datasets_n_reality", help="How many are drawn."
    )
    shares: dict[str, dict[str, float]] = {}
    for attribute, category, _, percent in edited.itertuples(index=False):
        shares.setdefault(attribute, {})[category] = float(percent) / 100
    return RealityDesign(sources, shares, n_personas, _seed())


_FIELDS: dict[str, Callable[[DatasetService, Sequence[DatasetRecord]], Design]] = {
    "pool": _pool,
    "balanced": _balanced,
    "factorial": _factorial,
    "counterfactual": _counterfactual,
    "reality": _reality,
}
