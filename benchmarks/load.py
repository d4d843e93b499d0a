"""Fifty people and two runs at once: `python3 -m benchmarks.load [--minutes 30] [--sessions 50]`.

Two dashboards on one store of a million answers each execute a run of the simulated rater at a
settled speed, while sessions of Streamlit's own WebSocket protocol click through the pages of the
first: as browsers do, fragments that refresh themselves included, but without drawing. Prints the
time of a page and the speed of the runs, loaded and unloaded, and the memory of the dashboard
minute by minute; ends non-zero after any error, lost answer or memory that keeps growing.
"""

import argparse
import asyncio
import os
import platform
import random
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from socket import socket
from statistics import median
from time import monotonic

import aiohttp
from streamlit.proto.Alert_pb2 import Alert
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.Element_pb2 import Element
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

ROOT = Path(__file__).parents[1]
PAGES = (
    ("", "run=1"),
    ("progress", "run=2"),
    ("runs", ""),
    ("metrics", "run=1"),
    ("metrics", "run=1&attribute=attribute_5"),
    ("omnibus", "run=1"),
    ("deltas", "run=1"),
    ("forest", "run=1"),
    ("order_effects", "run=1"),
    ("answers", "run=1"),
    ("datasets", ""),
    ("traits", ""),
)
"""Page and query of the clicks."""

ITEMS_PER_SECOND = 1_000
"""Speed of each run: that of an engine, so that not this machine is the limit."""
PATIENCE = 120  # seconds for one page
GROWTH = 1.25
"""Memory at the end over memory after a third of the time: more is a leak."""

SETTLED_SECONDS = 120
"""How long a measurement must be for growth to mean anything: at first, caches fill."""

MOST_MIB = 2_000
"""What a dashboard may take at any time."""


@dataclass
class Watch:
    """What the sessions saw: seconds of page runs, errors, and memory of the dashboard in MiB."""

    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)


@dataclass
class Dashboard:
    """A running app."""

    url: str
    pid: int


def main() -> None:
    """Measure, print, and end non-zero where something went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=3, help="of the loaded part")
    parser.add_argument("--think", type=float, default=6, help="mean seconds between clicks")
    parser.add_argument("--personas", type=int, default=30_000, help="33 answers per persona")
    chosen = parser.parse_args()
    print(f"{datetime.now(UTC):%d %B %Y}, {platform.machine()}, {os.cpu_count()} cores, ", end="")
    print(f"load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}")
    print(
        f"{33 * chosen.personas:,} answers, {chosen.sessions} sessions, {chosen.minutes:g} minutes"
    )
    with tempfile.TemporaryDirectory() as folder:
        problems = put_load(
            Path(folder), chosen.personas, chosen.sessions, 60 * chosen.minutes, chosen.think
        )
    sys.exit("\n".join(problems) or None)


def put_load(
    folder: Path,
    personas: int,
    sessions: int,
    seconds: float,
    think: float,
    *,
    quiet_seconds: float = 10,
    rounds: int = 3,
) -> list[str]:
    """Measure and print; returns what went wrong.

    Args:
        folder: Empty; stores and logs go there.
        personas: Of the finished run, with 33 answers each.
        sessions: That click at once.
        seconds: For how long they click, and how long the runs last meanwhile.
        think: Mean seconds between two clicks of a session.
        quiet_seconds: Length of the runs that have the dashboards to themselves.
        rounds: Through all pages, of the session that has the dashboards to itself.
    """
    made = prepare(personas, (quiet_seconds, seconds), folder)
    with dashboards(2, folder) as apps:
        problems = asyncio.run(measure(apps, folder, made, sessions, seconds, think, rounds))
    lines = (folder / "apps.log").read_text().splitlines()
    places = [place for place, line in enumerate(lines) if line.startswith("Traceback")]
    return problems + ["\n".join(lines[place : place + 40]) for place in places[:3]]


def prepare(n_personas: int, seconds: Sequence[float], folder: Path) -> list[int]:
    """A store with one finished run whose panels are warm, in a folder of its own.

    Returns:
        The datasets for runs that take so many seconds each.
    """
    from benchlib import bootstrap
    from benchlib.domain.material.personas import PersonaDraft
    from benchlib.infrastructure.storage import datasets
    from benchlib.settings import Settings
    from benchmarks.store import N_TRAITS, open_benchmark_store

    store, run_id = open_benchmark_store(n_personas)
    with sqlite3.connect(store.database) as source, sqlite3.connect(folder / "benchlib.db") as copy:
        source.backup(copy)
    source.close()
    copy.close()
    store.close()
    parts = bootstrap.build(Settings(data_dir=folder))
    state = parts.service.analysis.start_warm_cache(run_id)
    while state["status"] in ("queued", "running"):
        state = parts.service.analysis.get_warm_cache(run_id)
    assert state["status"] == "done", state
    made = []
    for length in seconds:
        drafts = [
            PersonaDraft(f"{length:.0f}-{i}", {"group": "ab"[i % 2]})
            for i in range(max(1, round(length * ITEMS_PER_SECOND / N_TRAITS)))
        ]
        with parts.store.write() as session:
            name = f"for {length:.0f} s"
            made.append(
                datasets.add_dataset(
                    session, name, "imported", drafts, parameters={}, now=datetime.now(UTC)
                )
            )
    bootstrap.close(parts)
    return made


@contextmanager
def dashboards(count: int, folder: Path) -> Iterator[list[Dashboard]]:
    """Real apps on one store, as `streamlit run` starts them."""
    environment = {
        **os.environ,
        "BENCHLIB_DATA_DIR": str(folder),
        "HOME": str(folder),
        "VLLM_BASE_URL": "http://127.0.0.1:9",  # nobody answers there
    }
    apps, processes = [], []
    with (folder / "apps.log").open("w") as log:
        try:
            for _ in range(count):
                with socket() as probe:
                    probe.bind(("127.0.0.1", 0))
                    port = probe.getsockname()[1]
                command = [sys.executable, "-m", "streamlit", "run", "app.py"]
                command += ["--server.headless", "true", "--server.port", str(port)]
                started = subprocess.Popen(
                    command, cwd=ROOT, env=environment, stdout=log, stderr=log
                )
                processes.append(started)
                apps.append(Dashboard(f"http://127.0.0.1:{port}", started.pid))
            yield apps
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()


async def measure(
    apps: Sequence[Dashboard],
    folder: Path,
    made: Sequence[int],
    sessions: int,
    seconds: float,
    think: float,
    rounds: int,
) -> list[str]:
    """Unloaded pages, an unloaded run, then all at once; returns what went wrong."""
    async with aiohttp.ClientSession() as http:
        for app in apps:
            await until_it_answers(http, app)
        alone = Watch()
        await click(http, apps[0], alone, rounds=rounds, think=0.0)
        idle = memory_mib(apps[0].pid)
        quiet_rate = await speed_of_runs(http, apps, made[0])
        loaded = Watch()
        runs = asyncio.create_task(speed_of_runs(http, apps, made[1]))
        clicking = [
            asyncio.create_task(
                click(http, apps[0], loaded, until=monotonic() + seconds, think=think)
            )
            for _ in range(sessions)
        ]
        memory = asyncio.create_task(watch_memory(apps[0].pid, loaded))
        await asyncio.gather(*clicking)
        loaded_rate = await runs
        memory.cancel()
    print(f"\n{'':24}{'pages':>8}{'median':>10}{'p95':>10}{'items/s of both runs':>24}")
    for title, watch, rate in (("alone", alone, quiet_rate), ("together", loaded, loaded_rate)):
        print(
            f"{title:24}{len(watch.seconds):>8}{median(watch.seconds):>8.3f} s"
            f"{p95(watch.seconds):>8.3f} s{rate:>24,.0f}"
        )
    third = loaded.memory[len(loaded.memory) // 3]
    print(
        f"memory of the dashboard: {idle:.0f} MiB before, {third:.0f} after a third, "
        f"{max(loaded.memory):.0f} at most, {loaded.memory[-1]:.0f} MiB at the end"
    )
    each = max(1, len(loaded.memory) // 30)
    print("over time, MiB: " + " ".join(f"{value:.0f}" for value in loaded.memory[::each]))
    problems = alone.errors + loaded.errors + lost_answers(folder / "benchlib.db")
    if seconds >= SETTLED_SECONDS and loaded.memory[-1] > GROWTH * third:
        problems.append("The memory of the dashboard keeps growing.")
    if max(loaded.memory) > MOST_MIB:
        problems.append(f"The dashboard took {max(loaded.memory):.0f} MiB.")
    return problems


async def until_it_answers(http: aiohttp.ClientSession, app: Dashboard) -> None:
    """Wait for a dashboard to be up."""
    last = monotonic() + PATIENCE
    while True:
        try:
            async with http.get(f"{app.url}/api/health") as answer:
                if answer.status == 200:
                    return
        except aiohttp.ClientConnectionError:
            pass
        assert monotonic() < last, "The dashboard does not answer."
        await asyncio.sleep(0.05)


async def speed_of_runs(
    http: aiohttp.ClientSession, apps: Sequence[Dashboard], dataset_id: int
) -> float:
    """Start a run per dashboard, wait for their ends, return answers per second of all."""
    api = f"{apps[0].url}/api"
    began, ids = monotonic(), []
    async with http.get(f"{api}/runs/1") as answer:
        trait_ids = (await answer.json())["config"]["trait_ids"]
    for seed in range(len(apps)):
        body = {
            "dataset_id": dataset_id,
            "trait_ids": trait_ids,
            "llm": "simulated",
            "dual_fraction": 0.0,
            "seed": seed,
            "simulated_items_per_second": ITEMS_PER_SECOND,
        }
        async with http.post(f"{api}/benchmarks/start", json=body) as answer:
            assert answer.status < 300, await answer.text()
            ids.append((await answer.json())["run_id"])
    n_results = 0
    for run_id in ids:
        while True:
            async with http.get(f"{api}/runs/{run_id}") as answer:
                run = await answer.json()
            if run["status"] not in ("queued", "running"):
                break
            await asyncio.sleep(0.5)
        assert run["status"] == "done", run
        n_results += run["n_results"]
    return n_results / (monotonic() - began)


async def watch_memory(pid: int, watch: Watch) -> None:
    """Note the memory of a process every second."""
    while True:
        watch.memory.append(memory_mib(pid))
        await asyncio.sleep(1)


async def click(
    http: aiohttp.ClientSession,
    app: Dashboard,
    watch: Watch,
    *,
    rounds: int | None = None,
    until: float = float("inf"),
    think: float,
) -> None:
    """One person: opens a page, reads, opens the next, for some rounds or some time."""
    order = random.Random(id(watch) ^ len(watch.errors))
    async with connected(http, app) as person:
        await asyncio.sleep(order.uniform(0, think))
        turn = 0
        while monotonic() < until and (rounds is None or turn < rounds * len(PAGES)):
            name, query = PAGES[turn % len(PAGES)] if rounds else order.choice(PAGES)
            began = monotonic()
            problem = await person.open(name, query)
            watch.seconds.append(monotonic() - began)
            if problem:
                watch.errors.append(f"{name}?{query}: {problem}")
            await person.read(order.expovariate(1 / think) if think else 0.0)
            turn += 1


class Person:
    """A session: what a browser tab sends and receives, without drawing it."""

    def __init__(self, socket_: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket_
        self._page = ("", "")
        self._refreshing: dict[str, float] = {}

    async def open(self, name: str, query: str) -> str | None:
        """Run a page to its end; returns what it showed as an error."""
        self._page = (name, query)
        self._refreshing = {}
        return await self._run()

    async def read(self, seconds: float) -> None:
        """Stay on the page; what refreshes itself does so."""
        end = monotonic() + seconds
        while monotonic() < end:
            pause = min([*self._refreshing.values(), end - monotonic()])
            await asyncio.sleep(max(0.0, pause))
            if monotonic() < end:
                for fragment in list(self._refreshing):
                    await self._run(fragment)

    async def _run(self, fragment: str = "") -> str | None:
        asked = BackMsg()
        asked.rerun_script.page_name, asked.rerun_script.query_string = self._page
        asked.rerun_script.fragment_id = fragment
        asked.rerun_script.is_auto_rerun = bool(fragment)
        asked.rerun_script.context_info.timezone = "UTC"
        await self._socket.send_bytes(asked.SerializeToString())
        problem = None
        async with asyncio.timeout(PATIENCE):
            while True:
                answer = await self._socket.receive()
                if answer.type is not aiohttp.WSMsgType.BINARY:
                    return f"the session ended: {answer.type.name}"
                message = ForwardMsg.FromString(answer.data)
                kind = message.WhichOneof("type")
                element = message.delta.new_element if kind == "delta" else Element()
                if element.WhichOneof("type") == "exception":
                    problem = element.exception.message or "an exception"
                elif element.WhichOneof("type") == "alert" and element.alert.format == Alert.ERROR:
                    problem = element.alert.body
                elif kind == "page_not_found":
                    problem = "page not found"
                elif kind == "auto_rerun":
                    self._refreshing[message.auto_rerun.fragment_id] = message.auto_rerun.interval
                elif (  # a run that ended early is followed by the one that took its place
                    kind == "script_finished"
                    and message.script_finished != ForwardMsg.FINISHED_EARLY_FOR_RERUN
                ):
                    return problem


@asynccontextmanager
async def connected(http: aiohttp.ClientSession, app: Dashboard) -> AsyncIterator[Person]:
    """A session with a dashboard."""
    address = f"{app.url.replace('http', 'ws', 1)}/_stcore/stream"
    async with http.ws_connect(address, protocols=("streamlit",), max_msg_size=0) as socket_:
        yield Person(socket_)


def lost_answers(database: Path) -> list[str]:
    """Runs whose counts do not agree with their answers."""
    with sqlite3.connect(database) as connection:
        rows = connection.execute(
            "SELECT r.id, r.total, r.done, (SELECT COUNT(*) FROM benchmarkresult b "
            "WHERE b.run_id = r.id) FROM benchmarkrun r"
        ).fetchall()
    connection.close()
    return [f"Run {row[0]} has lost answers: {row[1:]}." for row in rows if len({*row[1:]}) > 1]


def memory_mib(pid: int) -> float:
    """Resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def p95(values: Sequence[float]) -> float:
    """The value that 95 % do not exceed."""
    return sorted(values)[max(0, -(-95 * len(values) // 100) - 1)]


if __name__ == "__main__":
    main()
