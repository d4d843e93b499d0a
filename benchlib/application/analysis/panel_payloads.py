"""What the analysis answers with (docs/API.md): the domain's tables, and what they rest on."""

from typing import Literal, TypedDict

from benchlib.application.payloads import Means, Metrics, OrderMetrics
from benchlib.domain.analysis.adjusted_deltas import AdjustedDeltas
from benchlib.domain.analysis.counterfactual import Counterfactuals
from benchlib.domain.analysis.data_quality import QualityItem, QualityStatus
from benchlib.domain.analysis.deltas import Deltas
from benchlib.domain.analysis.distributions import DistributionTables, Precision
from benchlib.domain.analysis.forest_rows import Forest
from benchlib.domain.analysis.metrics import AttributeMean
from benchlib.domain.analysis.omnibus import Omnibus
from benchlib.domain.analysis.styles import Styles
from benchlib.domain.analysis.variance_components import VarianceComponents
from benchlib.domain.stats.power import RunPlan
from benchlib.domain.stats.welch import FdrMethod


class Correction(TypedDict):
    """Which tests were corrected together, and how `significant` is told.

    `family` is a sentence for people; `size` counts the tests with a p-value.
    """

    family: str
    method: FdrMethod
    size: int
    alpha: float


class RunBasis(TypedDict):
    """What the numbers of a panel rest on.

    `n_answers` are the rated answers of the run, `missing` is planned but has no rating, `failed`
    was given up. `preliminary` holds while the run may still get answers. `uses_expected` tells
    whether expected ratings took the place of digits. `n_copies` counts the counterfactuals that
    the panel leaves out: they repeat their sources and are no personas of their own.
    """

    ok: bool
    run_id: int
    n_answers: int
    missing: int
    failed: int
    preliminary: bool
    simulated: bool
    uses_expected: bool
    n_copies: int


class MetricsPanel(Metrics):
    """The metrics panel."""

    run_id: int
    n_answers: int
    uses_expected: bool
    n_copies: int


class OrderPanel(OrderMetrics):
    """The order panel; `n` counts the answers it was looked for pairs in."""

    run_id: int
    n: int
    n_answers: int
    missing: int
    failed: int
    preliminary: bool
    n_copies: int
    trait_category: str | None


class MeansPanel(Means):
    """Means of one attribute; `n` counts the answers behind them."""

    run_id: int
    n: int
    n_personas: int
    n_answers: int
    missing: int
    failed: int
    preliminary: bool
    simulated: bool
    uses_expected: bool
    n_copies: int
    attribute: str
    trait_category: str | None


class AllMeans(RunBasis):
    """Means of every attribute."""

    n: int
    n_personas: int
    trait_category: str | None
    data: dict[str, list[AttributeMean]]


class DeltasPanel(RunBasis, Deltas):
    """Deltas of one attribute."""

    correction: Correction


class AllDeltas(RunBasis):
    """Deltas of every attribute."""

    n: int
    n_personas: int
    trait_category: str | None
    correction: Correction
    data: dict[str, Deltas]


class ForestPanel(RunBasis, Forest):
    """A forest of one attribute."""

    n_personas: int
    correction: Correction


class AllForests(RunBasis):
    """The forest of every attribute, each with all categories as targets."""

    n: int
    n_personas: int
    trait_category: str | None
    correction: Correction
    data: dict[str, Forest]


class OmnibusPanel(RunBasis, Omnibus):
    """Omnibus tests of every attribute on one panel."""

    n: int
    n_personas: int
    correction: Correction


class OmnibusByCategoryPanel(RunBasis):
    """Omnibus tests of every attribute by trait category."""

    n: int
    n_personas: int
    correction: Correction
    categories: dict[str, Omnibus]


class StylesPanel(RunBasis, Styles):
    """Response styles, and in `missing_rates` who leaves questions without a rating."""

    n: int
    n_personas: int
    correction: Correction
    missing_rates: Styles


class DistributionsPanel(RunBasis, DistributionTables):
    """The distributions behind the answers; `available` is False where a run has none."""

    n: int
    n_personas: int
    available: bool
    trait_category: str | None
    precision: Precision


class CounterfactualPanel(RunBasis, Counterfactuals):
    """Paired deltas; `available` is False where the dataset has no counterfactuals."""

    n: int
    n_personas: int
    n_linked: int
    available: bool
    trait_category: str | None
    correction: Correction


class AdjustedPanel(RunBasis, AdjustedDeltas):
    """Deltas of all attributes beside each other."""

    correction: Correction


class ComponentsPanel(RunBasis, VarianceComponents):
    """Where the variance sits."""

    attribute: str | None
    trait_category: str | None


class PlannedCategory(RunPlan):
    """What a run can see of one category against the baseline."""

    category: str


class PlannedAttribute(TypedDict):
    """What a run can see of one attribute.

    `mde` is the smallest delta it finds for the category with most personas after the baseline,
    `mde_worst` for the one with fewest; None below two personas.
    """

    attribute: str
    baseline: str | None
    n_base: int
    mde: float | None
    mde_worst: float | None
    categories: list[PlannedCategory]


class Planning(TypedDict):
    """What a planned run can find out.

    `n_questions` counts both orders. Standard deviations are in rating points, `sd_source` tells
    whether they were given, come from an earlier run, or are the defaults.
    """

    ok: bool
    dataset_id: int
    n_personas: int
    n_traits: int
    n_questions: int
    dual_fraction: float
    sd_persona: float
    sd_residual: float
    sd_source: Literal["given", "run", "default"]
    alpha: float
    power: float
    delta: float
    margin: float
    attributes: list[PlannedAttribute]


class HealthCheck(RunBasis):
    """The health banner of a run; `status` is that of its worst line."""

    n: int
    n_personas: int
    status: QualityStatus
    items: list[QualityItem]


class CacheCleared(TypedDict):
    """How many kept panels and snapshots were deleted."""

    ok: bool
    deleted: int
    snapshots: int
