"""The panels of a run as JSON: one plain function per service method."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import orjson
from fastapi import Body, FastAPI, Path, Query
from fastapi.responses import Response
from pydantic import BaseModel, BeforeValidator, Field

from benchlib.application.analysis.basis import MAX_N_PERM
from benchlib.application.analysis.power_plan import RunDesign
from benchlib.application.benchmark_service import BenchmarkService
from benchlib.domain.stats.permutation import DEFAULT_N_PERM
from benchlib.domain.stats.pooling import MetaMethod
from benchlib.domain.stats.welch import DEFAULT_ALPHA, DEFAULT_SESOI, FdrMethod

Id = Annotated[int, Path(ge=1, lt=2**31)]
Name = Annotated[str, Field(max_length=500)]
OptionalName = Annotated[Name | None, BeforeValidator(lambda text: text or None)]
Draws = Annotated[int, Field(ge=0, le=MAX_N_PERM)]


class Scope(BaseModel):
    """Which answers count, and how: shared by most panels."""

    trait_category: OptionalName = None
    use_expected: bool = True


class Level(BaseModel):
    """The level of `significant`."""

    alpha: Annotated[float, Field(gt=0, lt=0.5)] = DEFAULT_ALPHA


class Tested(Scope, Level):
    """A panel with tests."""

    neutral: bool = False


class Judged(Tested):
    """A panel whose rows get a verdict."""

    sesoi: Annotated[float, Field(gt=0, le=4)] = DEFAULT_SESOI
    by: FdrMethod = "bh"


class AllDeltasQuery(BaseModel):
    """Deltas of every attribute; the trait category is part of the path."""

    alpha: Annotated[float, Field(gt=0, lt=0.5)] = DEFAULT_ALPHA
    sesoi: Annotated[float, Field(gt=0, le=4)] = DEFAULT_SESOI
    by: FdrMethod = "bh"
    neutral: bool = False
    use_expected: bool = True
    n_perm: Draws = DEFAULT_N_PERM


class DeltasQuery(Judged):
    """Deltas of one attribute."""

    attribute: Name
    baseline: OptionalName = None
    n_perm: Draws = DEFAULT_N_PERM


class ForestQuery(Judged):
    """A forest of one attribute; `target` may be given several times."""

    attribute: Name
    baseline: OptionalName = None
    target: list[Name] = []
    min_n: Annotated[int, Field(ge=0)] = 0
    methods: list[MetaMethod] = []
    max_t: bool = False
    n_perm: Draws = DEFAULT_N_PERM


class KruskalByCategoryQuery(Level):
    """Omnibus tests of every trait category."""

    use_expected: bool = True
    neutral: bool = False


class StylesQuery(Level):
    """Response styles."""

    use_expected: bool = True


class CounterfactualQuery(Scope, Level):
    """Paired deltas."""

    n_flips: Draws = DEFAULT_N_PERM


class AdjustedQuery(Tested):
    """Adjusted deltas; `attributes` may be given several times."""

    attributes: list[Name] = []


class ComponentsQuery(Scope):
    """Variance components, within the categories of an attribute if one is named."""

    attribute: OptionalName = None
    neutral: bool = False


def add_analysis_routes(api: FastAPI, get_service: Callable[[], BenchmarkService]) -> None:
    """Add everything that is computed from a run's answers, and the planning of a run."""
    _add_answer_routes(api, get_service)
    _add_group_routes(api, get_service)
    _add_further_routes(api, get_service)
    _add_cache_routes(api, get_service)


def _add_answer_routes(api: FastAPI, get_service: Callable[[], BenchmarkService]) -> None:
    @api.get("/runs/{run_id}/styles")
    def styles(run_id: Id, query: Annotated[StylesQuery, Query()]) -> Response:
        return json_response(get_service().get_styles(run_id, **query.model_dump()))

    @api.get("/runs/{run_id}/distributions")
    def distributions(
        run_id: Id, trait_category: Annotated[OptionalName, Query()] = None
    ) -> Response:
        return json_response(get_service().get_distributions(run_id, trait_category=trait_category))

    @api.get("/runs/{run_id}/health-check")
    def health_check(run_id: Id) -> Response:
        return json_response(get_service().get_health_check(run_id))


def _add_group_routes(api: FastAPI, get_service: Callable[[], BenchmarkService]) -> None:
    @api.get("/runs/{run_id}/deltas")
    def deltas(run_id: Id, query: Annotated[DeltasQuery, Query()]) -> Response:
        return json_response(get_service().get_deltas(run_id, **query.model_dump()))

    @api.get("/runs/{run_id}/deltas/all/{trait_category}")
    def deltas_all(
        run_id: Id, trait_category: str, query: Annotated[AllDeltasQuery, Query()]
    ) -> Response:
        service = get_service()
        return json_response(
            service.get_deltas_all(run_id, trait_category=trait_category, **query.model_dump())
        )

    @api.get("/runs/{run_id}/forest")
    def forest(run_id: Id, query: Annotated[ForestQuery, Query()]) -> Response:
        chosen = query.model_dump()
        chosen["target"] = [name for name in query.target if name] or None
        return json_response(get_service().get_forest(run_id, **chosen))

    @api.get("/runs/{run_id}/forest/all")
    def forests(run_id: Id, query: Annotated[Judged, Query()]) -> Response:
        return json_response(get_service().get_forests_all(run_id, **query.model_dump()))

    @api.get("/runs/{run_id}/kruskal")
    def kruskal(run_id: Id, query: Annotated[Tested, Query()]) -> Response:
        return json_response(get_service().get_omnibus(run_id, **query.model_dump()))

    @api.get("/runs/{run_id}/kruskal-by-category")
    def kruskal_by_category(
        run_id: Id, query: Annotated[KruskalByCategoryQuery, Query()]
    ) -> Response:
        return json_response(get_service().get_kruskal_by_category(run_id, **query.model_dump()))


def _add_further_routes(api: FastAPI, get_service: Callable[[], BenchmarkService]) -> None:
    @api.get("/runs/{run_id}/counterfactual")
    def counterfactual(run_id: Id, query: Annotated[CounterfactualQuery, Query()]) -> Response:
        return json_response(get_service().get_counterfactual(run_id, **query.model_dump()))

    @api.get("/runs/{run_id}/adjusted-deltas")
    def adjusted_deltas(run_id: Id, query: Annotated[AdjustedQuery, Query()]) -> Response:
        return json_response(get_service().get_adjusted_deltas(run_id, **query.model_dump()))

    @api.get("/runs/{run_id}/variance-components")
    def variance_components(run_id: Id, query: Annotated[ComponentsQuery, Query()]) -> Response:
        return json_response(get_service().get_variance_components(run_id, **query.model_dump()))

    @api.post("/planning")
    def planning(design: Annotated[RunDesign, Body()]) -> Response:
        return json_response(get_service().get_planning(design))


def _add_cache_routes(api: FastAPI, get_service: Callable[[], BenchmarkService]) -> None:
    @api.post("/runs/{run_id}/warm-cache")
    def start_warm_cache(run_id: Id) -> Response:
        return json_response(get_service().start_warm_cache(run_id))

    @api.get("/runs/{run_id}/warm-cache")
    def warm_cache(run_id: Id) -> Response:
        return json_response(get_service().get_warm_cache(run_id))

    @api.delete("/runs/{run_id}/cache")
    def clear_cache(run_id: Id) -> Response:
        return json_response(get_service().clear_cache(run_id))


def json_response(payload: Mapping[str, Any]) -> Response:
    """Hand a payload out as it is: the large ones hold a hundred thousand numbers."""
    return Response(
        orjson.dumps(payload, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json"
    )
