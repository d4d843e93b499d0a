"""The real app in its own process, and a browser that looks at it.

`start_app` starts `streamlit run app.py` with its own store, home and port, and hands out an `App`
that can be killed and started again on the same store. `page` is a fresh browser page that fails
its test when the page's script raises or the browser logs an error.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect, sync_playwright

from tests.requirements import require
from tests.samples import HANGS_SECONDS

ROOT = Path(__file__).parents[2]
SECONDS_TO_STOP = 40
PATIENCE_MS = 1_000 * HANGS_SECONDS
BROWSER_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
IDLE = "[data-testid=stApp][data-test-script-state=notRunning]"


class App:
    """The dashboard as a child process; the store stays when it is killed or stopped.

    `place` is the folder it is started in, where Streamlit looks for `.streamlit`.
    """

    def __init__(self, folder, place=ROOT, **environment):
        self.folder = Path(folder)
        self.place = Path(place)
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = []
        home = self.folder / "home"
        home.mkdir(parents=True, exist_ok=True)
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("BENCHLIB_", "VLLM_", "STREAMLIT_"))
        }
        self.environment = {
            **kept,
            "HOME": str(home),
            "BENCHLIB_DATA_DIR": str(self.folder / "data"),
            "VLLM_BASE_URL": "http://127.0.0.1:9",  # nobody answers there
            **environment,
        }
        self._process = None

    def start(self):
        """Start the process; return when it answers."""
        listening = threading.Event()
        command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "app.py")]
        options = ["--server.port", str(self.port), "--server.headless", "true"]
        self._process = subprocess.Popen(
            [*command, *options],
            cwd=self.place,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self._process, listening))
        self._reader.start()
        try:
            # The socket listens when the address is printed; the app is imported after that.
            assert listening.wait(HANGS_SECONDS)
            httpx.get(f"{self.url}/api/health", timeout=HANGS_SECONDS).raise_for_status()
        except (AssertionError, httpx.HTTPError):
            self.stop()
            pytest.fail("The app did not start:\n" + "".join(self.log))
        return self

    def kill(self):
        """SIGKILL: no chance to tidy up."""
        self._end(signal.SIGKILL)

    def stop(self):
        """SIGTERM: leave in order."""
        self._end(signal.SIGTERM)

    def _end(self, how):
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        self._process.stdout.close()
        self._process = None

    def _read(self, process, listening):
        for line in process.stdout:
            self.log.append(line)
            if "URL:" in line:
                listening.set()
        listening.set()  # the process has ended: wake up what waits for it


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def open_browser(playwright):
    """Chromium as installed on the machine."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.fail("Chromium is missing; install it (apt-get install chromium).")
    return playwright.chromium.launch(executable_path=chromium, args=list(BROWSER_FLAGS))


def settled(page):
    """Wait until the page's script has run to its end."""
    page.wait_for_selector(IDLE, state="attached", timeout=PATIENCE_MS)
    return page


@pytest.fixture
def start_app(tmp_path):
    """Gives `start(**environment) -> App`, started; all are stopped at the end."""
    apps = []

    def start(**environment):
        apps.append(App(tmp_path / f"app{len(apps)}", **environment))
        return apps[-1].start()

    yield start
    for app in apps:
        app.stop()


@pytest.fixture(scope="module")
def browser():
    """Not for the session: as long as Playwright is open, this thread has a running event loop."""
    require(shutil.which("chromium") is not None, "Chromium")
    with sync_playwright() as playwright:
        opened = open_browser(playwright)
        yield opened
        opened.close()


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    context.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    opened = context.new_page()
    yield opened
    raised = opened.get_by_test_id("stException").all_inner_texts()
    context.close()
    assert not raised
