"""The panels of a run as files, by the exporter that the pages use."""

from collections.abc import Callable
from typing import Annotated, Any, Final

from fastapi import FastAPI, Query
from fastapi.responses import Response
from pydantic import AfterValidator, BaseModel, WithJsonSchema
from pydantic_core import PydanticKnownError

from benchlib.application.analysis.answer_panels import MeansQuery, OrderQuery
from benchlib.application.analysis.group_panels import (
    DeltasQuery,
    ForestQuery,
    OmnibusQuery,
    omnibus,
)
from benchlib.application.benchmark_service import BenchmarkService
from benchlib.presentation.api.analysis_routes import Id
from benchlib.presentation.exports.files import Theme
from benchlib.presentation.exports.formats import FORMATS
from benchlib.presentation.exports.panel_files import (
    PanelExport,
    deltas_export,
    forest_export,
    means_export,
    metrics_export,
    omnibus_export,
    order_export,
)
from benchlib.presentation.figures.forest_lines import SortBy


def _known_format(name: str) -> str:
    if name not in FORMATS:
        *others, last = map(repr, FORMATS)
        expected = f"{', '.join(others)} or {last}"
        raise PydanticKnownError("literal_error", {"expected": expected})
    return name


Format = Annotated[
    str,
    AfterValidator(_known_format),
    WithJsonSchema({"type": "string", "enum": list(FORMATS)}),
]
"""Name of a format, as the last part of an address."""


class Drawn(BaseModel):
    """How a picture looks; has no effect on tables."""

    theme: Theme = "light"


class MeansExport(MeansQuery, Drawn):
    """Means of one attribute."""


class OrderExport(OrderQuery, Drawn):
    """Order effects by trait."""


class DeltasExport(DeltasQuery, Drawn):
    """Deltas of one attribute."""


class ForestExport(ForestQuery, Drawn):
    """A forest of one attribute."""

    sort: SortBy = "category"
    compact: bool = False


class OmnibusExport(OmnibusQuery, Drawn):
    """Omnibus tests."""


FILE: Final[dict[str, Any]] = {
    "response_class": Response,
    "responses": {
        200: {
            "description": "The file.",
            "content": {
                media_type: {}
                for media_type in dict.fromkeys(one.media_type for one in FORMATS.values())
            },
        }
    },
}
"""How the description of the API declares a file."""

_LOOKS = set(Drawn.model_fields)


def add_export_routes(api: FastAPI, get_service: Callable[[], BenchmarkService]) -> None:
    """Add the files of every panel."""
    _add_rating_exports(api, get_service)
    _add_group_exports(api, get_service)


def _add_rating_exports(api: FastAPI, get_service: Callable[[], BenchmarkService]) -> None:
    @api.get("/runs/{run_id}/export/metrics.{format}", **FILE)
    def export_metrics(run_id: Id, format: Format, query: Annotated[Drawn, Query()]) -> Response:
        service = get_service()
        found = metrics_export(service.get_run(run_id), service.get_metrics(run_id))
        return _file(found, format, query)

    @api.get("/runs/{run_id}/export/means.{format}", **FILE)
    def export_means(
        run_id: Id, format: Format, query: Annotated[MeansExport, Query()]
    ) -> Response:
        service = get_service()
        means = service.get_means(run_id, **query.model_dump(exclude=_LOOKS))
        baseline = service.get_metrics(run_id)["attributes"][query.attribute]["baseline"]
        return _file(means_export(service.get_run(run_id), means, baseline), format, query)

    @api.get("/runs/{run_id}/export/order.{format}", **FILE)
    def export_order(
        run_id: Id, format: Format, query: Annotated[OrderExport, Query()]
    ) -> Response:
        service = get_service()
        order = service.get_order_metrics(run_id, trait_category=query.trait_category)
        return _file(order_export(service.get_run(run_id), order), format, query)


def _add_group_exports(api: FastAPI, get_service: Callable[[], BenchmarkService]) -> None:
    @api.get("/runs/{run_id}/export/deltas.{format}", **FILE)
    def export_deltas(
        run_id: Id, format: Format, query: Annotated[DeltasExport, Query()]
    ) -> Response:
        service = get_service()
        deltas = service.get_deltas(run_id, **query.model_dump(exclude=_LOOKS))
        return _file(deltas_export(service.get_run(run_id), deltas), format, query)

    @api.get("/runs/{run_id}/export/forest.{format}", **FILE)
    def export_forest(
        run_id: Id, format: Format, query: Annotated[ForestExport, Query()]
    ) -> Response:
        service = get_service()
        chosen = query.model_dump(exclude=_LOOKS | {"sort", "compact"})
        found = forest_export(
            service.get_run(run_id),
            service.get_forest(run_id, **chosen),
            by=query.by,
            max_t=query.max_t,
            sort=query.sort,
            compact=query.compact,
        )
        return _file(found, format, query)

    @api.get("/runs/{run_id}/export/omnibus.{format}", **FILE)
    def export_omnibus(
        run_id: Id, format: Format, query: Annotated[OmnibusExport, Query()]
    ) -> Response:
        service = get_service()
        found = service.analysis.get_panel(omnibus, run_id, **query.model_dump(exclude=_LOOKS))
        return _file(omnibus_export(service.get_run(run_id), found), format, query)


def _file(found: PanelExport, name: str, query: Drawn) -> Response:
    """A file to be saved; a browser never opens it as a page of this dashboard."""
    file = found.file(name, query.theme)
    headers = {
        "Content-Disposition": f'attachment; filename="{file.name}"',
        "X-Content-Type-Options": "nosniff",
    }
    return Response(file.content, media_type=file.media_type, headers=headers)
