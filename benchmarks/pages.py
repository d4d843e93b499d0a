"""How long pages of a finished run of a million answers take: `python3 -m benchmarks.pages`.

Every page is run by Streamlit's AppTest, each in a process of its own, and shown by the real app in
Chromium. Cold is the first run of the page's script in a process; warm are further runs of it;
change is another attribute picked on the open page. The run's panels were warmed, as the dashboard
does at the end of every run; bare is a cold run without them: no panel and no snapshot is
stored, so the page reads the answers from the store and computes. Both clock and processor time
are given: on a machine that has other work to do, only the second means something. In the browser,
script is the run itself, in the server; reported lasts from the browser's request until it reads
that the script has ended, which it does when it has drawn what came before; drawn lasts from the
click until everything is on the screen.
"""

import argparse
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter, process_time, sleep
from typing import Any

from playwright.sync_api import Error as NotReached
from playwright.sync_api import Page, sync_playwright
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

ROOT = Path(__file__).parents[1]
FOLDER = Path(tempfile.gettempdir()) / "benchlib-benchmark"
RUNS = FOLDER / "script-runs.txt"
PAGES = {
    "overview": None,
    "start_run": None,
    "progress": None,
    "runs": None,
    "metrics": "Attribute",
    "omnibus": None,
    "deltas": "Attribute",
    "forest": "Attribute",
    "order_effects": None,
    "answers": None,
    "compare": None,
    "datasets": None,
    "traits": None,
    "engines": None,
}
"""Page -> the picker that `change` uses."""

GOALS_MS = {"cold": 1_500, "warm": 250, "change": 400}
KINDS = (*GOALS_MS, "bare")
IDLE = "[data-testid=stApp][data-test-script-state=notRunning]"
PATIENCE_MS = 60_000


def main() -> None:
    """Measure, and print a table each for AppTest and for the browser."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--personas", type=int, default=30_000, help="33 answers per persona")
    parser.add_argument("--visits", type=int, default=20, help="warm visits per page")
    parser.add_argument("--profile", metavar="PAGE", help="where the browser spends its time there")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child == "prepare":
        prepare(chosen.personas)
        return
    if chosen.child and chosen.child.isdecimal():
        serve(chosen.child)
        return
    if chosen.child:
        run = run_bare if chosen.bare else run_page
        print(json.dumps(run(chosen.child, chosen.visits)))
        return
    os.environ["BENCHLIB_DATA_DIR"] = str(FOLDER)
    os.environ["VLLM_BASE_URL"] = "http://127.0.0.1:9"  # nobody answers there
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, ", end="")
    print(f"Python {platform.python_version()}, {33 * chosen.personas:,} answers")
    os.environ["BENCHLIB_DB_URL"] = in_child("prepare", chosen)["url"]
    if chosen.profile:
        profile(chosen.profile, chosen.visits)
        return
    pages = [page for page in PAGES if (ROOT / "pages" / f"{page}.py").exists()]
    in_apptest = {page: in_child(page, chosen) for page in pages}
    clicked = in_browser(pages, chosen.visits)
    for page in pages:
        in_apptest[page] |= in_child(page, chosen, bare=True)
    show("script run by AppTest", in_apptest, ("clock", "processor"))
    show("in Chromium", clicked, ("script", "reported", "drawn"))
    in_child("prepare", chosen)  # as it was found


def in_child(task: str, chosen: argparse.Namespace, *, bare: bool = False) -> dict[str, Any]:
    """What a fresh process measured."""
    command = [sys.executable, "-m", "benchmarks.pages", "--child", task]
    command += ["--personas", str(chosen.personas), "--visits", str(chosen.visits)]
    command += ["--bare"] if bare else []
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def prepare(n_personas: int) -> None:
    """Build the store where it is missing, and warm its run as the worker does."""
    from benchlib import bootstrap
    from benchlib.infrastructure.cache_warming import stop_warm_cache_jobs
    from benchmarks.store import open_benchmark_store

    store, run_id = open_benchmark_store(n_personas)
    os.environ["BENCHLIB_DB_URL"] = f"sqlite:///{store.database}"
    store.close()
    parts = bootstrap.get_parts()
    began = perf_counter()
    state = parts.service.analysis.start_warm_cache(run_id)
    while state["status"] in ("queued", "running"):
        sleep(0.1)
        state = parts.service.analysis.get_warm_cache(run_id)
    assert state["status"] == "done", state
    print(f"warmed in {perf_counter() - began:.1f} s", file=sys.stderr)
    stop_warm_cache_jobs()
    bootstrap.close(parts)
    print(json.dumps({"url": os.environ["BENCHLIB_DB_URL"]}))


Timing = tuple[float, ...]
"""Milliseconds by each of the clocks that `show` names."""


def run_bare(name: str, visits: int) -> dict[str, list[Timing]]:
    """The first run of a page's script when nothing of the run is cached."""
    from benchlib import bootstrap

    bootstrap.get_service().analysis.clear_cache(1)
    return {"bare": run_page(name, 0)["cold"]}


def run_page(name: str, visits: int) -> dict[str, list[Timing]]:
    """Milliseconds of script runs of one page, in a process that has just started."""
    import logging

    from streamlit.testing.v1 import AppTest

    from benchlib import bootstrap

    logging.disable()  # Streamlit warns of each run outside of its server
    parts = bootstrap.get_parts()

    at = AppTest.from_file(ROOT / "pages" / "navigation.py", default_timeout=60)
    at.switch_page(f"{name}.py")

    def timed(act: Callable[[], Any]) -> Timing:
        began, spent = perf_counter(), process_time()
        act()
        assert not at.exception, at.exception
        return 1000 * (perf_counter() - began), 1000 * (process_time() - spent)

    found = {"cold": [timed(at.run)], "warm": [timed(at.run) for _ in range(visits)], "change": []}
    picker = PAGES[name]
    if picker:
        box = next(box for box in at.selectbox if box.label == picker)
        for option in [option for option in box.options if option != box.value][:visits]:
            box = next(box for box in at.selectbox if box.label == picker)
            found["change"].append(timed(box.select(option).run))
    bootstrap.close(parts)
    return found


def serve(port: str) -> None:
    """The real app, writing the milliseconds of each script run into a file."""
    from streamlit.runtime.scriptrunner.script_runner import ScriptRunner
    from streamlit.web.cli import main as streamlit

    run_script = ScriptRunner._run_script

    def timed(runner: ScriptRunner, *request: Any) -> None:
        began = perf_counter()
        try:
            run_script(runner, *request)
        finally:
            with RUNS.open("a") as file:
                file.write(f"{1000 * (perf_counter() - began)}\n")

    ScriptRunner._run_script = timed  # type: ignore[method-assign]
    RUNS.write_text("")
    streamlit(["run", "app.py", "--server.headless", "true", "--server.port", port])


@contextmanager
def opened_app() -> Iterator[Page]:
    """The real app in a process of its own, and Chromium on its page of engines."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    app = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.pages", "--child", str(port)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
            )
            page = browser.new_page(viewport={"width": 1400, "height": 1000})
            page.set_default_timeout(PATIENCE_MS)
            for _ in range(600):
                try:
                    page.goto(f"http://127.0.0.1:{port}/api/health")
                    break
                except NotReached:  # it does not listen yet
                    page.wait_for_timeout(100)
            page.goto(f"http://127.0.0.1:{port}/engines?run=1")
            rest(page)
            yield page
            browser.close()
    finally:
        app.terminate()
        app.wait()


def in_browser(pages: list[str], visits: int) -> dict[str, dict[str, list[Timing]]]:
    """Milliseconds from a click in the navigation until the script has ended and all is drawn."""
    found: dict[str, dict[str, list[Timing]]] = {
        name: {"cold": [], "warm": [], "change": []} for name in pages
    }
    with opened_app() as page:
        script = ScriptClock(page)
        page.reload()  # so that the clock sees the WebSocket from its beginning
        rest(page)
        script.read()  # the runs until here
        for turn in range(1 + max(3, visits // 4)):
            for name in pages:
                drawn = click_to(page, name)
                found[name]["warm" if turn else "cold"].append((*script.read(), drawn))
                picker = PAGES[name]
                if picker and turn:
                    drawn = change(page, picker)
                    found[name]["change"].append((*script.read(), drawn))
    return found


def profile(name: str, visits: int) -> None:
    """Print where the browser's main thread spends a warm visit of a page, by script file.

    Names in brackets are the browser's own: `(program)` lays out and paints.
    """
    spent: Counter[str] = Counter()
    with opened_app() as page:
        session = page.context.new_cdp_session(page)
        session.send("Profiler.enable")
        click_to(page, name)
        for _ in range(visits):
            click_to(page, "engines")
            page.wait_for_timeout(300)
            session.send("Profiler.start")
            click_to(page, name)
            taken = session.send("Profiler.stop")["profile"]
            frames = {node["id"]: node["callFrame"] for node in taken["nodes"]}
            for node, microseconds in zip(taken["samples"], taken["timeDeltas"], strict=True):
                place = frames[node]["url"].rpartition("/")[2].partition(".")[0]
                native = frames[node]["functionName"]
                spent[place or (native if native.startswith("(") else "(called)")] += microseconds
    total = sum(spent.values())
    print(f"{name}: {total / visits / 1000:.0f} ms a visit, mean of {visits}")
    for place, microseconds in spent.most_common(12):
        print(f"{place:32}{microseconds / visits / 1000:8.0f} ms{microseconds / total:8.0%}")


class ScriptClock:
    """Times whole script runs of a browser's session by the messages that pass its WebSocket.

    The browser's own clock counts, not the moment at which this process hears of a message.
    """

    def __init__(self, page: Page) -> None:
        self._last = 0.0
        self._began = 0.0
        self._n_runs = 0
        session = page.context.new_cdp_session(page)
        session.on("Network.webSocketFrameSent", self._sent)
        session.on("Network.webSocketFrameReceived", self._received)
        session.send("Network.enable")

    def _sent(self, event: dict[str, Any]) -> None:
        message = BackMsg.FromString(content(event))
        if message.HasField("rerun_script") and not message.rerun_script.fragment_id:
            self._began = event["timestamp"]

    def _received(self, event: dict[str, Any]) -> None:
        message = ForwardMsg.FromString(content(event))
        if message.WhichOneof("type") == "script_finished" and (
            message.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY
        ):
            self._last = 1000 * (event["timestamp"] - self._began)

    def read(self) -> tuple[float, float]:
        """Milliseconds of the last run by the server's clock and by the browser's."""
        while len(runs := RUNS.read_text().splitlines()) <= self._n_runs:
            sleep(0.01)  # the server tidies up after its last word
        new, self._n_runs = runs[self._n_runs :], len(runs)
        return max(map(float, new)), self._last


def content(event: dict[str, Any]) -> bytes:
    """What a frame of a WebSocket carries; text frames are not Streamlit's."""
    frame = event["response"]
    return b64decode(frame["payloadData"]) if frame["opcode"] == 2 else b""


def click_to(page: Page, name: str) -> float:
    """Follow a link of the navigation; milliseconds until the page is at rest."""
    path = "/" if name == "overview" else f"/{name}"
    link = page.get_by_test_id("stSidebarNav").locator(f'a[href$="{path}"]').first
    began = perf_counter()
    link.click()
    page.wait_for_url(re.compile(rf"{re.escape(path)}(\?.*)?$"))
    rest(page)
    return 1000 * (perf_counter() - began)


def change(page: Page, picker: str) -> float:
    """Pick the next option of a select box; milliseconds until the page is at rest."""
    box = page.get_by_test_id("stMain").get_by_role("combobox", name=picker)
    chosen = box.input_value()
    options = page.get_by_role("option")
    box.scroll_into_view_if_needed()
    while not options.count():  # a click while the page still moves opens nothing
        box.click()
        page.wait_for_timeout(200)
    names = options.all_inner_texts()
    following = names[(names.index(chosen) + 1) % len(names)] if chosen in names else names[0]
    began = perf_counter()
    page.get_by_role("option", name=following, exact=True).click()
    page.wait_for_function(
        "label => [...document.querySelectorAll('[data-testid=stMain] input')]"
        ".some(box => box.value === label)",
        arg=following,
    )
    rest(page)
    return 1000 * (perf_counter() - began)


def rest(page: Page) -> None:
    """Wait until the script has ended, nothing is stale, and the browser has drawn it."""
    page.wait_for_selector(IDLE, state="attached")
    page.wait_for_function("!document.querySelector('[data-testid=stMain] [data-stale=true]')")
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done)))")


def show(title: str, found: dict[str, dict[str, list[Timing]]], clocks: tuple[str, ...]) -> None:
    """A row a page and clock: 95th percentile and median of each kind; a ! misses its goal."""
    print(f"\n{title + ', ms: p95 (median)':48}" + "".join(f"{kind:>14}" for kind in KINDS))
    for name, measured in found.items():
        for place, clock in enumerate(clocks):
            print(f"{name:36}{clock:12}", end="")
            for kind in KINDS:
                goal = GOALS_MS.get(kind) if clock != "drawn" else None
                values = [timing[place] for timing in measured.get(kind, ())]
                print(f"{summary(values, goal):>14}", end="")
            print()


def summary(values: list[float], goal: float | None) -> str:
    """The value that 95 % do not exceed, with the median."""
    if not values:
        return "–"
    ranked = sorted(values)
    high = ranked[max(0, -(-95 * len(ranked) // 100) - 1)]
    missed = "!" if goal is not None and high > goal else ""
    return f"{high:.0f}{missed} ({median(values):.0f})"


if __name__ == "__main__":
    main()
