"""Runs beside each other as JSON."""

from collections.abc import Callable
from typing import Annotated

from fastapi import Body, FastAPI
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from benchlib.application.benchmark_service import BenchmarkService
from benchlib.domain.stats.welch import FdrMethod
from benchlib.presentation.api.analysis_routes import (
    Level,
    OptionalName,
    Scope,
    json_response,
)

RunId = Annotated[int, Field(ge=1, lt=2**31)]


class ComparedRuns(BaseModel):
    """Two to eight runs, the reference first."""

    model_config = ConfigDict(extra="forbid")

    run_ids: Annotated[list[RunId], Field(max_length=100)]


class CompareOrder(ComparedRuns):
    """Scale-order effects of runs."""

    trait_category: OptionalName = None


class CompareMetrics(ComparedRuns, Scope, Level):
    """Levels of runs."""

    by: FdrMethod = "bh"


class CompareDeltas(CompareMetrics):
    """Deltas of runs; all attributes unless one is named."""

    attribute: OptionalName = None
    baseline: OptionalName = None


def add_comparison_routes(api: FastAPI, get_service: Callable[[], BenchmarkService]) -> None:
    """Add the comparisons."""

    @api.post("/runs/compare/metrics")
    def compare_metrics(body: Annotated[CompareMetrics, Body()]) -> Response:
        return json_response(get_service().compare_metrics(**body.model_dump()))

    @api.post("/runs/compare/order-metrics")
    def compare_order_metrics(body: Annotated[CompareOrder, Body()]) -> Response:
        return json_response(get_service().compare_order_metrics(**body.model_dump()))

    @api.post("/runs/compare/deltas")
    def compare_deltas(body: Annotated[CompareDeltas, Body()]) -> Response:
        return json_response(get_service().compare_deltas(**body.model_dump()))
