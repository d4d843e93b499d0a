"""What runs found: one panel per question, computed by the domain and cached."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from benchlib.application.analysis.answer_panels import (
    AllMeansQuery,
    MeansPanel,
    MeansQuery,
    all_means,
    order_metrics,
)
from benchlib.application.analysis.comparison_panels import (
    COMPARE_DELTAS,
    COMPARE_METRICS,
    CompareOrderQuery,
    Comparison,
    DeltasComparison,
    MetricsComparison,
    OrderComparison,
    check_runs_to_compare,
    compare_order_panels,
    config_differences,
)
from benchlib.application.analysis.detail_panels import variance_components
from benchlib.application.analysis.group_panels import (
    AllDeltasQuery,
    DeltasPanel,
    DeltasQuery,
    all_deltas,
    deltas,
)
from benchlib.application.analysis.panel_cache import CacheCleared, PanelCache
from benchlib.application.analysis.panels import (
    Panel,
    PayloadT,
    QueryT,
    copy_sample_info,
    pick_attribute,
)
from benchlib.application.analysis.power_plan import (
    PowerPlan,
    PowerQuery,
    Spread,
    plan_power,
    spread_of_run,
)
from benchlib.application.analysis.queries import Query
from benchlib.application.analysis.warm_up import warm_up_steps
from benchlib.application.composition_cache import load_composition
from benchlib.application.permissions import ActingService, needs
from benchlib.domain.errors import InvalidInput
from benchlib.domain.records import RunRecord
from benchlib.domain.users import Role, User
from benchlib.infrastructure.cache_warming import WarmJob, start_warm_cache_job, warm_job_snapshot
from benchlib.infrastructure.loading import data_loader
from benchlib.infrastructure.loading.data_loader import LoadedRun
from benchlib.infrastructure.storage import datasets, runs, traits
from benchlib.infrastructure.storage.database import Store

_ComparisonT = TypeVar("_ComparisonT", bound=Comparison)


class RunAnalysis(ActingService):
    """The panels of runs, alone and compared.

    Choices are given by name, and are the fields of the panel's query; see `queries`.
    """

    def __init__(self, store: Store, cache: PanelCache, user: User, read_only: bool) -> None:
        super().__init__(user, read_only)
        self._store = store
        self._cache = cache

    # -- one run ------------------------------------------------------------------------------

    def get_panel(
        self, panel: Panel[LoadedRun, QueryT, PayloadT], run_id: int, **choices: Any
    ) -> PayloadT:
        """A panel of a run: `get_panel(omnibus, 3, alpha=0.01)`.

        Raises:
            NotFound: There is no such run.
            InvalidInput: A choice is out of range or unknown, or the run has no such attribute,
                category or trait category.
        """
        return self._cache.get(panel, run_id, panel.query.of(**choices))

    def get_means(self, run_id: int, **choices: Any) -> MeansPanel:
        """Means of one attribute, cut out of the table of all; fields of `MeansQuery`."""
        query = MeansQuery.of(**choices)
        table = self._cache.get(all_means, run_id, _without_attribute(AllMeansQuery, query))
        return {
            **copy_sample_info(table),
            "n": table["n"],
            "n_personas": table["n_personas"],
            "attribute": query.attribute,
            "trait_category": query.trait_category,
            "rows": pick_attribute(table["data"], query.attribute)[: query.top_n],
        }

    def get_deltas(self, run_id: int, **choices: Any) -> DeltasPanel:
        """Deltas of one attribute; fields of `DeltasQuery`.

        Without a baseline they are cut out of the table of all attributes, which takes no longer
        to compute: q-values need the whole family.
        """
        query = DeltasQuery.of(**choices)
        if query.baseline is not None:
            return self._cache.get(deltas, run_id, query)
        table = self._cache.get(all_deltas, run_id, _without_attribute(AllDeltasQuery, query))
        return {
            **copy_sample_info(table),
            **pick_attribute(table["data"], query.attribute),
            "correction": table["correction"],
        }

    # -- several runs -------------------------------------------------------------------------

    def compare_metrics(self, run_ids: Sequence[int], **choices: Any) -> MetricsComparison:
        """How favourably runs rate the same personas; fields of `CompareMetricsQuery`.

        The first run is the reference.

        Raises:
            NotFound: There is no such run.
            InvalidInput: Fewer than two or more than eight runs, a run named twice, runs that
                share no rated question, or a wrong choice.
        """
        return self._compare(COMPARE_METRICS, run_ids, choices)

    def compare_deltas(
        self,
        run_ids: Sequence[int],
        attribute: str | None = None,
        baseline: str | None = None,
        **choices: Any,
    ) -> DeltasComparison:
        """How much the differences between groups differ between runs; `CompareDeltasQuery`.

        Raises as `compare_metrics`.
        """
        chosen = {"attribute": attribute, "baseline": baseline, **choices}
        return self._compare(COMPARE_DELTAS, run_ids, chosen)

    def compare_order_metrics(self, run_ids: Sequence[int], **choices: Any) -> OrderComparison:
        """How well both scale orders agree in each run, from all its own pairs; not paired.

        Raises as `compare_metrics`.
        """
        query = CompareOrderQuery.of(**choices)
        found = self._runs_to_compare(run_ids)
        panels = [
            self.get_panel(order_metrics, run.id, trait_category=query.trait_category)
            for run in found
        ]
        return compare_order_panels(found, panels, query)

    def _compare(
        self,
        panel: Panel[Sequence[LoadedRun], QueryT, _ComparisonT],
        run_ids: Sequence[int],
        choices: dict[str, Any],
    ) -> _ComparisonT:
        query = panel.query.of(**choices)
        found = self._runs_to_compare(run_ids)
        comparison = self._cache.get_of_runs(panel, run_ids, query)
        comparison["differs"] = config_differences(found)  # not described by the cache key
        return comparison

    def _runs_to_compare(self, run_ids: Sequence[int]) -> list[RunRecord]:
        check_runs_to_compare(run_ids)
        with self._store.read() as session:
            return [runs.get_run(session, run_id) for run_id in run_ids]

    # -- before a run -------------------------------------------------------------------------

    def get_power_plan(self, query: PowerQuery) -> PowerPlan:
        """The smallest effect that a planned run can find, per attribute."""
        personas = data_loader.load_personas_cached(self._store, query.dataset_id)
        with self._store.read() as session:
            rated = [
                trait for trait in traits.list_traits(session, active_only=True) if trait.valence
            ]
        n_traits = query.n_traits or len(rated)
        if n_traits == 0:
            raise InvalidInput("No active trait has a valence; switch one on under Traits.")
        known = len({trait.category for trait in rated})
        n_trait_categories = query.n_trait_categories or max(1, min(known, n_traits))
        spread = Spread()
        if query.like_run_id is not None:
            spread = spread_of_run(
                self.get_panel(variance_components, query.like_run_id),
                self.get_panel(order_metrics, query.like_run_id),
            )
        with self._store.read() as session:
            copies = datasets.load_copies(session, query.dataset_id)
        return plan_power(query, personas, copies, n_traits, n_trait_categories, spread)

    # -- the cache ----------------------------------------------------------------------------

    @needs(Role.RESEARCHER, "warm up a run")
    def start_warm_cache(self, run_id: int) -> WarmJob:
        """Compute the panels that pages open with in the background; returns at once."""
        with self._store.read() as session:
            run = runs.get_run(session, run_id)
            dataset = datasets.get_dataset(session, run.dataset_id)
            asked = traits.get_traits(session, run.config.trait_ids)
        composition = load_composition(self._store, dataset, run_id=run_id)
        steps = warm_up_steps(
            lambda panel, choices: self.get_panel(panel, run_id, **choices),
            [found["attribute"] for found in composition["attributes"]],
            sorted({trait.category for trait in asked}),
        )
        return start_warm_cache_job(
            run_id,
            [("answers", lambda: self._cache.load(self._run(run_id))), *steps],
            lambda: datetime.now(UTC),
            store=self._store.database,
        )

    def get_warm_cache(self, run_id: int) -> WarmJob:
        """Progress of the latest warm-up of a run."""
        self._run(run_id)
        return warm_job_snapshot(run_id, store=self._store.database)

    @needs(Role.RESEARCHER, "clear the cache of a run")
    def clear_cache(self, run_id: int) -> CacheCleared:
        """Delete the cached panels and snapshots of a run; they are computed again on demand."""
        self._run(run_id)
        return self._cache.clear(run_id)

    def _run(self, run_id: int) -> RunRecord:
        with self._store.read() as session:
            return runs.get_run(session, run_id)


def _without_attribute(kind: type[QueryT], query: Query) -> QueryT:
    """The query of the table of all attributes that a query of one is cut out of."""
    return kind(**query.model_dump(include=set(kind.model_fields)))
