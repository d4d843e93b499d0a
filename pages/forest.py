"""The forest of one attribute: group against baseline, trait by trait; a click leads to answers."""

from collections.abc import Mapping

import streamlit as st

from benchlib.application.payloads import RunDetail
from benchlib.domain.analysis.forest_rows import Forest, ForestRow
from benchlib.domain.stats.pooling import MetaMethod
from benchlib.presentation.figures.forest import forest_figure
from benchlib.presentation.provenance import Provenance
from pages.shared import analysis_pickers, downloads, links, run_header, texts, words
from pages.shared.columns import count_column, number_column, p_value_column, show_table

SORTS = ("category", "effect", "precision", "q", "name")
METHODS: Mapping[MetaMethod, str] = {
    "dl": "DerSimonian–Laird",
    "pm": "Paule–Mandel",
    "reml": "REML",
}
ONLY = ("significant", "favourable", "unfavourable")


def open_answers(run: RunDetail, row: ForestRow, attribute: str) -> None:
    """Go to the answers behind a row."""
    st.switch_page(
        "answers.py",
        query_params={
            "run": str(run["id"]),
            "trait": row["case_id"],
            "personas": f"{attribute} = {row['category']}",
        },
    )


def fits(row: ForestRow, search: str, only: list[str]) -> bool:
    """Whether a row matches the filter."""
    signs = {"favourable": 1, "unfavourable": -1}
    valences = [signs[name] for name in only if name in signs]
    return (
        words.matches(search, (row["label"], row["case_id"], row["trait_category"]))
        and (not valences or row["valence"] in valences)
        and ("significant" not in only or row["significant"] is True)
    )


def show_forest(run: RunDetail, forest: Forest, provenance: Provenance, target: str) -> None:
    """One target's forest with its downloads; a click on a row opens its answers."""
    target_rows = [row for row in forest["rows"] if row["category"] == target]
    figure = downloads.draw(
        forest_figure,
        provenance,
        forest,
        provenance,
        target=target,
        rows=[row for row in target_rows if fits(row, search, only)],
        sort=sort,
        correction="max_t" if max_t else options.by,
        area="precision_percent" if by_precision else "weight_percent",
        compact=compact,
    )
    place = forest["targets"].index(target)
    event = st.plotly_chart(
        figure,
        key=f"forest_figure_{place}",
        on_select="rerun",
        selection_mode="points",
        config={"displayModeBar": False},
        alt=f"Forest plot, {target} against {forest['baseline']}",
    )
    clicked = {point.get("customdata") for point in event["selection"]["points"]} - {None}
    for row in target_rows:
        if row["trait_id"] in clicked:
            open_answers(run, row, forest["attribute"])
    downloads.downloads(
        f"forest_{place}",
        provenance,
        figure=figure,
        rows=target_rows,
        title=f"{forest['attribute']}: {target} against {forest['baseline']}",
        width=520 if compact else 1100,
    )


service, run = run_header.open_run("Forest")
with st.container(horizontal=True, vertical_alignment="bottom"):
    attribute = analysis_pickers.pick_attribute(run)
    categories = analysis_pickers.categories_of(run, attribute)
    baseline = analysis_pickers.pick_baseline(categories)
    targets = st.multiselect(
        "Groups",
        [name for name in categories if name != baseline],
        key="target",
        bind="query-params",
        placeholder="Largest after the baseline",
        max_selections=6,
        help="Each has a forest of its own, compared with the baseline.",
    )
    trait_category = analysis_pickers.pick_trait_category(run)
with st.container(horizontal=True, vertical_alignment="bottom"):
    search = st.text_input(
        "Find traits", key="find", bind="query-params", placeholder="All", max_chars=100
    )
    only = st.multiselect(
        "Show only",
        ONLY,
        key="only",
        bind="query-params",
        placeholder="All",
        help="Filters the rows; diamonds still pool all traits.",
    )
    sort = st.selectbox(
        "Sort by",
        SORTS,
        key="sort",
        bind="query-params",
        help="category: by trait category, then from the highest delta down. effect: the largest "
        "first, whatever its sign. precision: the shortest interval first.",
    )
    compact = st.toggle(
        "Compact",
        value="Mobi" in st.context.headers.get("User-Agent", ""),
        key="compact",
        bind="query-params",
        help="Fewer text columns, for narrow screens and for a column of a paper.",
    )
    options = analysis_pickers.pick_options()
advanced = st.expander("Advanced", icon=":material/science:")
with advanced, st.container(horizontal=True, vertical_alignment="bottom"):
    methods = st.multiselect(
        "Textbook pooling",
        list(METHODS),
        format_func=METHODS.__getitem__,
        key="methods",
        bind="query-params",
        placeholder="None",
        help="Treats traits as independent, which they are not; descriptive only.",
    )
    min_n = st.number_input(
        "Minimum personas per group", 0, 10_000, 0, key="min_n", bind="query-params",
        help="Leaves out traits rated by fewer personas in either group.",
    )  # fmt: skip
    max_t = st.toggle(
        "Strict correction (max-T)",
        key="max_t",
        bind="query-params",
        help="Controls the probability of even one false positive among the rows of a group, by "
        "permuting personas.",
    )
    by_precision = st.toggle(
        "Squares by precision",
        key="precision",
        bind="query-params",
        help="In both diamonds traits have equal weight; the squares then show 1/SE² instead.",
    )

with st.spinner("Comparing traits"):
    forest = service.get_forest(
        run["id"],
        attribute,
        baseline,
        targets or None,
        min_n=min_n,
        trait_category=trait_category,
        methods=methods,
        max_t=max_t,
        **options._asdict(),
    )
provenance = run_header.panel_facts(forest, run)
if not forest["rows"]:
    no_valence = forest["n"] == 0 and not options.neutral
    st.info(
        words.NO_VALENCE
        if no_valence
        else "There are no two groups with ratings to compare: this attribute has one category, "
        "or no trait has enough personas.",
        icon=":material/info:",
    )
else:
    st.caption("Click a row to read the answers behind it. “Compact” suits a narrow screen.")
plots = st.container()
show_table(
    forest["rows"],
    "forest_table",
    {
        "label": "Trait",
        "trait_category": "Trait category",
        "valence": "Valence",
        "category": "Group",
        "n_cat": count_column("Personas"),
        "n_base": count_column("Baseline"),
        "delta": number_column("Delta"),
        "ci_low": number_column("95% low"),
        "ci_high": number_column("95% high"),
        "p_value": p_value_column("p"),
        "q_value": p_value_column("q"),
        "cliffs_delta": number_column("Cliff's delta"),
        "mwu_p": p_value_column("p, Mann-Whitney"),
        "verdict": "Verdict",
        "status": "Note",
    },
    "All rows of the forest",
)
texts.explain(
    "One row per trait: Welch's t on the ratings of personas, aligned so that higher is more "
    "favourable and centred by scale order. **q** is corrected over all trait rows of the run. "
    "Below each trait category and overall there are two diamonds. The filled one is **pooled over "
    "these traits**: Welch's t on each persona's mean. The open one is **generalised to similar "
    "traits**: it treats the traits as a sample and accounts for the personas they share, so it is "
    "wider; the thin bar is where the delta of another such trait is expected. Traits have equal "
    "weight in both. τ² is the variance of true deltas between traits, I² its share of the "
    "variance of the deltas."
)
links.result_links(run["id"], "forest.py", attribute=attribute, baseline=baseline)
with plots:  # sent last: while the browser draws them, it reads nothing else
    for target in forest["targets"]:
        show_forest(run, forest, provenance, target)
