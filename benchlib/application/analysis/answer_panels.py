"""What was answered: data quality, counts, means, order effects."""

from typing import Annotated, TypedDict

from pydantic import Field

from benchlib.application.analysis.panels import (
    SampleInfo,
    check_category,
    run_panel,
    sample_info,
)
from benchlib.application.analysis.queries import Name, OfRatings, OfTraits, Query
from benchlib.domain.analysis.data_quality import (
    QualityItem,
    QualityStatus,
    judge_data_quality,
    worst_status,
)
from benchlib.domain.analysis.distributions import compute_distribution_summary
from benchlib.domain.analysis.metrics import (
    AttributeMean,
    AttributeSummary,
    RatingHistogram,
    TraitCategoryHistogram,
    TraitCategorySummary,
    compute_all_means,
    compute_rating_histogram,
    compute_trait_category_histograms,
    compute_trait_category_summary,
    summarise_rating_by,
)
from benchlib.domain.analysis.order_effects import (
    OrderEffectMetrics,
    compute_order_effect_metrics,
)
from benchlib.domain.analysis.trait_sets import count_sample
from benchlib.infrastructure.loading.data_loader import LoadedRun

# -- data quality ------------------------------------------------------------------------------


class DataQualityPanel(SampleInfo):
    """Whether a run's numbers can be trusted; `status` is that of its worst line."""

    n: int
    n_personas: int
    status: QualityStatus
    items: list[QualityItem]


@run_panel("health", Query, path="health-check", warm_up=True)
def data_quality(loaded: LoadedRun, _query: Query) -> DataQualityPanel:
    """Judge order consistency and effect, valid mass, missing answers, failures and scale use."""
    info = sample_info(loaded, use_expected=True, copies=True)
    items = judge_data_quality(
        loaded.run,
        compute_order_effect_metrics(loaded.grid),
        compute_rating_histogram(loaded.grid)["counts"],
        compute_distribution_summary(loaded.distributions),
    )
    return {
        **info,
        "n": info["n_answers"],
        "n_personas": loaded.grid.n_rated_personas,
        "status": worst_status(items),
        "items": items,
    }


# -- metrics -----------------------------------------------------------------------------------


class MetricsQuery(OfRatings):
    """Histograms, and means by attribute."""


class TraitCategoryMetrics(TypedDict):
    """Histograms and summary by trait category."""

    histograms: list[TraitCategoryHistogram]
    summary: list[TraitCategorySummary]


class MetricsPanel(SampleInfo):
    """The metrics panel; `n` counts the ratings behind it."""

    n: int
    n_personas: int
    hist: RatingHistogram
    trait_categories: TraitCategoryMetrics
    attributes: dict[str, AttributeSummary]


@run_panel("metrics", MetricsQuery, path="metrics", warm_up=True)
def metrics(loaded: LoadedRun, query: MetricsQuery) -> MetricsPanel:
    """Histograms, summary by trait category and means by attribute."""
    cells = loaded.cells(use_expected=query.use_expected)
    info = sample_info(loaded, use_expected=query.use_expected, copies=True)
    return {
        **info,
        "n": info["n_answers"],
        "n_personas": loaded.grid.n_rated_personas,
        "hist": compute_rating_histogram(loaded.grid),
        "trait_categories": {
            "histograms": compute_trait_category_histograms(loaded.grid),
            "summary": compute_trait_category_summary(loaded.grid),
        },
        "attributes": {name: summarise_rating_by(cells, name) for name in loaded.attributes},
    }


# -- means -------------------------------------------------------------------------------------


class AllMeansQuery(OfTraits, OfRatings):
    """Means of every attribute."""


class AllMeans(SampleInfo):
    """Means of every attribute."""

    n: int
    n_personas: int
    trait_category: str | None
    data: dict[str, list[AttributeMean]]


@run_panel("means", AllMeansQuery, warm_up=True)
def all_means(loaded: LoadedRun, query: AllMeansQuery) -> AllMeans:
    """Mean rating per category, for all attributes."""
    cells = loaded.cells(use_expected=query.use_expected)
    return {
        **sample_info(loaded, use_expected=query.use_expected),
        **count_sample(cells, query.trait_category),
        "trait_category": query.trait_category,
        "data": compute_all_means(cells, query.trait_category),
    }


class MeansQuery(AllMeansQuery):
    """Means of one attribute, the first `top_n` categories."""

    attribute: Name
    top_n: Annotated[int, Field(ge=1)] | None = None


class MeansPanel(SampleInfo):
    """Means of one attribute; `n` counts the answers behind them."""

    n: int
    n_personas: int
    attribute: str
    trait_category: str | None
    rows: list[AttributeMean]


# -- scale orders ------------------------------------------------------------------------------


class OrderQuery(OfTraits):
    """The agreement of both scale orders."""


class OrderPanel(SampleInfo, OrderEffectMetrics):
    """How well the answers in both scale orders agree; `n` counts the answers looked through."""

    n: int
    trait_category: str | None


@run_panel("order metrics", OrderQuery, path="order-metrics", warm_up=True)
def order_metrics(loaded: LoadedRun, query: OrderQuery) -> OrderPanel:
    """How well the answers in both scale orders agree."""
    check_category(loaded, query.trait_category)
    grid = loaded.originals.take_category(query.trait_category)
    return {
        **sample_info(loaded, use_expected=False),
        **compute_order_effect_metrics(grid),
        "n": grid.n_answers,
        "trait_category": query.trait_category,
    }
