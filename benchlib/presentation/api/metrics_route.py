"""Metrics of this process and its store in the Prometheus format, read at each scrape."""

from collections.abc import Callable, Iterator, Mapping

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector
from starlette.datastructures import Headers
from starlette.routing import Match, Route
from starlette.types import Scope

from benchlib.application.benchmark_service import BenchmarkService
from benchlib.application.process_metrics import ProcessMetrics, StoreMetrics


def add_metrics_route(api: FastAPI, get_service: Callable[[], BenchmarkService]) -> None:
    """Serve `/metrics`."""
    registry = CollectorRegistry()
    registry.register(_MetricsCollector(get_service))
    ProcessCollector(registry=registry)

    @api.get("/metrics", response_class=PlainTextResponse)
    def metrics() -> Response:
        return Response(
            generate_latest(registry), media_type=CONTENT_TYPE_LATEST, headers={"Vary": "Accept"}
        )


class MonitorRoute(Route):
    """A route for programs: browsers, which accept HTML, get the page of the same name."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Leave requests of browsers to the page."""
        if "text/html" in Headers(scope=scope).get("accept", ""):
            return Match.NONE, {}
        return super().matches(scope)


class _MetricsCollector(Collector):
    def __init__(self, get_service: Callable[[], BenchmarkService]) -> None:
        self._get_service = get_service

    def describe(self) -> list[Metric]:
        """Nothing: the metrics depend on what runs, and describing them must not read the store."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Read the metrics and convert them."""
        metrics = self._get_service().get_process_metrics()
        yield from _of_process(metrics)
        if metrics["store"] is not None:
            yield from _of_store(metrics["store"])


def _of_process(metrics: ProcessMetrics) -> Iterator[Metric]:
    build = GaugeMetricFamily("benchlib_build_info", "Always 1.", labels=["version", "commit"])
    build.add_metric([metrics["version"], metrics["commit"] or ""], 1)
    yield build
    yield GaugeMetricFamily(
        "benchlib_store_up", "Whether the store answers.", metrics["store"] is not None
    )
    if metrics["executor_alive"] is not None:
        yield GaugeMetricFamily(
            "benchlib_executor_up", "Whether this process executes.", metrics["executor_alive"]
        )
    states = metrics["addresses"]
    yield _labelled(
        "benchlib_requests_in_flight",
        "Requests without an answer yet.",
        "address",
        {state.address: state.requests_in_flight for state in states},
    )
    yield _labelled(
        "benchlib_items_in_flight",
        "Questions in these requests.",
        "address",
        {state.address: state.items_in_flight for state in states},
    )
    yield _labelled(
        "benchlib_address_usable",
        "0 while it is backing off after a fault.",
        "address",
        {state.address: state.usable for state in states},
    )
    writes = HistogramMetricFamily(
        "benchlib_store_write_seconds",
        "Write transactions of this process since its start, including the wait for the lock.",
    )
    writes.add_metric([], list(metrics["write_counts"].items()), metrics["write_seconds"])
    yield writes


def _of_store(metrics: StoreMetrics) -> Iterator[Metric]:
    yield _labelled("benchlib_runs", "Runs in the store.", "status", metrics["runs"])
    yield GaugeMetricFamily(
        "benchlib_queue_length", "Runs waiting in the queue.", metrics["runs"]["queued"]
    )
    yield GaugeMetricFamily(
        "benchlib_items_rated", "Ratings of all runs in the store.", metrics["rated"]
    )
    yield GaugeMetricFamily(
        "benchlib_items_failed", "Questions given up, of all runs in the store.", metrics["failed"]
    )
    yield _labelled(
        "benchlib_failed_attempts",
        "Failed attempts of all runs in the store.",
        "kind",
        metrics["failed_attempts"],
    )
    active = {str(run["run_id"]): run for run in metrics["active"]}
    rated = CounterMetricFamily(
        "benchlib_run_items_rated", "Ratings of a queued or running run.", labels=["run_id"]
    )
    for run_id, run in active.items():
        rated.add_metric([run_id], run["rated"])
    yield rated
    yield _labelled(
        "benchlib_run_items_failed",
        "Questions of a queued or running run that were given up.",
        "run_id",
        {run_id: run["failed"] for run_id, run in active.items()},
    )
    yield _labelled(
        "benchlib_run_items_planned",
        "Questions a queued or running run plans to ask.",
        "run_id",
        {run_id: run["planned"] for run_id, run in active.items()},
    )
    yield _labelled(
        "benchlib_run_lease_age_seconds",
        "Seconds since the last sign of life of a running run, as seen by this process.",
        "run_id",
        {run_id: run["lease_age_s"] for run_id, run in active.items()},
    )


def _labelled(name: str, text: str, label: str, values: Mapping[str, float | None]) -> Metric:
    """A gauge with one value per label; labels without a value are left out."""
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        if value is not None:
            family.add_metric([key], value)
    return family
