"""Runs compared, as JSON."""

from collections.abc import Callable
from typing import Annotated

from fastapi import Body, FastAPI
from fastapi.responses import Response
from pydantic import Field

from benchlib.application.analysis.comparison_panels import (
    CompareDeltasQuery,
    CompareMetricsQuery,
    CompareOrderQuery,
)
from benchlib.application.analysis.queries import Query
from benchlib.application.benchmark_service import BenchmarkService
from benchlib.presentation.api.analysis_routes import json_response

RunId = Annotated[int, Field(ge=1, lt=2**31)]


class ComparedRuns(Query):
    """Two to eight runs, the reference first."""

    run_ids: Annotated[list[RunId], Field(max_length=100)]


class CompareOrder(ComparedRuns, CompareOrderQuery):
    """Scale-order effects of runs."""


class CompareMetrics(ComparedRuns, CompareMetricsQuery):
    """Levels of runs."""


class CompareDeltas(ComparedRuns, CompareDeltasQuery):
    """Deltas of runs; all attributes unless one is named."""


def add_comparison_routes(api: FastAPI, get_service: Callable[[], BenchmarkService]) -> None:
    """Add the comparisons."""

    @api.post("/runs/compare/metrics")
    def compare_metrics(body: Annotated[CompareMetrics, Body()]) -> Response:
        return json_response(get_service().analysis.compare_metrics(**body.model_dump()))

    @api.post("/runs/compare/order-metrics")
    def compare_order_metrics(body: Annotated[CompareOrder, Body()]) -> Response:
        return json_response(get_service().analysis.compare_order_metrics(**body.model_dump()))

    @api.post("/runs/compare/deltas")
    def compare_deltas(body: Annotated[CompareDeltas, Body()]) -> Response:
        return json_response(get_service().analysis.compare_deltas(**body.model_dump()))
