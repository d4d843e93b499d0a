"""What asking costs in addition to the model: `python3 -m benchmarks.asking [PART ...]`.

Runs of the real executor against `tests/fake_vllm.py` in processes of their own, so that the
measurements are those of benchlib and not of a model. Every part prints a table with its ratios and
goals; without a name all parts run, in about five minutes.
"""

import argparse
import os
import platform
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from time import monotonic, sleep

from benchlib.infrastructure.storage import runs
from benchlib.infrastructure.storage.database import open_store
from benchmarks.asking_runs import (
    N_PERSONAS,
    Measured,
    add_run,
    bare_loop,
    fill_but,
    in_own_process,
    measure_resume,
    run_once,
    status,
    store_file,
    working,
)
from tests.fake_vllm import fake_vllm_process
from tests.postgres import find_initdb, fresh_database, postgres_cluster


def main() -> None:
    """Measure, print."""
    parts: dict[str, Callable[[], None]] = {
        "rate": rate,
        "plan": plan,
        "resume": resume,
        "addresses": addresses,
        "workers": workers,
    }
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="*", choices=[[], *parts], help="all if none is named")
    chosen = parser.parse_args()
    print(f"{datetime.now(UTC):%d %B %Y}, {platform.machine()}, {os.cpu_count()} cores, ", end="")
    print(f"load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}")
    for name in chosen.part or parts:
        parts[name]()


# -- the parts ------------------------------------------------------------------------------------


def rate() -> None:
    """Items per second and processor time per item, compared with a bare loop."""
    with fake_vllm_process() as address:
        bare_rate, bare_cpu = in_own_process(bare_loop, address, 60_000)
    rows = [("bare loop, nothing stored", bare_rate, bare_cpu)]
    with fake_vllm_process() as address, store_file() as url:
        rows.append(_rate_row("SQLite", run_once(url, N_PERSONAS, address)))
    with fake_vllm_process("--latency", "0.05") as address, store_file() as url:
        rows.append(_rate_row("SQLite, 50 ms latency", run_once(url, N_PERSONAS, address)))
    initdb = find_initdb()
    if initdb is not None:
        with (
            postgres_cluster(initdb, fsync=True) as server,
            fake_vllm_process() as address,
        ):
            rows.append(
                _rate_row("PostgreSQL", run_once(fresh_database(server), N_PERSONAS, address))
            )
    print(f"\n{'rate':28}{'items/s':>10}{'of bare':>9}{'of SQLite':>11}{'CPU ms/item':>13}")
    for name, per_second, cpu in rows:
        print(
            f"{name:28}{per_second:>10,.0f}{per_second / bare_rate:>9.2f}"
            f"{per_second / rows[1][1]:>11.2f}{cpu:>13.3f}"
        )
    print("goals: SQLite 10,000/s at 0.09 ms, the same with latency; PostgreSQL 0.7 of SQLite")


def plan() -> None:
    """A plan of ten million: its start and its memory."""
    with fake_vllm_process() as address, store_file() as url:
        found = run_once(url, 100_000, address, stop_after=200_000, with_app=True)
    grown = found["peak"] - found["idle"]
    later = max(0.0, found["peak"] - found["half"])
    print(
        f"\nplan of 10,000,000 items: first request after {found['first_request']:.2f} s (goal 2); "
        f"first {found['items']:,} items: {found['idle']:.0f} MB idle, {grown:.0f} MB more at most "
        f"(goal 300), {later:.1f} of them in the second half"
    )


def resume() -> None:
    """A run of a million with a thousand missing at its end; progress of an active one."""
    with store_file() as url:
        store = open_store(url)
        run_id = add_run(store, 10_000, "http://127.0.0.1:9", dual_fraction=0.0)
        missing = fill_but(store, run_id, 1_000)
        store.close()
        keys, first, status = in_own_process(measure_resume, url, run_id, missing)
    print(
        f"\nresume of 999,000 results: keys {keys:.2f} s, first missing item {first:.2f} s, "
        f"together {keys + first:.2f} s (goal 2); bench_status {status * 1000:.2f} ms (goal 5)"
    )


def addresses() -> None:
    """Two servers of equal speed compared with one."""
    limits = ("--latency", "0.2", "--set", "endpoints=4")
    rates = []
    for count in (1, 2):
        with ExitStack() as stack, store_file() as url:
            fakes = [stack.enter_context(fake_vllm_process(*limits)) for _ in range(count)]
            found = run_once(url, 100 * count, ",".join(fakes))
            rates.append(found["items"] / found["seconds"])
    print(
        f"\naddresses: one {rates[0]:,.0f} items/s, two {rates[1]:,.0f}: "
        f"{rates[1] / rates[0]:.2f} times (goal 1.9)"
    )


def workers() -> None:
    """Two worker processes on one PostgreSQL store against one; each run has its own server."""
    initdb = find_initdb()
    if initdb is None:
        print("\nworkers: PostgreSQL is missing")
        return
    limits = ("--latency", "0.2", "--set", "endpoints=4")
    rates = []
    with postgres_cluster(initdb, fsync=True) as server, ExitStack() as stack:
        fakes = [stack.enter_context(fake_vllm_process(*limits)) for _ in range(2)]
        for count in (1, 2):
            url = fresh_database(server)
            store = open_store(url)
            ids = [add_run(store, 200, fake, name=fake) for fake in fakes]
            began = monotonic()
            with working(url, count):
                while any(status(store, run_id) != "done" for run_id in ids):
                    sleep(0.02)
            seconds = monotonic() - began
            with store.read() as session:
                items = sum(runs.get_run(session, run_id).done for run_id in ids)
            store.close()
            rates.append(items / seconds)
    print(
        f"\nworkers: one {rates[0]:,.0f} items/s, two {rates[1]:,.0f}: "
        f"{rates[1] / rates[0]:.2f} times (goal 1.8)"
    )


def _rate_row(name: str, found: Measured) -> tuple[str, float, float]:
    return name, found["items"] / found["seconds"], 1000 * found["cpu"] / found["items"]


if __name__ == "__main__":
    main()
