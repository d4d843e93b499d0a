"""SIGTERM and Ctrl-C: what is in flight may land, the run stays resumable, nothing stays behind."""

import signal

import httpx
from sqlalchemy import text

from benchlib.infrastructure.storage.database import open_store
from tests.fake_vllm import fake_vllm_process
from tests.kill.dashboard import STREAMLIT, UVICORN, Dashboard, until
from tests.samples import HANGS_SECONDS, get_run

WAYS = ((STREAMLIT, signal.SIGTERM), (STREAMLIT, signal.SIGINT), (UVICORN, signal.SIGTERM))


def check_metrics(dashboard):
    """Monitors find their figures where browsers find a page."""
    address = dashboard.http.base_url.join("/metrics")
    figures = dashboard.http.get(address)
    assert 'benchlib_runs{status="running"} 1.0\n' in figures.text
    assert figures.headers["content-type"].startswith("text/plain")
    page = dashboard.http.get(address, headers={"Accept": "text/html,*/*"})
    assert page.headers["content-type"].startswith("text/html")


def test_a_stop_leaves_the_run_resumable_and_nothing_behind(tmp_path):
    """All ways at once: each spends most of its time waiting for answers that never come."""
    with fake_vllm_process("--latency", "2") as engine:
        dashboards = []
        for number, (command, _) in enumerate(WAYS):
            folder = tmp_path / str(number)
            folder.mkdir()
            dashboards.append(Dashboard(folder, engine, command))
        try:
            for dashboard in dashboards:
                until(lambda app=dashboard: app.http.get("/health").json()["ok"])
                body = {"dataset_id": 1, "model_name": "fake-model", "batch_size": 4}
                dashboard.http.post("/benchmarks/start", json=body).raise_for_status()
            for dashboard in dashboards:
                until(lambda app=dashboard: app.status()["done"] > 0)
                check_metrics(dashboard)
            script = {"faults": [{"kind": "hang", "times": 40}]}
            httpx.post(f"{engine}/fake/script", json=script).raise_for_status()
            told = []
            for dashboard in dashboards:
                told.append(dashboard.status()["done"])
            for dashboard, (_, how) in zip(dashboards, WAYS, strict=True):
                dashboard.process.send_signal(how)
            for dashboard in dashboards:
                dashboard.process.wait(HANGS_SECONDS)  # a request may take five times as long
        finally:
            for dashboard in dashboards:
                dashboard.process.kill()
                dashboard.process.wait()
                dashboard.http.close()
    for dashboard, done in zip(dashboards, told, strict=True):
        log = dashboard.log.read_text()
        assert "Traceback" not in log, log
        assert '"exception"' not in log, log
        assert dashboard.left_behind() == []
        store = open_store(dashboard.store_url)
        run = get_run(store, 1)
        assert run.status == "interrupted", (run.status, run.error)
        assert run.error == "The dashboard was stopped; resume to go on."
        with store.read() as session:
            rows = session.connection().execute(text("SELECT COUNT(*) FROM benchmarkresult"))
            assert done <= run.done == rows.scalar() < run.total
        store.close()
