"""The API under requests that a machine makes up from its own description."""

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from benchlib.application.benchmark_service import BenchmarkService
from benchlib.infrastructure.execution.executor import execute_benchmark_run
from benchlib.settings import Settings
from tests.apis import api_over, api_paths
from tests.samples import add_run, claim, worker_context
from tests.scripted_client import ScriptedClient

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


def described(service):
    return schemathesis.openapi.from_asgi("/openapi.json", api_over(service))


OPERATIONS = [f"{method.upper()} {path}" for path, found in api_paths().items() for method in found]


@pytest.fixture(scope="module")
def schema(new_store, tmp_path_factory):
    """The description of an API over one finished run."""
    folder = tmp_path_factory.mktemp("api")
    store = new_store(folder)
    run_id = add_run(store)
    claim(store)
    execute_benchmark_run(worker_context(store, ScriptedClient()), run_id)
    yield described(BenchmarkService(store, None, Settings(data_dir=folder)))
    store.close()


@pytest.mark.parametrize("name", OPERATIONS)
def test_no_request_breaks_the_api(schema, name):
    method, path = name.split(" ")
    operation = schema[path][method]

    @settings(
        max_examples=10,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def holds(case):
        if method != "DELETE" and "run_id" in case.path_parameters:
            case.path_parameters["run_id"] = 1  # the run that exists; all others are 404
        case.call_and_validate(checks=CHECKS)

    holds()
