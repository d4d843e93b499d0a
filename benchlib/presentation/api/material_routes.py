"""What runs are made of as JSON: datasets, their personas, traits."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import FastAPI, Path, Query

from benchlib.application.benchmark_service import BenchmarkService
from benchlib.application.dataset_service import DatasetService
from benchlib.application.payloads import RunSummary
from benchlib.domain.material.composition import Composition

Id = Annotated[int, Path(ge=1, lt=2**31)]


def add_material_routes(
    api: FastAPI,
    get_service: Callable[[], BenchmarkService],
    get_datasets: Callable[[], DatasetService],
) -> None:
    """Add the routes; none of them writes."""

    @api.get("/datasets", response_model=None)
    def list_datasets() -> list[dict[str, Any]]:
        return [asdict(record) for record in get_datasets().list_datasets()]

    @api.get("/datasets/{dataset_id}", response_model=None)
    def get_dataset(dataset_id: Id) -> dict[str, Any]:
        return asdict(get_datasets().get_dataset(dataset_id))

    @api.get("/datasets/{dataset_id}/composition", response_model=None)
    def composition(dataset_id: Id) -> Composition:
        return get_datasets().get_composition(dataset_id)

    @api.get("/datasets/{dataset_id}/personas", response_model=None)
    def personas(
        dataset_id: Id,
        search: Annotated[str, Query(max_length=500)] = "",
        offset: Annotated[int, Query(ge=0, lt=2**31)] = 0,
        limit: Annotated[int, Query(ge=1, le=1_000)] = 50,
    ) -> dict[str, Any]:
        page = get_datasets().list_personas(dataset_id, search=search, offset=offset, limit=limit)
        return asdict(page)

    @api.get("/datasets/{dataset_id}/runs", response_model=None)
    def runs(dataset_id: Id) -> list[RunSummary]:
        get_datasets().get_dataset(dataset_id)
        return [run for run in get_service().list_runs() if run["dataset_id"] == dataset_id]

    @api.get("/traits", response_model=None)
    def traits(active_only: bool = False) -> list[dict[str, Any]]:
        return [asdict(trait) for trait in get_datasets().list_traits(active_only=active_only)]

    @api.get("/traits/categories", response_model=None)
    def trait_categories() -> list[str]:
        return get_datasets().trait_categories()
