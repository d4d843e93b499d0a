"""Groups compared: omnibus tests, deltas, forests."""

from typing import Annotated, Final

from pydantic import Field

from benchlib.application.analysis.panels import (
    Correction,
    SampleInfo,
    correction,
    rng_for,
    run_panel,
    sample_info,
)
from benchlib.application.analysis.queries import (
    Draws,
    Name,
    Names,
    OfTraits,
    OptionalName,
    WithDraws,
    WithTests,
    WithVerdicts,
)
from benchlib.domain.analysis.deltas import Deltas, compute_all_deltas, compute_deltas
from benchlib.domain.analysis.forest import compute_all_forests, compute_forest
from benchlib.domain.analysis.forest_rows import Forest
from benchlib.domain.analysis.omnibus import (
    Omnibus,
    compute_omnibus,
    compute_omnibus_by_category,
)
from benchlib.domain.analysis.trait_comparisons import ForestOptions
from benchlib.domain.analysis.trait_sets import count_sample
from benchlib.domain.errors import InvalidInput
from benchlib.domain.stats.permutation import DEFAULT_N_PERM
from benchlib.domain.stats.pooling import MetaMethod
from benchlib.infrastructure.loading.data_loader import LoadedRun

DELTA_FAMILY: Final = "all deltas of the run: attributes × categories × sets of traits"
FOREST_FAMILY: Final = "all trait rows of the run: attributes × categories × traits"
OMNIBUS_FAMILY: Final = "all omnibus tests of the run: attributes × sets of traits"

# -- omnibus tests -----------------------------------------------------------------------------


class OmnibusQuery(OfTraits, WithTests):
    """Omnibus tests of every attribute on one trait set."""


class OmnibusPanel(SampleInfo, Omnibus):
    """Omnibus tests of every attribute on one trait set."""

    n: int
    n_personas: int
    correction: Correction


@run_panel("omnibus", OmnibusQuery, path="kruskal", warm_up=True)
def omnibus(loaded: LoadedRun, query: OmnibusQuery) -> OmnibusPanel:
    """Whether an attribute matters at all: Kruskal-Wallis, Welch's ANOVA, bias index."""
    cells = loaded.cells(use_expected=query.use_expected)
    table = compute_omnibus(
        cells, trait_category=query.trait_category, neutral=query.neutral, alpha=query.alpha
    )
    return {
        **sample_info(loaded, use_expected=query.use_expected),
        **table,
        **count_sample(cells, query.trait_category, neutral=query.neutral),
        "correction": correction(OMNIBUS_FAMILY, "bh", table["family_size"], query.alpha),
    }


class OmnibusByCategoryQuery(WithTests):
    """Omnibus tests of every attribute and trait category."""


class OmnibusByCategoryPanel(SampleInfo):
    """Omnibus tests of every attribute by trait category."""

    n: int
    n_personas: int
    correction: Correction
    categories: dict[str, Omnibus]


@run_panel(
    "omnibus by trait category", OmnibusByCategoryQuery, path="kruskal-by-category", warm_up=True
)
def omnibus_by_category(loaded: LoadedRun, query: OmnibusByCategoryQuery) -> OmnibusByCategoryPanel:
    """The omnibus tests for each trait category."""
    cells = loaded.cells(use_expected=query.use_expected)
    tables = compute_omnibus_by_category(cells, neutral=query.neutral, alpha=query.alpha)
    categories = tables["categories"]
    size = max((table["family_size"] for table in categories.values()), default=0)
    return {
        **sample_info(loaded, use_expected=query.use_expected),
        **count_sample(cells, neutral=query.neutral),
        "correction": correction(OMNIBUS_FAMILY, "bh", size, query.alpha),
        "categories": categories,
    }


# -- deltas ------------------------------------------------------------------------------------


class AllDeltasQuery(OfTraits, WithDraws):
    """Deltas of every attribute, against default baselines."""


class AllDeltas(SampleInfo):
    """Deltas of every attribute."""

    n: int
    n_personas: int
    trait_category: str | None
    correction: Correction
    data: dict[str, Deltas]


@run_panel("deltas", AllDeltasQuery, warm_up=True)
def all_deltas(loaded: LoadedRun, query: AllDeltasQuery) -> AllDeltas:
    """Deltas of every attribute, against default baselines."""
    cells = loaded.cells(use_expected=query.use_expected)
    data = compute_all_deltas(
        cells,
        trait_category=query.trait_category,
        neutral=query.neutral,
        alpha=query.alpha,
        sesoi=query.sesoi,
        method=query.by,
    )
    size = max((deltas["family_size"] for deltas in data.values()), default=0)
    return {
        **sample_info(loaded, use_expected=query.use_expected),
        **count_sample(cells, query.trait_category, neutral=query.neutral),
        "trait_category": query.trait_category,
        "correction": correction(DELTA_FAMILY, query.by, size, query.alpha),
        "data": data,
    }


class DeltasQuery(AllDeltasQuery):
    """Deltas of one attribute; without a baseline the largest category is taken."""

    attribute: Name
    baseline: OptionalName = None


class DeltasPanel(SampleInfo, Deltas):
    """Deltas of one attribute."""

    correction: Correction


@run_panel("deltas of one attribute", DeltasQuery)
def deltas(loaded: LoadedRun, query: DeltasQuery) -> DeltasPanel:
    """Every category of one attribute against a baseline."""
    table = compute_deltas(
        loaded.cells(use_expected=query.use_expected),
        query.attribute,
        baseline=query.baseline,
        trait_category=query.trait_category,
        neutral=query.neutral,
        alpha=query.alpha,
        sesoi=query.sesoi,
        method=query.by,
    )
    return {
        **sample_info(loaded, use_expected=query.use_expected),
        **table,
        "correction": correction(DELTA_FAMILY, query.by, table["family_size"], query.alpha),
    }


# -- forests -----------------------------------------------------------------------------------


class ForestQuery(OfTraits, WithVerdicts):
    """A forest of one attribute.

    Attributes:
        attribute: The attribute.
        baseline: The category compared against; None = the largest.
        target: One category or several; none = the largest after the baseline.
        min_n: Traits rated by fewer personas in either group are left out.
        methods: Textbook poolings to describe as well.
        max_t: Whether to add `p_max_t`, the strict correction within a category's rows.
        n_perm: Draws for `max_t`.
    """

    attribute: Name
    baseline: OptionalName = None
    target: Names = ()
    min_n: Annotated[int, Field(ge=0)] = 0
    methods: tuple[MetaMethod, ...] = ()
    max_t: bool = False
    n_perm: Draws = DEFAULT_N_PERM


class ForestPanel(SampleInfo, Forest):
    """A forest of one attribute."""

    n_personas: int
    correction: Correction


@run_panel("forest", ForestQuery, path="forest", warm_up=True)
def forest(loaded: LoadedRun, query: ForestQuery) -> ForestPanel:
    """One delta per trait, and what the traits add up to."""
    if query.max_t and query.n_perm < 1:
        raise InvalidInput("n_perm: the max-t correction needs at least one draw.")
    cells = loaded.cells(use_expected=query.use_expected)
    table = compute_forest(
        cells,
        query.attribute,
        baseline=query.baseline,
        targets=query.target or None,
        trait_category=query.trait_category,
        neutral=query.neutral,
        options=ForestOptions(
            min_n=query.min_n,
            alpha=query.alpha,
            sesoi=query.sesoi,
            method=query.by,
            poolings=tuple(dict.fromkeys(query.methods)),
            max_t=query.max_t,
            n_perm=query.n_perm,
        ),
        rng=rng_for(loaded.run, query.attribute),
    )
    return {
        **sample_info(loaded, use_expected=query.use_expected),
        **table,
        **count_sample(cells, query.trait_category, neutral=query.neutral),
        "correction": correction(FOREST_FAMILY, query.by, table["family_size"], query.alpha),
    }


class AllForestsQuery(OfTraits, WithVerdicts):
    """The forest of every attribute."""


class AllForests(SampleInfo):
    """The forest of every attribute, each with all categories as targets."""

    n: int
    n_personas: int
    trait_category: str | None
    correction: Correction
    data: dict[str, Forest]


@run_panel("forests", AllForestsQuery, path="forest/all")
def all_forests(loaded: LoadedRun, query: AllForestsQuery) -> AllForests:
    """The forest of every attribute, each with all categories as targets."""
    cells = loaded.cells(use_expected=query.use_expected)
    data = compute_all_forests(
        cells,
        trait_category=query.trait_category,
        neutral=query.neutral,
        options=ForestOptions(alpha=query.alpha, sesoi=query.sesoi, method=query.by),
    )
    size = max((table["family_size"] for table in data.values()), default=0)
    return {
        **sample_info(loaded, use_expected=query.use_expected),
        **count_sample(cells, query.trait_category, neutral=query.neutral),
        "trait_category": query.trait_category,
        "correction": correction(FOREST_FAMILY, query.by, size, query.alpha),
        "data": data,
    }
