import pytest
from starlette.testclient import TestClient

from benchlib.application.benchmark_service import BenchmarkService
from benchlib.infrastructure.cache_warming import stop_warm_cache_jobs
from benchlib.settings import Settings
from tests.apis import api_over
from tests.rated_runs import add_rated_run, people


@pytest.fixture
def service(store, tmp_path):
    return BenchmarkService(store, None, Settings(data_dir=tmp_path))


@pytest.fixture
def client(service):
    with TestClient(api_over(service), raise_server_exceptions=False) as opened:
        yield opened


@pytest.fixture(scope="module")
def rated_store(new_store, tmp_path_factory):
    """Run 1: twenty personas of two attributes, four traits in both orders, all rated.

    Shared by the tests of a module, which only read; what is computed from it may be kept.
    """
    opened = new_store(tmp_path_factory.mktemp("rated"))
    add_rated_run(
        opened,
        lambda i, t, order: 1 + (i * 3 + t) % 5,
        personas=people(20, gender=("f", "m", "f"), origin=("n", "s")),
        orders=("in", "rev"),
    )
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def rated_service(rated_store, tmp_path_factory):
    yield BenchmarkService(
        rated_store, None, Settings(data_dir=tmp_path_factory.mktemp("rated-data"))
    )
    stop_warm_cache_jobs()
