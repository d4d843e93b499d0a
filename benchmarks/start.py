"""From the command to the first page: `python3 -m benchmarks.start [--rounds 3]`.

Starts the real dashboard on an empty store and again on the same one, and opens it in Chromium:
seconds until /api/health answers, until the overview can be used, and the processor time of the
dashboard until then. Also the time of `import benchlib` and of its wiring, next to that of pandas.
"""

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter, sleep
from urllib.error import URLError
from urllib.request import urlopen

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[1]
IMPORTS = ("benchlib", "benchlib.bootstrap", "pandas", "streamlit")
PATIENCE = 60  # seconds


def main() -> None:
    """Measure, and print a table of the best round of each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    for name in IMPORTS:
        print(f"import {name:20} {min(import_seconds(name) for _ in range(rounds)):6.2f} s")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        first, second = [], []
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as folder:
                for measured in (first, second):
                    page = browser.new_page()
                    measured.append(start(page, Path(folder)))
                    page.close()
        browser.close()
    print(f"\n{'start':12} {'answers':>9} {'page usable':>12} {'processor':>10}")
    for title, measured in (("first", first), ("second", second)):
        answers, usable, processor = min(measured, key=lambda row: row[1])
        print(f"{title:12} {answers:7.2f} s {usable:10.2f} s {processor:8.2f} s")


def import_seconds(name: str) -> float:
    """Seconds that an interpreter needs for an import, its own start left out."""
    code = (
        f"from time import perf_counter as now; began = now()\nimport {name}\nprint(now() - began)"
    )
    command = [sys.executable, "-c", code]
    return float(subprocess.run(command, capture_output=True, check=True, cwd=ROOT).stdout)


def start(page: Page, folder: Path) -> tuple[float, float, float]:
    """Seconds to the first answer, to a usable page, and of processor time by then."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    began = perf_counter()
    app = subprocess.Popen(
        [
            *(sys.executable, "-m", "streamlit", "run", "app.py"),
            *("--server.headless", "true", "--server.port", str(port)),
        ],
        cwd=ROOT,
        env={**os.environ, "BENCHLIB_DATA_DIR": str(folder), "HOME": str(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not answers(url):
            if app.poll() is not None or perf_counter() - began > PATIENCE:
                sys.exit("The dashboard did not start.")
            sleep(0.02)
        answered = perf_counter() - began
        page.goto(url)
        page.get_by_role("button", name="Start").first.wait_for(timeout=PATIENCE * 1000)
        return answered, perf_counter() - began, processor_seconds(app.pid)
    finally:
        app.terminate()
        app.wait()


def answers(url: str) -> bool:
    """Whether the dashboard answers by now."""
    try:
        with urlopen(f"{url}/api/health", timeout=PATIENCE) as answer:
            return answer.status == 200
    except (URLError, ConnectionError):
        return False


def processor_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
