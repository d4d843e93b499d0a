"""One plain function per service method; errors become a status and the same sentence."""

import logging
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

from fastapi import Body, Depends, FastAPI, Path, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

import benchlib
from benchlib.application.benchmark_service import BenchmarkService
from benchlib.application.commands import StartBenchmark
from benchlib.application.dataset_service import DatasetService
from benchlib.application.payloads import (
    ActiveBenchmark,
    Health,
    Missing,
    RunDetail,
    RunSummary,
)
from benchlib.domain.errors import (
    BenchlibError,
    EngineNotReachable,
    InvalidInput,
    NotAllowed,
    NotFound,
    ReadOnly,
    StoreError,
    WrongState,
)
from benchlib.presentation.api.analysis_routes import add_analysis_routes
from benchlib.presentation.api.comparison_routes import add_comparison_routes
from benchlib.presentation.api.export_routes import add_export_routes
from benchlib.presentation.api.material_routes import add_material_routes
from benchlib.presentation.api.metrics_route import add_metrics_route
from benchlib.presentation.exports.pictures import NoPictures

_log = logging.getLogger(__name__)

_STATUS: Final[dict[type[BenchlibError], int]] = {
    InvalidInput: 400,
    NotAllowed: 403,
    ReadOnly: 403,
    NotFound: 404,
    WrongState: 409,
    EngineNotReachable: 503,
    StoreError: 503,
    NoPictures: 503,
}

_WHY: Final[dict[int | str, str]] = {
    400: "Something asked for does not exist in the run, or a number is out of range.",
    401: "The token is missing or wrong.",
    403: "Read-only, or a caller or role that may not.",
    404: "There is no such run or dataset.",
    409: "The run is in the wrong state for this.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    422: "A parameter or field is malformed or unknown.",
    503: "The engine or the store does not answer, or nothing can draw pictures.",
}


class Refusal(BaseModel):
    """Every error."""

    ok: Literal[False]
    error: str
    """One sentence that says what to do."""


Id = Annotated[int, Path(ge=1, lt=2**31)]


def create_api(
    get_service: Callable[[], BenchmarkService], get_datasets: Callable[[], DatasetService]
) -> FastAPI:
    """The API over the services that the arguments give."""
    api = FastAPI(
        title="benchlib",
        version=benchlib.__version__,
        dependencies=[Depends(_known_parameters)],
        responses={status: {"model": Refusal, "description": why} for status, why in _WHY.items()},
    )
    _translate_errors(api)
    _add_run_routes(api, get_service)
    _add_benchmark_routes(api, get_service)
    _add_result_routes(api, get_service)
    add_analysis_routes(api, get_service)
    add_export_routes(api, get_service)
    add_metrics_route(api, get_service)
    add_comparison_routes(api, get_service)
    add_material_routes(api, get_service, get_datasets)
    return api


def _add_run_routes(api: FastAPI, get_service: Callable[[], BenchmarkService]) -> None:
    @api.get("/health", response_model=None)
    def health() -> Health:
        return get_service().get_health()

    @api.get("/runs", response_model=None)
    def list_runs() -> list[RunSummary]:
        return get_service().list_runs()

    @api.get("/runs/{run_id}", response_model=None)
    def get_run(run_id: Id) -> RunDetail:
        return get_service().get_run(run_id)

    @api.delete("/runs/{run_id}", response_model=None)
    def delete_run(run_id: Id) -> dict[str, Any]:
        return {"ok": True, "deleted": get_service().runs.delete_run(run_id)}

    @api.get("/models", response_model=None)
    def list_models() -> list[str]:
        return get_service().runs.list_models()


def _add_benchmark_routes(api: FastAPI, get_service: Callable[[], BenchmarkService]) -> None:
    @api.post("/benchmarks/start", response_model=None)
    def start_benchmark(command: Annotated[StartBenchmark, Body()]) -> dict[str, Any]:
        return {"ok": True, "run_id": get_service().start_benchmark(command)}

    @api.get("/benchmarks/{run_id}/status", response_model=None)
    def bench_status(run_id: Id) -> dict[str, Any]:
        return dict(get_service().bench_status(run_id))

    @api.post("/benchmarks/{run_id}/cancel", response_model=None)
    def cancel(run_id: Id) -> dict[str, bool]:
        get_service().runs.cancel_benchmark(run_id)
        return {"ok": True}

    @api.get("/datasets/{dataset_id}/benchmarks/active", response_model=None)
    def active(dataset_id: Id) -> ActiveBenchmark:
        return get_service().runs.active_benchmark(dataset_id)


def _add_result_routes(api: FastAPI, get_service: Callable[[], BenchmarkService]) -> None:
    @api.get("/runs/{run_id}/missing", response_model=None)
    def missing(run_id: Id) -> Missing:
        return get_service().runs.get_missing(run_id)


def _known_parameters(request: Request) -> None:
    """Refuse unknown parameters: a misspelt one would otherwise be ignored."""
    described = request.app.openapi()["paths"][request.scope["route"].path]
    parameters = described[request.method.lower()].get("parameters", ())
    known = {parameter["name"] for parameter in parameters if parameter["in"] == "query"}
    unknown = sorted(set(request.query_params) - known)
    if unknown:
        problem = {"loc": ("query", unknown[0]), "msg": "there is no such parameter here"}
        raise RequestValidationError([problem])


def _translate_errors(api: FastAPI) -> None:
    """Give every error the same shape: ok false, and a sentence that says what to do."""

    @api.exception_handler(BenchlibError)
    def known(_request: Request, error: BenchlibError) -> JSONResponse:
        status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
        return _refusal(status, str(error))

    @api.exception_handler(RequestValidationError)
    def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        return _refusal(422, _explain(error))

    @api.exception_handler(HTTPException)
    def http(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 404:
            return _refusal(
                404, f"There is no {request.url.path}; see /api/docs for what there is."
            )
        return _refusal(error.status_code, f"{error.detail}; see /api/docs.", error.headers)

    @api.exception_handler(Exception)
    def unexpected(_request: Request, error: Exception) -> JSONResponse:
        _log.error("a request failed by a fault of the program", exc_info=error)
        return _refusal(500, "A fault of the program; please report it with the log.")


def _explain(error: RequestValidationError) -> str:
    """One sentence per wrong field, without repeating what was handed in."""
    sentences = []
    for problem in error.errors():
        name = ".".join(str(part) for part in problem["loc"][1:])
        said = problem["msg"].removeprefix("Value error, ")
        sentences.append(f"{name}: {said}" if name else said)
    return "; ".join(sentences) + "."


def _refusal(status: int, sentence: str, headers: Any = None) -> JSONResponse:
    return JSONResponse({"ok": False, "error": sentence}, status, headers=headers)
