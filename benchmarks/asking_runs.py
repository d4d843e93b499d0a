"""What `benchmarks.asking` measures: runs of the executor, each in a process of its own."""

import asyncio
import multiprocessing
import os
import resource
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from time import monotonic, perf_counter, process_time
from typing import Any, TypedDict, TypeVar

import aiohttp

from benchlib.domain.asking.prompts import PromptBook
from benchlib.domain.asking.work_plan import CompletedKeys, count_items, work_plan
from benchlib.domain.material.personas import PersonaDraft
from benchlib.domain.material.traits import TraitDraft
from benchlib.domain.records import Answer, PersonaRecord, Question, RunConfig, TraitRecord
from benchlib.domain.vocabulary import RunStatus
from benchlib.infrastructure.engines.chat_protocol import PATHS, read_reply, request_body
from benchlib.infrastructure.engines.vllm_client import VllmClient
from benchlib.infrastructure.execution.executor import (
    WorkerContext,
    create_client,
    execute_benchmark_run,
)
from benchlib.infrastructure.execution.progress_tracker import get_completed_keys
from benchlib.infrastructure.execution.worker import Worker, process_name
from benchlib.infrastructure.storage import datasets, results, runs, traits
from benchlib.infrastructure.storage.database import Store, open_store
from benchlib.settings import Settings

N_TRAITS = 100
N_PERSONAS = 1_200
ATTRIBUTES = {
    "gender": ("female", "male", "non-binary"),
    "origin": ("Germany", "Turkey", "Nigeria", "Vietnam"),
    "religion": ("Christian", "Muslim", "none"),
    "education": ("primary", "secondary", "university"),
    "occupation": ("nurse", "teacher", "engineer", "unemployed"),
}
NOW = datetime(2026, 1, 1, tzinfo=UTC)

Result = TypeVar("Result")


class Measured(TypedDict):
    """What one execution took.

    `seconds` from the claim to the end; `cpu` seconds of the process, all its threads;
    `first_request` seconds from the claim; `idle`, `half` and `peak` resident MB: before it, after
    half of what was to be asked before a stop, and at most.
    """

    items: int
    seconds: float
    cpu: float
    first_request: float
    idle: float
    half: float
    peak: float


# -- what is measured -----------------------------------------------------------------------------


def bare_loop(address: str, n_items: int) -> tuple[float, float]:
    """Prompts, 4 batches of 64 in flight, answers read and forgotten: items/s, CPU ms per item."""

    async def ask_all() -> tuple[float, float]:
        client = await VllmClient.connect([address], None, None, "distribution")
        await client.close()
        book = PromptBook("en", "distribution")
        items = work_plan(
            (_persona(number, draft) for number, draft in enumerate(persona_drafts(10**9), 1)),
            [_trait(number, draft) for number, draft in enumerate(trait_drafts(), 1)],
            scale_mode="random50",
            dual_fraction=0.2,
            seed=1,
            completed=CompletedKeys.none(),
        )
        left = iter(range(n_items // 64))
        n_answers = 0

        async def ask_on(session: aiohttp.ClientSession) -> None:
            nonlocal n_answers
            for _ in left:
                questions = [book.question(item) for item in islice(items, 64)]
                body = request_body(client.plan, client.report.model_name, questions)
                async with session.post(
                    address + PATHS["batch"],
                    data=body,
                    headers={"Content-Type": "application/json"},
                ) as response:
                    reply = read_reply(client.plan, await response.read(), 64, 0)
                n_answers += sum(isinstance(outcome, Answer) for outcome in reply.outcomes)

        began, cpu = perf_counter(), process_time()
        async with aiohttp.ClientSession() as session:
            await asyncio.gather(*(ask_on(session) for _ in range(4)))
        seconds, cpu = perf_counter() - began, process_time() - cpu
        return n_answers / seconds, 1000 * cpu / n_answers

    return asyncio.run(ask_all())


def run_once(
    url: str,
    n_personas: int,
    address: str,
    *,
    stop_after: int | None = None,
    with_app: bool = False,
) -> Measured:
    """A run in a process of its own, on a store that is made for it."""
    store = open_store(url)
    run_id = add_run(store, n_personas, address, dual_fraction=0.0)
    store.close()
    return in_own_process(execute, url, run_id, stop_after, with_app)


def execute(url: str, run_id: int, stop_after: int | None, with_app: bool) -> Measured:
    """Claim the run and execute it, to its end or until enough is asked."""
    if with_app:
        import benchlib.bootstrap  # noqa: F401
    store = open_store(url)
    stop = threading.Event()
    asked: list[float] = []
    half: list[float] = []
    n_answered = 0

    async def make_client(*chosen: Any) -> Any:
        client = await create_client(*chosen)
        ask = client.ask

        async def watched(questions: Any) -> Any:
            nonlocal n_answered
            if not asked:
                asked.append(perf_counter())
            outcomes = await ask(questions)
            n_answered += len(outcomes)
            if stop_after is not None and n_answered >= stop_after / 2 and not half:
                half.append(_resident())
            if stop_after is not None and n_answered >= stop_after:
                stop.set()
            return outcomes

        client.ask = watched
        return client

    context = WorkerContext(
        store=store,
        settings=Settings(),
        owner=process_name(),
        stop=stop,
        now=lambda: datetime.now(UTC),
        monotonic=monotonic,
        make_client=make_client,
    )
    idle = _resident()
    began, cpu = perf_counter(), process_time()
    with store.write() as session:
        assert runs.claim_next(session, context.owner, context.now()) == run_id
    status = execute_benchmark_run(context, run_id)
    seconds, cpu = perf_counter() - began, process_time() - cpu
    assert status == ("done" if stop_after is None else "interrupted"), status
    with store.read() as session:
        run = runs.get_run(session, run_id)
        counted = session.connection().exec_driver_sql("SELECT COUNT(*) FROM benchmarkresult")
        assert counted.scalar() == run.done
    store.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return Measured(
        items=run.done,
        seconds=seconds,
        cpu=cpu,
        first_request=asked[0] - began,
        idle=idle,
        half=half[0] if half else peak,
        peak=peak,
    )


def measure_resume(url: str, run_id: int, missing: int) -> tuple[float, float, float]:
    """Seconds to read the keys, to plan the first missing item, and to read the status."""
    from benchlib.application.benchmark_service import BenchmarkService

    store = open_store(url)
    with store.read() as session:
        run = runs.get_run(session, run_id)
        asked = traits.get_traits(session, run.config.trait_ids)
    began = perf_counter()
    completed = get_completed_keys(store, run_id)
    keys = perf_counter() - began
    began = perf_counter()
    left = work_plan(
        datasets.iter_personas(store, run.dataset_id),
        asked,
        scale_mode=run.config.scale_mode,
        dual_fraction=run.config.dual_fraction,
        seed=run.config.seed,
        completed=completed,
    )
    next(left)
    first = perf_counter() - began
    assert 1 + sum(1 for _ in left) == missing
    with store.write() as session:
        runs.claim_next(session, "me", NOW)
    service = BenchmarkService(store, None, Settings())
    service.bench_status(run_id)
    began = perf_counter()
    for _ in range(20):
        service.bench_status(run_id)
    return keys, first, (perf_counter() - began) / 20


@contextmanager
def working(url: str, count: int) -> Iterator[None]:
    """Worker processes on one store, until the block ends."""
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    ready = context.Barrier(count + 1)
    processes = [context.Process(target=work, args=(url, ready, stop)) for _ in range(count)]
    for process in processes:
        process.start()
    ready.wait()
    try:
        yield
    finally:
        stop.set()
        for process in processes:
            process.join()


def work(url: str, ready: Any, stop: Any) -> None:
    """What a dashboard does besides serving pages: take runs from the queue."""
    store = open_store(url)
    worker = Worker(
        WorkerContext(
            store=store,
            settings=Settings(),
            owner=process_name(),
            stop=threading.Event(),
            now=lambda: datetime.now(UTC),
            monotonic=monotonic,
        )
    )
    ready.wait()
    worker.start()
    stop.wait()
    worker.stop()
    store.close()


# -- what it is measured on -----------------------------------------------------------------------


def trait_drafts() -> list[TraitDraft]:
    """A hundred traits."""
    return [
        TraitDraft(
            case_id=f"trait-{number:03d}",
            adjective={"en": f"adjective {number}", "de": f"adjektiv {number}"},
            question={"en": "How {adjective} is this person?", "de": "Wie {adjective}?"},
            category=("competence", "warmth")[number % 2],
            valence=1,
        )
        for number in range(N_TRAITS)
    ]


def add_run(
    store: Store, n_personas: int, address: str, *, dual_fraction: float = 0.0, name: str = "asked"
) -> int:
    """A queued run of n_personas x 100 traits."""
    with store.write() as session:
        dataset_id = datasets.add_dataset(
            session, name, "imported", persona_drafts(n_personas, name), parameters={}, now=NOW
        )
        known = {trait.case_id: trait.id for trait in traits.list_traits(session)}
        if not known:
            traits.add_traits(session, trait_drafts(), now=NOW)
            known = {trait.case_id: trait.id for trait in traits.list_traits(session)}
        config = RunConfig(
            dataset_id=dataset_id,
            model_name="fake-model",
            llm="vllm",
            trait_ids=tuple(known.values()),
            vllm_base_url=address,
            dual_fraction=dual_fraction,
        )
        total = count_items(n_personas, N_TRAITS, dual_fraction)
        return runs.add_run(session, config, total, NOW)


def persona_drafts(n_personas: int, name: str = "asked") -> Iterator[PersonaDraft]:
    """Personas with five attributes, an age and a name."""
    options = [(key, values, len(values)) for key, values in ATTRIBUTES.items()]
    for number in range(n_personas):
        yield PersonaDraft(
            f"{name}-{number}",
            {key: values[number // (3 + at) % n] for at, (key, values, n) in enumerate(options)},
            age=20 + number % 60,
            name=f"Kim {number}",
        )


def fill_but(store: Store, run_id: int, missing: int) -> int:
    """Store an answer to every planned item but the last ones; returns how many are missing."""
    with store.read() as session:
        run = runs.get_run(session, run_id)
        asked = traits.get_traits(session, run.config.trait_ids)
    items = work_plan(
        datasets.iter_personas(store, run.dataset_id),
        asked,
        scale_mode=run.config.scale_mode,
        dual_fraction=run.config.dual_fraction,
        seed=run.config.seed,
        completed=CompletedKeys.none(),
    )
    left = run.total - missing
    answer = Answer(3, (0.1, 0.2, 0.4, 0.2, 0.1), 0.97, "3", 12)
    with store.write() as session:
        runs.claim_next(session, "filler", NOW)  # an owner, or every insert counts up a version
        while left:
            part = [
                results.Rated(Question(item, "", ""), answer, NOW)
                for item in islice(items, min(left, 10_000))
            ]
            results.add_results(session, run_id, part)
            left -= len(part)
        values = {"done": run.total - missing}
        runs.renew(session, run_id, "filler", changed=True, values=values)
        runs.finish(session, run_id, "filler", RunStatus.INTERRUPTED, None, NOW)
        runs.requeue(session, run_id)
    return missing


@contextmanager
def store_file() -> Iterator[str]:
    """The URL of a SQLite store in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        yield f"sqlite:///{folder}/store.db"


def in_own_process(measure: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function in a new process: its memory and processor time are its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(measure, *arguments).result()


def _persona(number: int, draft: PersonaDraft) -> PersonaRecord:
    return PersonaRecord(number, draft.uuid, draft.attributes, draft.age, draft.name)


def _trait(number: int, draft: TraitDraft) -> TraitRecord:
    return TraitRecord(
        number, draft.case_id, draft.adjective, draft.question, draft.category, draft.valence
    )


def status(store: Store, run_id: int) -> str:
    """Where a run stands."""
    with store.read() as session:
        return runs.get_run(session, run_id).status


def _resident() -> float:
    """Resident memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
