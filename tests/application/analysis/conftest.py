import pytest

from benchlib.infrastructure.cache_warming import stop_warm_cache_jobs
from benchlib.infrastructure.loading import data_loader
from tests.application.analysis.rated_panels import GROUPS, biased
from tests.rated_runs import add_rated_run, people


@pytest.fixture(autouse=True)
def _start_and_end_without_memory():
    data_loader.forget_all_runs()
    yield
    stop_warm_cache_jobs()
    data_loader.forget_all_runs()


@pytest.fixture
def run_id(store):
    return add_rated_run(store, biased, personas=people(30, **GROUPS), orders=("in", "rev"), seed=5)
