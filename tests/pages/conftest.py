"""Pages over a real store in a folder of the test; runs are executed when a test says so."""

import json
import re
import shutil
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from time import monotonic

import pytest
from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest, app_test

from benchlib import bootstrap
from benchlib.application.benchmark_service import BenchmarkService
from benchlib.application.commands import StartBenchmark
from benchlib.application.dataset_service import DatasetService
from benchlib.infrastructure.execution.executor import WorkerContext, execute_benchmark_run
from benchlib.infrastructure.storage.database import Store
from benchlib.settings import Settings
from pages.shared import access
from tests.samples import add_dataset, add_traits, claim

NAVIGATION = Path(__file__).parents[2] / "pages" / "navigation.py"
PAGES = re.findall(r'st\.Page\(\s*"(\w+)\.py"', NAVIGATION.read_text())
NOBODY = "http://127.0.0.1:9"


def pytest_sessionfinish():
    """AppTest's module makes a folder and leaves it to the end of Python, which warns of it."""
    app_test.TMP_DIR.cleanup()


@dataclass
class House:
    """Services over one store, without a worker: nothing runs by itself."""

    store: Store
    settings: Settings
    service: BenchmarkService
    datasets: DatasetService

    def fill(self, n_personas=6, n_traits=4):
        """A dataset of two genders and three origins, traits of two categories."""
        add_dataset(self.store, n_personas)
        add_traits(self.store, n_traits)
        return self

    def queue(self, **fields):
        """A queued run of the simulated rater."""
        command = {"dataset_id": 1, "llm": "simulated", "dual_fraction": 0.5, **fields}
        return self.service.start_benchmark(StartBenchmark.of(**command))

    def execute(self, run_id, **changes):
        """Execute a queued run to its end, in this thread."""
        assert claim(self.store, "test") == run_id
        context = WorkerContext(
            store=self.store,
            settings=self.settings,
            owner="test",
            stop=threading.Event(),
            now=lambda: datetime.now(UTC),
            monotonic=monotonic,
            **changes,
        )
        execute_benchmark_run(context, run_id)
        return run_id

    def finished(self, **fields):
        return self.execute(self.queue(**fields))


@pytest.fixture(scope="session", autouse=True)
def packages_are_read_once():
    """AppTest reads the metadata of every installed package for each app: most of a test's time."""
    with pytest.MonkeyPatch.context() as patch:
        scan = cache(manifest_scanner.scan_component_manifests)
        patch.setattr(manifest_scanner, "scan_component_manifests", scan)
        yield


def build_house(store, address=NOBODY, **settings):
    """A house in the folder of its store."""
    folder = Path(store.database).parent
    chosen = Settings(data_dir=folder, vllm_base_url=address, **settings)
    service = BenchmarkService(store, None, chosen)
    return House(store, chosen, service, DatasetService(store, read_only=chosen.read_only))


@pytest.fixture
def make_house(store, monkeypatch):
    """Gives `make(like=None, **settings) -> House`, whose services the pages find.

    `like` is the file of a store to be copied, as `prepare` gives it.
    """

    def make(address=NOBODY, like=None, **settings):
        if like is not None:
            store.close()  # it opens the copy when it is asked again
            shutil.copy(like, store.database)
        house = build_house(store, address, **settings)
        monkeypatch.setattr(bootstrap, "get_service", lambda: house.service)
        monkeypatch.setattr(bootstrap, "get_dataset_service", lambda: house.datasets)
        monkeypatch.setattr(access, "get_settings", lambda: house.settings)
        return house

    return make


@pytest.fixture
def house(make_house):
    return make_house().fill()


@pytest.fixture(scope="session")
def one_run(prepare):
    """A store in which run 1 is complete."""
    return prepare(lambda store: build_house(store).fill().finished())


@pytest.fixture(scope="session")
def three_runs(prepare):
    """A store in which run 1 is complete, run 2 partial, and run 3 queued."""

    def fill(store):
        house = build_house(store).fill()
        house.finished()
        house.finished(simulated_fault_rate=0.9, max_attempts=1)
        house.queue()

    return prepare(fill)


@pytest.fixture
def open_page():
    """Gives `open_page("metrics", run=1) -> AppTest`, run once, without an exception.

    `claims` are what a provider says of who has logged in.
    """

    def open_page(name, claims=None, **query):
        at = AppTest.from_file(NAVIGATION, default_timeout=600)
        at.switch_page(f"{name}.py")
        if claims is not None:
            at.user = claims
        for key, value in query.items():
            at.query_params[key] = str(value) if not isinstance(value, list) else value
        return settled(at.run())

    return open_page


def settled(at):
    assert not at.exception, at.exception
    return at


def metric(at, label):
    """The value of the metric with this label."""
    (value,) = [found.value for found in at.metric if found.label == label]
    return value


def figure(at, key):
    """A Plotly figure as the browser gets it."""
    (found,) = [chart for chart in at.get("plotly_chart") if chart.proto.id.endswith(f"-{key}")]
    return json.loads(found.proto.spec)


def texts(at):
    """All plain texts of the page."""
    return [found.value for found in at.text]
