"""The real app as a process that a test may stop or kill."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

from tests.samples import HANGS_SECONDS

ROOT = Path(__file__).parents[2]
PORT = "{port}"
STREAMLIT = ("streamlit", "run", "app.py", "--server.headless", "true", "--server.port", PORT)
UVICORN = ("uvicorn", "app:app", "--port", PORT)


class Dashboard:
    """The real app in a session of its own, on a store of its own unless one is named."""

    def __init__(self, folder, engine, command=STREAMLIT, store_url=None):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.store_url = store_url or f"sqlite:///{folder / 'benchlib.db'}"
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
                    "BENCHLIB_DB_URL": self.store_url,
                    "VLLM_BASE_URL": engine,
                },
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}/api", timeout=HANGS_SECONDS)

    def status(self):
        return self.http.get("/benchmarks/1/status").json()

    def left_behind(self):
        """Processes of the app's session that are alive."""
        stats = (path.read_text() for path in Path("/proc").glob("[0-9]*/stat") if path.exists())
        fields = (stat.rpartition(")")[2].split() for stat in stats)
        return [f for f in fields if f[3] == str(self.process.pid) and f[0] not in "ZX"]


def until(condition, seconds=HANGS_SECONDS):
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
