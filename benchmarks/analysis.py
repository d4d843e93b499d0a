"""How long the analysis of a run takes: `python3 -m benchmarks.analysis`.

Builds stores of 30 thousand to 3 million answers (in the temporary directory, once), measures each
in a process of its own, and prints a table with both clock and processor time: on a machine that
has other work to do, only the second means something.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

from benchlib.application.analysis import answer_panels, detail_panels, group_panels

# One thread of linear algebra: on few cores several wait for each other, and the tables are small.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

SCALES = {"30k": 909, "300k": 9_091, "1M": 30_000, "3M": 90_000}
GOALS = {"load cold": 2.5, "load from snapshot": 0.15, "all panels": 4.0, "cached panel": 0.01}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--personas", type=int, help="one size only; 33 answers per persona")
    parser.add_argument("--no-row-level", action="store_true", help="leave out the comparison")
    parser.add_argument("--child", choices=["ours", "row-level"], help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        measure = measure_ours if chosen.child == "ours" else measure_row_level
        print(json.dumps(measure(chosen.personas)))
        return
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, ", end="")
    print(f"Python {platform.python_version()}\n")
    scales = {"chosen": chosen.personas} if chosen.personas else SCALES
    found = {name: _in_child("ours", personas) for name, personas in scales.items()}
    largest = "1M" if "1M" in found else next(iter(found))
    _print_steps(largest, found[largest])
    if len(found) > 1:
        _print_scaling(found)
    if not chosen.no_row_level:
        _print_comparison(found[largest], _in_child("row-level", scales[largest]))


def measure_ours(n_personas: int) -> dict[str, Any]:
    """Measure one size, in a process that did nothing before."""
    from benchlib.application.benchmark_service import BenchmarkService
    from benchlib.infrastructure.loading import data_loader
    from benchlib.infrastructure.storage import runs
    from benchlib.settings import Settings
    from benchmarks.store import open_benchmark_store

    store, run_id = open_benchmark_store(n_personas)
    folder = Path(tempfile.mkdtemp(prefix="benchlib-benchmark-"))
    service = BenchmarkService(store, None, Settings(data_dir=folder))
    for _ in range(2):  # what an earlier measurement left
        service.analysis.clear_cache(run_id)
    data_loader._PERSONAS.clear()
    with store.read() as session:
        run = runs.get_run(session, run_id)
    steps: dict[str, tuple[float, float]] = {}

    def note(name: str, compute: Callable[[], Any]) -> Any:
        began, spent = perf_counter(), process_time()
        value = compute()
        steps[name] = perf_counter() - began, process_time() - spent
        return value

    base = _peak_mb()
    snapshots = folder / "snapshots"
    loaded = note("load cold", lambda: data_loader.load_run_cached(store, run))
    data_loader.forget_all_runs()
    data_loader.load_run_cached(store, run, snapshots)
    data_loader.forget_all_runs()
    del loaded
    note("load from snapshot", lambda: data_loader.load_run_cached(store, run, snapshots))
    answers = data_loader.load_run_cached(store, run, snapshots).grid.n_answers
    panels: dict[str, Callable[[], Any]] = {
        "metrics": lambda: service.get_metrics(run_id),
        "means": lambda: service.analysis.get_panel(answer_panels.all_means, run_id),
        "deltas, all, 2,000 permutations": lambda: service.analysis.get_panel(
            group_panels.all_deltas, run_id
        ),
        "forests, all": lambda: service.analysis.get_panel(group_panels.all_forests, run_id),
        "omnibus": lambda: service.analysis.get_panel(group_panels.omnibus, run_id),
        "omnibus by trait category": lambda: service.analysis.get_panel(
            group_panels.omnibus_by_category, run_id
        ),
        "order effects": lambda: service.get_order_metrics(run_id),
    }
    for name, compute in panels.items():
        note(name, compute)
    steps["all panels"] = (
        sum(steps[name][0] for name in panels),
        sum(steps[name][1] for name in panels),
    )
    further: dict[str, Callable[[], Any]] = {
        "health": lambda: service.analysis.get_panel(answer_panels.data_quality, run_id),
        "forest, one": lambda: service.get_forest(run_id, "attribute_9"),
        "response styles": lambda: service.analysis.get_panel(detail_panels.styles, run_id),
        "adjusted deltas": lambda: service.analysis.get_panel(
            detail_panels.adjusted_deltas, run_id
        ),
        "variance components": lambda: service.analysis.get_panel(
            detail_panels.variance_components, run_id
        ),
        "distributions": lambda: service.analysis.get_panel(detail_panels.distributions, run_id),
    }
    peak = _peak_mb()
    for name, compute in further.items():
        note(name, compute)
    cached = {
        "deltas": lambda: service.get_deltas(run_id, "attribute_9"),
        "forest": lambda: service.get_forest(run_id, "attribute_9"),
        "metrics": lambda: service.get_metrics(run_id),
        "order effects": lambda: service.get_order_metrics(run_id),
        "omnibus": lambda: service.analysis.get_panel(group_panels.omnibus, run_id),
        "health": lambda: service.analysis.get_panel(answer_panels.data_quality, run_id),
    }
    times: list[tuple[float, float]] = []
    for compute in cached.values():
        for _ in range(9):
            began, spent = perf_counter(), process_time()
            compute()
            times.append((perf_counter() - began, process_time() - spent))
    steps["cached panel"] = median(t[0] for t in times), median(t[1] for t in times)
    store.close()
    shutil.rmtree(folder)
    return {
        "answers": answers,
        "steps": steps,
        "before_mb": base,
        "peak_mb": peak,
        "peak_all_mb": _peak_mb(),
    }


def measure_row_level(n_personas: int) -> dict[str, Any]:
    """Measure the row-level way on the same data."""
    import warnings

    from benchlib.domain.stats.permutation import DEFAULT_N_PERM
    from benchmarks import row_level
    from benchmarks.store import CATEGORIES, open_benchmark_store

    warnings.simplefilter("ignore")
    store, _ = open_benchmark_store(n_personas)
    attributes = [f"attribute_{number}" for number in range(1, len(CATEGORIES) + 1)]
    steps: dict[str, tuple[float, float]] = {}
    with store.read() as session:
        began, spent = perf_counter(), process_time()
        frame = row_level.load(session.connection())
        steps["load"] = perf_counter() - began, process_time() - spent
    for name, compute, factor in row_level.panels(frame, attributes, DEFAULT_N_PERM):
        began, spent = perf_counter(), process_time()
        compute()
        steps[name] = factor * (perf_counter() - began), factor * (process_time() - spent)
    store.close()
    return {"answers": len(frame), "steps": steps, "peak_mb": _peak_mb()}


def _in_child(kind: str, personas: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.analysis", "--child", kind]
    done = subprocess.run(
        [*command, "--personas", str(personas)], stdout=subprocess.PIPE, text=True, check=True
    )
    *words, last = done.stdout.strip().splitlines()
    for line in words:
        print(line)
    return dict(json.loads(last))


def _print_steps(name: str, found: dict[str, Any]) -> None:
    print(
        f"\n{name}: {found['answers']:,} answers{'clock s':>22} {'processor s':>12} {'goal s':>8}"
    )
    for step, (clock, processor) in found["steps"].items():
        goal = f"{GOALS[step]:8g}" if step in GOALS else ""
        print(f"  {step:<34} {clock:8.3f} {processor:12.3f} {goal}")
    print(
        f"  peak memory {found['peak_mb']:.0f} MB after the panels above (goal 800), "
        f"{found['peak_all_mb']:.0f} MB with the others; {found['before_mb']:.0f} MB at the start"
    )


def _print_scaling(found: dict[str, dict[str, Any]]) -> None:
    print("\nscaling, processor s" + "".join(f"{name:>9}" for name in found))
    for step in ("load cold", "load from snapshot", "all panels"):
        print(f"  {step:<20}" + "".join(f"{f['steps'][step][1]:9.3f}" for f in found.values()))
    print("  us per answer       ", end="")
    for each in found.values():
        spent = each["steps"]["load cold"][1] + each["steps"]["all panels"][1]
        print(f"{1e6 * spent / each['answers']:9.2f}", end="")
    print("\n  peak MB             " + "".join(f"{f['peak_mb']:9.0f}" for f in found.values()))


def _print_comparison(ours: dict[str, Any], rows: dict[str, Any]) -> None:
    same = {
        "load": "load cold",
        "metrics": "metrics",
        "omnibus": "omnibus",
        "order effects": "order effects",
        "forest (largest attribute)": "forest, one",
    }
    print(f"\nrow by row, on the same data (processor s){'rows':>14} {'ours':>9} {'ratio':>7}")
    for step, (_, spent) in rows["steps"].items():
        mine = ours["steps"].get(same.get(step, ""), (None, None))[1]
        if mine is None:
            print(f"  {step:<46} {spent:9.2f}")
        else:
            print(f"  {step:<46} {spent:9.2f} {mine:9.3f} {spent / mine:7.0f}")
    of_largest = rows["steps"]["deltas (largest attribute)"][1] + sum(
        spent for step, (_, spent) in rows["steps"].items() if step.startswith("its permutations")
    )
    mine = ours["steps"]["deltas, all, 2,000 permutations"][1]
    print(
        f"  {'deltas: one attribute row by row, ours all nine':<46} {of_largest:9.2f} {mine:9.3f} "
        f"{of_largest / mine:7.0f}"
    )
    print(f"  peak memory {rows['peak_mb']:.0f} MB, ours {ours['peak_mb']:.0f} MB")


def _peak_mb() -> float:
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(kilobytes) / (1024 * 1024 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
