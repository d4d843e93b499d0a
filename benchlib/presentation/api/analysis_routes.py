"""The panels of a run as JSON: a route per registered panel."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import orjson
from fastapi import Body, FastAPI, Path, Query
from fastapi.responses import Response

from benchlib.application.analysis.answer_panels import MeansQuery, all_means
from benchlib.application.analysis.group_panels import DeltasQuery, all_deltas
from benchlib.application.analysis.panels import RUN_PANELS, Panel
from benchlib.application.analysis.power_plan import PowerQuery
from benchlib.application.analysis.queries import WithDraws
from benchlib.application.benchmark_service import BenchmarkService

Id = Annotated[int, Path(ge=1, lt=2**31)]


def add_analysis_routes(api: FastAPI, get_service: Callable[[], BenchmarkService]) -> None:
    """Add everything that is computed from a run's answers, and the power plan of a run."""
    for panel in RUN_PANELS.values():
        if panel.path is not None:
            _add_panel_route(api, get_service, panel)
    _add_attribute_routes(api, get_service)
    _add_cache_routes(api, get_service)

    @api.post("/planning")
    def planning(query: Annotated[PowerQuery, Body()]) -> Response:
        return json_response(get_service().analysis.get_power_plan(query))


def _add_panel_route(
    api: FastAPI, get_service: Callable[[], BenchmarkService], panel: Panel[Any, Any, Any]
) -> None:
    def answer(run_id: Id, query: Any) -> Response:
        chosen = query.model_dump()
        return json_response(get_service().analysis.get_panel(panel, run_id, **chosen))

    answer.__annotations__["query"] = Annotated[panel.query, Query()]
    name = panel.compute.__name__
    api.get(f"/runs/{{run_id}}/{panel.path}", name=name, description=panel.compute.__doc__)(answer)


def _add_attribute_routes(api: FastAPI, get_service: Callable[[], BenchmarkService]) -> None:
    """Means and deltas of one attribute are cut out of the table of all."""

    @api.get("/runs/{run_id}/means")
    def means(run_id: Id, query: Annotated[MeansQuery, Query()]) -> Response:
        return json_response(get_service().analysis.get_means(run_id, **query.model_dump()))

    @api.get("/runs/{run_id}/means/all")
    def means_all(run_id: Id) -> Response:
        table = get_service().analysis.get_panel(all_means, run_id)
        return json_response({"ok": True, "data": table["data"]})

    @api.get("/runs/{run_id}/deltas")
    def deltas(run_id: Id, query: Annotated[DeltasQuery, Query()]) -> Response:
        return json_response(get_service().analysis.get_deltas(run_id, **query.model_dump()))

    @api.get("/runs/{run_id}/deltas/all/{trait_category}")
    def deltas_all(
        run_id: Id, trait_category: str, query: Annotated[WithDraws, Query()]
    ) -> Response:
        chosen = {**query.model_dump(), "trait_category": trait_category}
        table = get_service().analysis.get_panel(all_deltas, run_id, **chosen)
        return json_response(table)


def _add_cache_routes(api: FastAPI, get_service: Callable[[], BenchmarkService]) -> None:
    @api.post("/runs/{run_id}/warm-cache")
    def start_warm_cache(run_id: Id) -> Response:
        return json_response(get_service().analysis.start_warm_cache(run_id))

    @api.get("/runs/{run_id}/warm-cache")
    def warm_cache(run_id: Id) -> Response:
        return json_response(get_service().analysis.get_warm_cache(run_id))

    @api.delete("/runs/{run_id}/cache")
    def clear_cache(run_id: Id) -> Response:
        return json_response(get_service().analysis.clear_cache(run_id))


def json_response(payload: Mapping[str, Any]) -> Response:
    """Serialise a payload without validation: the largest hold a hundred thousand numbers."""
    return Response(
        orjson.dumps(payload, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json"
    )
