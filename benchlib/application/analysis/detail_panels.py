"""A closer look: styles, variance components, adjusted deltas, pairs, distributions."""

from typing import Final

from benchlib.application.analysis.panels import (
    Correction,
    SampleInfo,
    check_category,
    correction,
    rng_for,
    run_panel,
    sample_info,
)
from benchlib.application.analysis.queries import (
    Alpha,
    Draws,
    Names,
    OfRatings,
    OfTraits,
    OptionalName,
    WithTests,
)
from benchlib.domain.analysis.adjusted_deltas import AdjustedDeltas, compute_adjusted_deltas
from benchlib.domain.analysis.calibration import Calibration, compute_calibration
from benchlib.domain.analysis.counterfactual import Counterfactuals, compute_counterfactuals
from benchlib.domain.analysis.distributions import (
    DistributionTables,
    Precision,
    compute_precision,
    describe_distributions_by_trait,
)
from benchlib.domain.analysis.styles import Styles, compute_missing_rates, compute_response_styles
from benchlib.domain.analysis.trait_sets import count_sample
from benchlib.domain.analysis.variance_components import (
    VarianceComponents,
    compute_variance_components,
)
from benchlib.domain.stats.permutation import DEFAULT_N_PERM
from benchlib.domain.stats.welch import DEFAULT_ALPHA
from benchlib.infrastructure.loading.data_loader import LoadedRun

STYLE_FAMILY: Final = "all style deltas of the run: styles × attributes × categories"
CHANGE_FAMILY: Final = "all changes of all attributes in this table"
ADJUSTED_FAMILY: Final = "all rows of this table"

# -- response styles ---------------------------------------------------------------------------


class StylesQuery(OfRatings):
    """Response styles."""

    alpha: Alpha = DEFAULT_ALPHA


class StylesPanel(SampleInfo, Styles):
    """Response styles, and in `missing_rates` who leaves questions without a rating."""

    n: int
    n_personas: int
    correction: Correction
    missing_rates: Styles


@run_panel("response styles", StylesQuery, path="styles", warm_up=True)
def styles(loaded: LoadedRun, query: StylesQuery) -> StylesPanel:
    """Acquiescence, extreme and midpoint responding, and who leaves questions unrated."""
    cells = loaded.cells(use_expected=query.use_expected)
    table = compute_response_styles(loaded.originals, cells, alpha=query.alpha)
    return {
        **sample_info(loaded, use_expected=query.use_expected),
        **table,
        "n": cells.n_ratings,
        "n_personas": cells.n_personas,
        "correction": correction(STYLE_FAMILY, "bh", table["family_size"], query.alpha),
        "missing_rates": compute_missing_rates(loaded.originals, cells, alpha=query.alpha),
    }


# -- variance components -----------------------------------------------------------------------


class ComponentsQuery(OfTraits, OfRatings):
    """Variance components; within the categories of an attribute if one is named."""

    attribute: OptionalName = None
    neutral: bool = False


class ComponentsPanel(SampleInfo, VarianceComponents):
    """Where the variance of the ratings sits."""

    n: int
    attribute: str | None
    trait_category: str | None


@run_panel("variance components", ComponentsQuery, path="variance-components", warm_up=True)
def variance_components(loaded: LoadedRun, query: ComponentsQuery) -> ComponentsPanel:
    """Where the variance of the ratings sits."""
    cells = loaded.cells(use_expected=query.use_expected)
    table = compute_variance_components(
        cells, query.attribute, trait_category=query.trait_category, neutral=query.neutral
    )
    return {
        **sample_info(loaded, use_expected=query.use_expected),
        **table,
        "attribute": query.attribute,
        "trait_category": query.trait_category,
    }


# -- calibration -------------------------------------------------------------------------------


class CalibrationPanel(SampleInfo, Calibration):
    """How often tests of placebo attributes, which mean nothing, find something."""

    n: int
    n_personas: int


@run_panel("calibration", OfRatings, path="calibration")
def calibration(loaded: LoadedRun, query: OfRatings) -> CalibrationPanel:
    """How often tests of placebo attributes find something."""
    cells = loaded.cells(use_expected=query.use_expected)
    return {
        **sample_info(loaded, use_expected=query.use_expected),
        **compute_calibration(cells, rng_for(loaded.run, "calibration")),
        **count_sample(cells),
    }


# -- adjusted deltas ---------------------------------------------------------------------------


class AdjustedQuery(OfTraits, WithTests):
    """Adjusted deltas; of these attributes, none = all."""

    attributes: Names = ()


class AdjustedPanel(SampleInfo, AdjustedDeltas):
    """Deltas of all attributes, each adjusted for the others."""

    n: int
    correction: Correction


@run_panel("adjusted deltas", AdjustedQuery, path="adjusted-deltas", warm_up=True)
def adjusted_deltas(loaded: LoadedRun, query: AdjustedQuery) -> AdjustedPanel:
    """What is left of each delta when the other attributes are held fixed."""
    cells = loaded.cells(use_expected=query.use_expected)
    table = compute_adjusted_deltas(
        cells,
        attributes=query.attributes or None,
        trait_category=query.trait_category,
        neutral=query.neutral,
        alpha=query.alpha,
    )
    size = sum(row["p_value"] is not None for row in table["rows"])
    return {
        **sample_info(loaded, use_expected=query.use_expected),
        **table,
        "correction": correction(ADJUSTED_FAMILY, "bh", size, query.alpha),
    }


# -- counterfactual pairs ----------------------------------------------------------------------


class CounterfactualQuery(OfTraits, OfRatings):
    """Personas against their counterfactuals; `n_flips` are draws of the sign-flip test."""

    n_flips: Draws = DEFAULT_N_PERM
    alpha: Alpha = DEFAULT_ALPHA


class CounterfactualPanel(SampleInfo, Counterfactuals):
    """Paired deltas; `available` is False where the dataset has no counterfactuals."""

    n: int
    n_personas: int
    n_linked: int
    available: bool
    trait_category: str | None
    correction: Correction


@run_panel("counterfactuals", CounterfactualQuery, path="counterfactual", warm_up=True)
def counterfactuals(loaded: LoadedRun, query: CounterfactualQuery) -> CounterfactualPanel:
    """Personas against their counterfactuals; empty where the dataset has none."""
    links = loaded.load_links()
    cells = loaded.cells(use_expected=query.use_expected, copies=True)
    table = compute_counterfactuals(
        cells,
        links,
        trait_category=query.trait_category,
        rng=rng_for(loaded.run, query.trait_category),
        n_flips=query.n_flips,
        alpha=query.alpha,
    )
    return {
        **sample_info(loaded, use_expected=query.use_expected, copies=True),
        **table,
        **count_sample(cells, query.trait_category),
        "n_linked": len(links),
        "available": len(links) > 0,
        "trait_category": query.trait_category,
        "correction": correction(CHANGE_FAMILY, "bh", table["family_size"], query.alpha),
    }


# -- distributions -----------------------------------------------------------------------------


class DistributionsQuery(OfTraits):
    """The distributions behind the answers."""


class DistributionsPanel(SampleInfo, DistributionTables):
    """The distributions behind the answers; `available` is False where a run has none."""

    n: int
    n_personas: int
    available: bool
    trait_category: str | None
    precision: Precision


@run_panel("distributions", DistributionsQuery, path="distributions", warm_up=True)
def distributions(loaded: LoadedRun, query: DistributionsQuery) -> DistributionsPanel:
    """The distributions behind the answers: together, by trait category, by trait."""
    check_category(loaded, query.trait_category)
    asked = [
        trait
        for trait in loaded.asked
        if query.trait_category is None or trait.category == query.trait_category
    ]
    tables = describe_distributions_by_trait(
        loaded.distributions, loaded.grid.trait_ids, asked, loaded.run.config.language
    )
    return {
        **sample_info(loaded, use_expected=True, copies=True),
        **tables,
        "n": tables["overall"]["n"],
        "n_personas": loaded.grid.take_category(query.trait_category).n_expected_personas,
        "available": bool(loaded.distributions.n.any()),
        "trait_category": query.trait_category,
        "precision": compute_precision(
            loaded.cells(use_expected=False),
            loaded.cells(use_expected=True),
            query.trait_category,
        ),
    }
