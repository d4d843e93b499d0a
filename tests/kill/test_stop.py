"""SIGTERM and Ctrl-C: what is in flight may land, the run stays resumable, nothing stays behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from benchlib.infrastructure.storage.engine import open_store
from tests.fake_vllm import fake_vllm_process
from tests.samples import get_run

ROOT = Path(__file__).parents[2]
GRACE_SECONDS = 20
PORT = "{port}"
STREAMLIT = ("streamlit", "run", "app.py", "--server.headless", "true", "--server.port", PORT)
UVICORN = ("uvicorn", "app:app", "--port", PORT)
WAYS = ((STREAMLIT, signal.SIGTERM), (STREAMLIT, signal.SIGINT), (UVICORN, signal.SIGTERM))


class Dashboard:
    """The real app in a session of its own, on a store of its own."""

    def __init__(self, folder, command, engine):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.store_url = f"sqlite:///{folder / 'benchlib.db'}"
        self.log = folder / "log"
        arguments = [part.format(port=port) for part in command]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=ROOT,
                env={
                    **os.environ,
                    "HOME": str(folder),
                    "BENCHLIB_DATA_DIR": str(folder),
                    "VLLM_BASE_URL": engine,
                },
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}/api", timeout=60)

    def status(self):
        return self.http.get("/benchmarks/1/status").json()

    def left_behind(self):
        """Processes of the app's session that are alive."""
        stats = (path.read_text() for path in Path("/proc").glob("[0-9]*/stat") if path.exists())
        fields = (stat.rpartition(")")[2].split() for stat in stats)
        return [f for f in fields if f[3] == str(self.process.pid) and f[0] not in "ZX"]


def until(condition, seconds=60):
    """Another process's progress can only be polled."""
    last = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except httpx.ConnectError:
            pass
        assert time.monotonic() < last
        time.sleep(0.05)


def test_a_stop_leaves_the_run_resumable_and_nothing_behind(tmp_path):
    """All ways at once: each spends most of its time waiting for answers that never come."""
    with fake_vllm_process("--latency", "0.2") as engine:
        dashboards = []
        for number, (command, _) in enumerate(WAYS):
            folder = tmp_path / str(number)
            folder.mkdir()
            dashboards.append(Dashboard(folder, command, engine))
        try:
            for dashboard in dashboards:
                until(lambda app=dashboard: app.http.get("/health").json()["ok"])
                body = {"dataset_id": 1, "model_name": "fake-model", "batch_size": 4}
                dashboard.http.post("/benchmarks/start", json=body).raise_for_status()
            for dashboard in dashboards:
                until(lambda app=dashboard: app.status()["done"] > 0)
            script = {"faults": [{"kind": "hang", "times": 40}]}
            httpx.post(f"{engine}/fake/script", json=script).raise_for_status()
            told = []
            for dashboard in dashboards:
                told.append(dashboard.status()["done"])
            began = time.monotonic()
            for dashboard, (_, how) in zip(dashboards, WAYS, strict=True):
                dashboard.process.send_signal(how)
            for dashboard in dashboards:
                dashboard.process.wait(GRACE_SECONDS + began - time.monotonic())
        finally:
            for dashboard in dashboards:
                dashboard.process.kill()
                dashboard.process.wait()
                dashboard.http.close()
    for dashboard, done in zip(dashboards, told, strict=True):
        log = dashboard.log.read_text()
        assert "Traceback" not in log, log
        assert dashboard.left_behind() == []
        store = open_store(dashboard.store_url)
        run = get_run(store, 1)
        assert run.status == "interrupted", (run.status, run.error)
        assert run.error == "The dashboard was stopped; resume to go on."
        with store.read() as session:
            rows = session.connection().execute(text("SELECT COUNT(*) FROM benchmarkresult"))
            assert done <= run.done == rows.scalar() < run.total
        store.close()


@pytest.fixture(autouse=True)
def own_settings(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("BENCHLIB_", "VLLM_", "STREAMLIT_")):
            monkeypatch.delenv(name)
