"""Real vLLM, asked in three ways: `python3 -m benchmarks.real_engine [--model FOLDER]`.

The same prompts go (a) through the dashboard's own service to a vLLM server, (b) through vLLM's
own offline `LLM.chat`, all at once: the most this engine can do on this machine, and (c) as the
predecessor asked: text completion, 192 tokens, JSON requested for, 20 threads. Two models: the
one named (SmolLM2-135M-Instruct as `.ci/vllm-env` makes it), and one of two layers with random
weights and the same tokenizer, where what surrounds the model shows. (a) and (b) take turns, each
with an empty prefix cache. Prints items per second and the ratios.

Needs the environment that `.ci/vllm-env` makes; `BENCHLIB_CACHE` says where it is.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from urllib.request import Request, urlopen

from benchlib import bootstrap
from benchlib.application.commands import StartBenchmark
from benchlib.domain.asking.prompts import PromptBook
from benchlib.domain.asking.work_plan import CompletedKeys, work_plan
from benchlib.domain.records import Question
from benchlib.infrastructure.engines.vllm_server import VllmServer
from benchlib.infrastructure.storage import datasets, traits
from benchlib.settings import Settings

CACHE = Path(os.environ.get("BENCHLIB_CACHE") or Path.home() / ".cache" / "benchlib")
PYTHON = CACHE / "vllm-env" / "bin" / "python"
ENGINE = {
    "dtype": "float32",
    "enforce_eager": True,
    "gpu_memory_utilization": 0.4,
    "block_size": 32,
    "max_model_len": 4096,
}
"""How vLLM runs on a CPU, offline as in the managed server."""

READY_SECONDS = 600
N_TRAITS = 30
OLD_THREADS = 20
OLD_TOKENS = 192
OLD_WISH = (
    '\nAnswer as JSON: {"rationale": "one sentence", "rating": a whole number from 1 to 5}\nJSON:'
)

MAKE_TINY = """
import sys, torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
source, target = sys.argv[1:]
config = AutoConfig.from_pretrained(source)
config.num_hidden_layers = 2
torch.manual_seed(0)
AutoModelForCausalLM.from_config(config).save_pretrained(target)
AutoTokenizer.from_pretrained(source).save_pretrained(target)
"""

ASK_OFFLINE = """
import json, sys
from time import perf_counter
from vllm import LLM, SamplingParams
if __name__ == "__main__":
    order = json.load(sys.stdin)
    llm = LLM(order["model"], disable_log_stats=True, **order["engine"])
    tokenizer = llm.get_tokenizer()
    ids = [tokenizer.encode(digit, add_special_tokens=False)[0] for digit in "12345"]
    how = SamplingParams(max_tokens=1, temperature=0, logprob_token_ids=ids)
    llm.chat(order["warm_up"], how, use_tqdm=False)
    llm.reset_prefix_cache()
    began = perf_counter()
    replies = llm.chat(order["conversations"], how, use_tqdm=False)
    seconds = perf_counter() - began
    assert all(set(ids) <= set(reply.outputs[0].logprobs[0]) for reply in replies)
    print(json.dumps(seconds), file=sys.stderr)
    open(order["answer"], "w").write(json.dumps(seconds))
"""


@dataclass(frozen=True)
class Rate:
    """Items per second, processor milliseconds per item in this process, and what was seen."""

    per_second: float
    processor_ms: float = 0.0
    remark: str = ""


def main() -> None:
    """Measure both models and print a table for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=CACHE / "smollm2")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--items", type=int, default=600, help="for the model; 0 = none")
    parser.add_argument(
        "--tiny-items", type=int, default=6_000, help="for the two layers; 0 = none"
    )
    parser.add_argument("--old-items", type=int, default=40, help="asked as the predecessor did")
    chosen = parser.parse_args()
    if not PYTHON.exists():
        sys.exit("There is no vLLM environment; run .ci/vllm-env first.")
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, ", end="")
    print(f"Python {platform.python_version()}, {datetime.now(UTC):%d %B %Y}")
    with tempfile.TemporaryDirectory() as folder:
        tiny = Path(folder) / "two-layers"
        run_python(MAKE_TINY, [str(chosen.model), str(tiny)])
        for model, n_items, n_old in (
            (tiny, chosen.tiny_items, 0),
            (chosen.model, chosen.items, chosen.old_items),
        ):
            if n_items:
                measure(model, n_items, n_old, chosen.rounds, Path(folder))


def measure(model: Path, n_items: int, n_old: int, rounds: int, folder: Path) -> None:
    """One model's table."""
    offline, service, old = [], [], []
    for number in range(rounds):
        data = folder / f"{model.name}-{number}"
        with dashboard(data, n_items) as (parts, dataset_id, questions):
            offline.append(ask_offline(model, questions, folder))
            server = VllmServer.start(
                str(model),
                python_executable=str(PYTHON),
                extra_args=["--max-model-len", str(ENGINE["max_model_len"])],
                log_folder=data,
            )
            with server:
                server.wait_until_ready(READY_SECONDS)
                service.append(ask_by_service(parts, dataset_id, server, len(questions)))
                if n_old and number == 0:
                    old.append(ask_as_before(server, questions[:: len(questions) // n_old]))
    ceiling = median(rate.per_second for rate in offline)
    print(f"\n{model.name}, {n_items} items, {rounds} rounds: median (each)")
    print(f"{'way of asking':44}{'items/s':>9}{'of offline':>12}  remark")
    for title, rates in (
        ("vLLM's offline LLM.chat, all at once", offline),
        ("a run through the service", service),
        ("as the predecessor asked", old),
    ):
        if not rates:
            continue
        middle = median(rate.per_second for rate in rates)
        each = ", ".join(f"{rate.per_second:.2f}" for rate in rates)
        remark = f"({each}) {rates[-1].remark}"
        print(f"{title:44}{middle:>9.2f}{middle / ceiling:>12.2f}  {remark}")
    if old:
        ratio = median(rate.per_second for rate in service) / old[0].per_second
        print(f"the service is {ratio:.1f} times as fast as the predecessor's way")


@contextmanager
def dashboard(folder: Path, n_items: int) -> Iterator[tuple[bootstrap.Parts, int, list[Question]]]:
    """Services over a fresh store, a dataset for so many items, and what its run will ask."""
    folder.mkdir()
    parts = bootstrap.build(Settings(data_dir=folder))
    try:
        every = list(datasets.iter_drafts(parts.store, 1))
        chosen = every[:: max(1, len(every) * N_TRAITS // n_items)][: n_items // N_TRAITS]
        drafts = [draft._replace(source_uuid=None, changed_attribute=None) for draft in chosen]
        with parts.store.write() as session:
            dataset_id = datasets.add_dataset(
                session, "benchmark", "imported", drafts, parameters={}, now=datetime.now(UTC)
            )
        yield parts, dataset_id, planned(parts, dataset_id, n_items)
    finally:
        bootstrap.close(parts)


def planned(parts: bootstrap.Parts, dataset_id: int, n_items: int) -> list[Question]:
    """The questions of the run, in the order in which it asks them."""
    with parts.store.read() as session:
        asked = traits.list_traits(session)[:N_TRAITS]
    plan = work_plan(
        datasets.iter_personas(parts.store, dataset_id),
        asked,
        scale_mode="random50",
        dual_fraction=0.0,
        seed=0,
        completed=CompletedKeys.none(),
    )
    book = PromptBook(language="en", answer_mode="distribution", system_prompt=None)
    return [book.question(item) for item in islice(plan, n_items)]


def ask_offline(model: Path, questions: Sequence[Question], folder: Path) -> Rate:
    """All questions in one call of `LLM.chat`, in a process of its own."""
    conversations = [
        [{"role": "system", "content": q.system}, {"role": "user", "content": q.user}]
        for q in questions
    ]
    answer = folder / "offline.json"
    order = {
        "model": str(model),
        "engine": ENGINE,
        "warm_up": conversations[:8],
        "conversations": conversations,
        "answer": str(answer),
    }
    run_python(ASK_OFFLINE, [], json.dumps(order))
    return Rate(len(questions) / float(answer.read_text()))


def ask_by_service(
    parts: bootstrap.Parts, dataset_id: int, server: VllmServer, n_items: int
) -> Rate:
    """A run as the form launches it, from the claim to its end, probing and storing included."""
    assert parts.worker is not None
    ended = threading.Event()
    parts.worker.after_run = lambda _run_id: ended.set()
    with parts.store.read() as session:
        trait_ids = [trait.id for trait in traits.list_traits(session)[:N_TRAITS]]
    used = process_time()
    run_id = parts.service.start_benchmark(
        StartBenchmark.of(
            dataset_id=dataset_id,
            trait_ids=trait_ids,
            model_name=server.model_name,
            vllm_base_url=server.base_url,
            dual_fraction=0.0,
        )
    )
    ended.wait()
    used = process_time() - used
    run = parts.service.get_run(run_id)
    assert (run["status"], run["n_results"]) == ("done", n_items), run
    return Rate(
        n_items / run["duration_s"],
        1000 * used / n_items,
        f"{1000 * used / n_items:.2f} ms of the dashboard's processor an item",
    )


def ask_as_before(server: VllmServer, questions: Sequence[Question]) -> Rate:
    """Text completions of 192 tokens from 20 threads; any lone digit counts as an answer."""

    def ask(question: Question) -> bool:
        body = {
            "model": server.model_name,
            "prompt": f"{question.system}\n\n{question.user}{OLD_WISH}",
            "max_tokens": OLD_TOKENS,
            "temperature": 0,
        }
        request = Request(
            f"{server.base_url}/v1/completions",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urlopen(request) as reply:
            text = json.load(reply)["choices"][0]["text"]
        return re.search(r'"rating"\s*:\s*"?[1-5]\b', text) is not None

    began = perf_counter()
    with ThreadPoolExecutor(OLD_THREADS) as pool:
        found = list(pool.map(ask, questions))
    return Rate(
        len(questions) / (perf_counter() - began),
        remark=f"{sum(found)} of {len(questions)} with a rating",
    )


def run_python(code: str, arguments: Sequence[str], given: str = "") -> None:
    """Run code in the vLLM environment; its output is shown only if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "script.py"
        script.write_text(code)
        done = subprocess.run(
            [PYTHON, script, *arguments],
            input=given,
            capture_output=True,
            text=True,
            cwd=folder,
            env={
                **os.environ,
                "HF_HUB_OFFLINE": "1",
                "VLLM_CPU_KVCACHE_SPACE": "2",
                "VLLM_NO_USAGE_STATS": "1",
            },
        )
    if done.returncode:
        sys.exit(done.stdout[-3000:] + done.stderr[-3000:])


if __name__ == "__main__":
    main()
