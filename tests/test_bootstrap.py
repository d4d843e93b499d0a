import subprocess
import sys

import pytest

from benchlib import bootstrap
from benchlib.application.commands import StartBenchmark
from benchlib.domain.errors import NotAllowed
from benchlib.settings import Settings
from tests.samples import LOGIN, get_run


@pytest.fixture
def parts(tmp_path):
    built = bootstrap.build(Settings(data_dir=tmp_path))
    yield built
    bootstrap.close(built)


def test_a_first_start_brings_sample_data_and_a_worker(parts):
    datasets = parts.datasets.list_datasets()
    assert max(dataset.n_personas for dataset in datasets) >= 240
    traits = parts.datasets.list_traits()
    assert len(traits) >= 30
    assert {"competence", "warmth", "morality"} <= {trait.category for trait in traits}
    for trait in traits:
        assert set(trait.adjective) == set(trait.question) == {"en", "de"}
    assert parts.service.get_health()["executor"] == "ok"


def test_a_simulated_run_on_the_sample_data_ends_done(parts):
    import threading

    ended = threading.Event()
    parts.worker.after_run = lambda _run_id: ended.set()
    dataset = parts.datasets.list_datasets()[0]
    run_id = parts.service.start_benchmark(
        StartBenchmark.of(dataset_id=dataset.id, llm="simulated", seed=1)
    )
    assert ended.wait(600)
    run = get_run(parts.store, run_id)
    assert run.status == "done"
    assert run.simulated
    metrics = parts.service.get_metrics(run_id)
    assert metrics["n"] == run.total
    assert metrics["simulated"]


def test_a_second_start_keeps_everything(tmp_path):
    first = bootstrap.build(Settings(data_dir=tmp_path))
    before = (first.datasets.list_datasets(), first.datasets.list_traits())
    bootstrap.close(first)
    second = bootstrap.build(Settings(data_dir=tmp_path))
    assert (second.datasets.list_datasets(), second.datasets.list_traits()) == before
    bootstrap.close(second)


def test_a_read_only_dashboard_has_no_worker(tmp_path):
    bootstrap.close(bootstrap.build(Settings(data_dir=tmp_path)))
    parts = bootstrap.build(Settings(data_dir=tmp_path, read_only=True))
    assert parts.worker is None
    assert parts.service.read_only
    bootstrap.close(parts)


def test_where_people_log_in_services_act_for_nobody_until_told(tmp_path, monkeypatch):
    settings = Settings(data_dir=tmp_path, auth=LOGIN, admins="a@b.c", api_token="t" * 16)
    parts = bootstrap.build(settings)
    command = StartBenchmark.of(dataset_id=1, llm="simulated", simulated_items_per_second=1)
    try:
        with pytest.raises(NotAllowed, match="log in first"):
            parts.service.start_benchmark(command)
        with pytest.raises(NotAllowed, match="log in first"):
            parts.datasets.delete_dataset(1)
        assert parts.datasets.list_datasets()  # the dashboard loads its samples all the same
        monkeypatch.setattr(bootstrap, "get_service", lambda: parts.service)
        monkeypatch.setattr(bootstrap, "get_settings", lambda: settings)
        run_id = bootstrap.get_api_service().start_benchmark(command)
        assert parts.service.get_run(run_id)["launched_by"] == "api token"
    finally:
        bootstrap.close(parts)


def test_the_start_loads_no_part_that_only_some_statistics_need():
    heavy = ["scipy.stats", "scipy.optimize", "statsmodels", "alembic", "plotly", "streamlit"]
    code = f"import benchlib.bootstrap, sys; print([n for n in {heavy} if n in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert found.stdout == "[]\n"
    code = "import benchlib, sys; print('pandas' in sys.modules or 'sqlalchemy' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert found.stdout == "False\n"
