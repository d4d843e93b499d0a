import pytest

from benchlib.application.benchmark_service import BenchmarkService
from benchlib.infrastructure.execution.executor import execute_benchmark_run
from benchlib.settings import Settings
from tests.samples import add_run, claim, worker_context
from tests.scripted_client import ScriptedClient


@pytest.fixture
def service(store, tmp_path):
    return BenchmarkService(store, None, Settings(data_dir=tmp_path))


@pytest.fixture
def make_finished_run(store):
    """Execute a run with a scripted client; gives its id."""

    def make(script=None, **changes):
        run_id = add_run(store, **changes)
        claim(store)
        execute_benchmark_run(worker_context(store, ScriptedClient(script)), run_id)
        return run_id

    return make
