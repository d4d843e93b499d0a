"""The one door for pages, JSON, shell and notebooks: a method per question asked."""

from collections.abc import Sequence
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Literal, NotRequired, TypedDict

import pandas as pd

import benchlib
from benchlib.application.commands import StartBenchmark
from benchlib.domain.errors import InvalidInput, ReadOnly, WrongState
from benchlib.domain.metrics import (
    AttributeMean,
    AttributeSummary,
    RatingHistogram,
    TraitCategoryHistogram,
    TraitCategorySummary,
    compute_means_by_attribute,
    compute_order_effect_metrics,
    compute_rating_histogram,
    compute_trait_category_histograms,
    compute_trait_category_summary,
    filter_by_trait_category,
    summarise_rating_by,
)
from benchlib.domain.order_effects import OrderEffectMetrics
from benchlib.domain.prompts import PromptBook
from benchlib.domain.results import (
    AnswerFilter,
    Question,
    RunConfig,
    RunRecord,
    StoredAnswer,
    StoredFailure,
    TraitRecord,
    WorkItem,
)
from benchlib.domain.run_state import ACTIVE, RESUMABLE
from benchlib.domain.vocabulary import SCALE_ORDERS, ScaleOrder
from benchlib.domain.work_plan import count_items, work_plan
from benchlib.infrastructure import data_loader
from benchlib.infrastructure.execution import progress_tracker
from benchlib.infrastructure.execution.progress_tracker import ProgressStatus
from benchlib.infrastructure.execution.worker import Worker
from benchlib.infrastructure.storage import datasets, results, runs, traits
from benchlib.infrastructure.storage.engine import Store, open_store
from benchlib.settings import Settings, get_settings


class RunSummary(TypedDict):
    """A run in a list; times are ISO 8601 with offset, `duration_s` counts execution only."""

    id: int
    model_name: str
    include_rationale: bool
    system_prompt: str | None
    dataset_id: int
    dataset_name: str
    created_at: str
    started_at: str | None
    finished_at: str | None
    duration_s: float
    n_results: int
    total: int
    failed: int
    status: str
    error: str | None
    resumable: bool
    simulated: bool
    answer_mode: str
    note: str
    tags: list[str]


class RunDataset(TypedDict):
    """The dataset a run asked about."""

    id: int
    name: str
    kind: str


class RunDetail(RunSummary):
    """One run with its configuration, manifest, counts so far and attribute names.

    `tally`: {"in": [n1..n5], "rev": [n1..n5], "failures": {kind: attempts}, "latest": [...]}.
    """

    dataset: RunDataset
    config: dict[str, Any]
    manifest: dict[str, Any]
    tally: dict[str, Any]
    attributes: list[str]
    trait_categories: list[str]


class TraitCategoryMetrics(TypedDict):
    """Histograms and summary by trait category."""

    histograms: list[TraitCategoryHistogram]
    summary: list[TraitCategorySummary]


class Metrics(TypedDict):
    """The metrics panel; `n` counts the ratings behind it, `missing` what is planned but absent.

    `preliminary` holds while the run may still get answers.
    """

    ok: bool
    n: int
    n_personas: int
    missing: int
    failed: int
    preliminary: bool
    simulated: bool
    hist: RatingHistogram
    trait_categories: TraitCategoryMetrics
    attributes: dict[str, AttributeSummary]


class OrderMetrics(OrderEffectMetrics):
    """How well the answers in both scale orders agree; see METRICS.md."""

    ok: bool
    simulated: bool


class Means(TypedDict):
    """Means per category of one attribute."""

    ok: bool
    rows: list[AttributeMean]


class MissingSample(TypedDict):
    """A question that has no rating yet."""

    persona_uuid: str
    case_id: str
    adjective: str
    scale_order: ScaleOrder


class Missing(TypedDict):
    """What a run still lacks."""

    ok: bool
    dataset_id: int
    total: int
    done: int
    missing: int
    failed: int
    samples: list[MissingSample]


class ActiveBenchmark(TypedDict):
    """Whether a dataset has a queued or running run, and how far it is."""

    ok: bool
    active: bool
    run_id: int | None
    status: NotRequired[str]
    done: NotRequired[int]
    total: NotRequired[int]
    pct: NotRequired[float]
    error: NotRequired[str | None]


class Health(TypedDict):
    """Liveness of this process: `store` and `executor` are "ok" or a sentence."""

    ok: bool
    version: str
    store: str
    executor: str


class BenchmarkService:
    """Runs: start, watch, stop, read.

    Args:
        store: Where runs lie; None opens the one the settings name.
        worker: The process's background thread; None where another process executes.
        settings: None reads the environment.
    """

    def __init__(
        self,
        store: Store | None = None,
        worker: Worker | None = None,
        settings: Settings | None = None,
    ) -> None:
        self._settings = settings or get_settings()
        self._store = store or open_store(self._settings.store_url)
        self._worker = worker

    @property
    def read_only(self) -> bool:
        """Whether every write is refused."""
        return self._settings.read_only

    def close(self) -> None:
        """Give back the store's connections; for a service that was built without one."""
        self._store.close()

    # -- runs ---------------------------------------------------------------------------------

    def list_runs(self) -> list[RunSummary]:
        """All runs, newest first."""
        with self._store.read() as session:
            return [_summary(run) for run in runs.list_runs(session)]

    def get_run(self, run_id: int) -> RunDetail:
        """One run.

        Raises:
            NotFound: There is none with this id.
        """
        with self._store.read() as session:
            run = runs.get_run(session, run_id)
            asked = traits.get_traits(session, run.config.trait_ids)
        return {
            **_summary(run),
            "dataset": {"id": run.dataset_id, "name": run.dataset_name, "kind": run.dataset_kind},
            "config": _public_config(run.config),
            "manifest": dict(run.manifest),
            "tally": dict(run.tally),
            "attributes": self._attributes(run),
            "trait_categories": sorted({trait.category for trait in asked}),
        }

    def list_models(self) -> list[str]:
        """Names of all models that had a run."""
        with self._store.read() as session:
            return runs.list_models(session)

    def start_benchmark(self, command: StartBenchmark) -> int:
        """Queue a run, or put one that is not complete back into the queue; returns at once.

        Returns:
            The run's id.

        Raises:
            InvalidInput: Something chosen does not exist or does not fit.
            WrongState: The run to resume is complete or active.
        """
        self._refuse_if_read_only()
        if command.resume_run_id is not None:
            run_id = self._resume(command)
        else:
            config = self._config(command)
            with self._store.write() as session:
                n_personas = datasets.get_dataset(session, config.dataset_id).n_personas
                total = count_items(n_personas, len(config.trait_ids), config.dual_fraction)
                run_id = runs.add_run(session, config, total, datetime.now(UTC))
        if self._worker is not None:
            key = command.vllm_api_key
            self._worker.remember_key(run_id, key.get_secret_value() if key else None)
            self._worker.wake()
        return run_id

    def bench_status(self, run_id: int) -> ProgressStatus:
        """Where a run stands; one row is read, whatever the run's size."""
        return progress_tracker.update_progress(self._store, run_id, monotonic())

    def active_benchmark(self, dataset_id: int) -> ActiveBenchmark:
        """The newest queued or running run of a dataset."""
        with self._store.read() as session:
            datasets.get_dataset(session, dataset_id)
            run = runs.active_run_of_dataset(session, dataset_id)
        if run is None:
            return {"ok": True, "active": False, "run_id": None}
        status = progress_tracker.note_progress(run, monotonic())
        return {
            "ok": True,
            "active": True,
            "run_id": run.id,
            "status": status["status"],
            "done": status["done"],
            "total": status["total"],
            "pct": status["pct"],
            "error": status["error"],
        }

    def cancel_benchmark(self, run_id: int) -> None:
        """Cancel a queued run at once; ask a running one to stop. What is rated is kept.

        Raises:
            WrongState: The run has ended.
        """
        self._refuse_if_read_only()
        with self._store.write() as session:
            runs.request_cancel(session, run_id, datetime.now(UTC))

    def annotate_run(self, run_id: int, *, note: str, tags: Sequence[str]) -> None:
        """Write a note and tags, for people to find the run again."""
        self._refuse_if_read_only()
        kept = list(dict.fromkeys(tag.strip() for tag in tags if tag.strip()))
        if len(note) > 10_000 or any(len(tag) > 50 for tag in kept):
            raise InvalidInput("A note has at most 10,000 characters, a tag 50; shorten it.")
        with self._store.write() as session:
            runs.annotate(session, run_id, note=note, tags=kept)

    def delete_run(self, run_id: int) -> int:
        """Delete a run with all its results; return how many results went.

        Raises:
            WrongState: It is queued or running.
        """
        self._refuse_if_read_only()
        with self._store.write() as session:
            run = runs.get_run(session, run_id)
            if run.status in ACTIVE:
                raise WrongState(f"Run {run_id} is {run.status}; cancel it first.")
            return runs.delete_run(session, run_id)

    # -- before a run -------------------------------------------------------------------------

    def preview_prompts(self, command: StartBenchmark) -> dict[ScaleOrder, Question]:
        """The exact prompt of the first persona and trait, in both scale orders."""
        config = self._config(command)
        with self._store.read() as session:
            trait = traits.get_traits(session, config.trait_ids[:1])[0]
        persona = next(iter(datasets.iter_personas(self._store, config.dataset_id)))
        book = PromptBook(
            language=config.language,
            answer_mode=config.answer_mode,
            system_prompt=config.system_prompt,
        )
        return {order: book.question(WorkItem(persona, trait, order), 1) for order in SCALE_ORDERS}

    def count_prompts(self, command: StartBenchmark) -> int:
        """How many prompts a run of this shape asks."""
        config = self._config(command)
        with self._store.read() as session:
            n_personas = datasets.get_dataset(session, config.dataset_id).n_personas
        return count_items(n_personas, len(config.trait_ids), config.dual_fraction)

    # -- what a run found ---------------------------------------------------------------------

    def get_metrics(self, run_id: int) -> Metrics:
        """Histograms, summary by trait category and means by attribute."""
        run, attributes, frame = self._panel(run_id)
        return {
            "ok": True,
            "n": len(frame),
            "n_personas": int(frame["persona_id"].nunique()),
            "missing": run.total - run.done,
            "failed": run.failed,
            "preliminary": run.status in ACTIVE or run.done < run.total,
            "simulated": run.simulated,
            "hist": compute_rating_histogram(frame),
            "trait_categories": {
                "histograms": compute_trait_category_histograms(frame),
                "summary": compute_trait_category_summary(frame),
            },
            "attributes": {name: summarise_rating_by(frame, name) for name in attributes},
        }

    def get_order_metrics(self, run_id: int) -> OrderMetrics:
        """How well the answers in both scale orders agree."""
        run, _, frame = self._panel(run_id)
        effects = compute_order_effect_metrics(frame)
        return {"ok": True, "simulated": run.simulated, **effects}

    def get_means(
        self,
        run_id: int,
        attribute: str,
        *,
        top_n: int | None = None,
        trait_category: str | None = None,
    ) -> Means:
        """Mean rating per category of one attribute.

        Raises:
            InvalidInput: The run's personas have no such attribute.
        """
        _, attributes, frame = self._panel(run_id)
        if attribute not in attributes:
            raise InvalidInput(f"There is no attribute {attribute}; pick {', '.join(attributes)}.")
        frame = filter_by_trait_category(frame, trait_category)
        return {"ok": True, "rows": compute_means_by_attribute(frame, attribute, top_n)}

    def get_means_all(self, run_id: int) -> dict[str, list[AttributeMean]]:
        """Mean rating per category, for all attributes."""
        _, attributes, frame = self._panel(run_id)
        return {name: compute_means_by_attribute(frame, name) for name in attributes}

    def get_missing(self, run_id: int, limit: int = 20) -> Missing:
        """What is still to do, with the first of the questions that have no rating."""
        with self._store.read() as session:
            run = runs.get_run(session, run_id)
            asked = traits.get_traits(session, run.config.trait_ids)
        completed = progress_tracker.get_completed_keys(self._store, run_id)
        plan = work_plan(
            datasets.iter_personas(self._store, run.dataset_id),
            asked,
            scale_mode=run.config.scale_mode,
            dual_fraction=run.config.dual_fraction,
            seed=run.config.seed,
            completed=completed,
        )
        samples: list[MissingSample] = [
            {
                "persona_uuid": item.persona.uuid,
                "case_id": item.trait.case_id,
                "adjective": item.trait.adjective.get(run.config.language, item.trait.case_id),
                "scale_order": item.scale_order,
            }
            for item, _ in zip(plan, range(limit), strict=False)
        ]
        return {
            "ok": True,
            "dataset_id": run.dataset_id,
            "total": run.total,
            "done": len(completed),
            "missing": run.total - len(completed),
            "failed": run.failed,
            "samples": samples,
        }

    def list_answers(
        self, run_id: int, where: AnswerFilter, *, limit: int = 50, offset: int = 0
    ) -> list[StoredAnswer]:
        """One page of single answers, by persona, trait and scale order."""
        with self._store.read() as session:
            runs.get_run(session, run_id)
            return results.list_answers(session, run_id, where, limit=limit, offset=offset)

    def list_failures(
        self, run_id: int, *, limit: int = 50, offset: int = 0
    ) -> list[StoredFailure]:
        """One page of failed attempts, newest first."""
        with self._store.read() as session:
            runs.get_run(session, run_id)
            return results.list_failures(session, run_id, limit=limit, offset=offset)

    def get_prompt(self, run_id: int, answer: StoredAnswer) -> Question:
        """The prompt that led to an answer, built again from what the run froze."""
        with self._store.read() as session:
            run = runs.get_run(session, run_id)
            trait = traits.get_traits(session, [answer.trait_id])[0]
            persona = datasets.get_personas(session, [answer.persona_id])[0]
        book = PromptBook(
            language=run.config.language,
            answer_mode=run.manifest["engine"]["answer_mode_used"],
            system_prompt=run.config.system_prompt,
        )
        return book.question(WorkItem(persona, trait, answer.scale_order), answer.attempt)

    # -- the process --------------------------------------------------------------------------

    def get_health(self) -> Health:
        """Whether the store answers and the executor lives."""
        with self._store.read() as session:
            runs.list_models(session)
        if self._worker is None:
            executor = "not in this process"
        else:
            executor = "ok" if self._worker.alive else "stopped"
        return {
            "ok": executor != "stopped",
            "version": benchlib.__version__,
            "store": "ok",
            "executor": executor,
        }

    # -- inside -------------------------------------------------------------------------------

    def _refuse_if_read_only(self) -> None:
        if self.read_only:
            raise ReadOnly

    def _panel(self, run_id: int) -> tuple[RunRecord, list[str], pd.DataFrame]:
        with self._store.read() as session:
            run = runs.get_run(session, run_id)
        return run, self._attributes(run), data_loader.df_for_read(self._store, run)

    def _attributes(self, run: RunRecord) -> list[str]:
        personas = data_loader.load_personas_cached(self._store, run.dataset_id)
        return data_loader.attribute_names(personas)

    def _config(self, command: StartBenchmark) -> RunConfig:
        """Check what was chosen against what exists."""
        if command.dataset_id is None:
            raise InvalidInput("Name the dataset.")
        llm: Literal["vllm", "simulated"] = "vllm" if command.llm == "vllm" else "simulated"
        with self._store.read() as session:
            datasets.get_dataset(session, command.dataset_id)
            asked = self._asked(traits.list_traits(session), command.trait_ids)
        model_name = "simulated-rater" if llm == "simulated" else command.model_name
        if not model_name:
            raise InvalidInput("model_name: name the model as its server does.")
        return RunConfig(
            dataset_id=command.dataset_id,
            model_name=model_name,
            llm=llm,
            trait_ids=tuple(trait.id for trait in asked),
            vllm_base_url=command.vllm_base_url or None,
            language=command.language,
            scale_mode=command.scale_mode,
            dual_fraction=command.dual_fraction,
            answer_mode=command.mode,
            system_prompt=command.system_prompt or None,
            temperature=command.temperature,
            seed=command.seed,
            max_new_tokens=command.max_new_tokens,
            max_attempts=command.max_attempts,
            batch_size=command.batch_size,
            attrgen_run_id=command.attrgen_run_id,
            simulated_items_per_second=command.simulated_items_per_second,
            simulated_fault_rate=command.simulated_fault_rate,
        )

    @staticmethod
    def _asked(known: Sequence[TraitRecord], wished: Sequence[int] | None) -> list[TraitRecord]:
        if wished is None:
            asked = [trait for trait in known if trait.active]
            if not asked:
                raise InvalidInput("No trait is active; switch some on under Traits.")
            return asked
        by_id = {trait.id: trait for trait in known}
        strays = [trait_id for trait_id in wished if trait_id not in by_id]
        if strays:
            raise InvalidInput(f"trait_ids: there is no trait {strays[0]} in the catalogue.")
        return [by_id[trait_id] for trait_id in dict.fromkeys(wished)]

    def _resume(self, command: StartBenchmark) -> int:
        run_id = command.resume_run_id or 0
        with self._store.write() as session:
            run = runs.get_run(session, run_id)
            if command.dataset_id not in (None, run.dataset_id):
                raise InvalidInput(
                    f"Run {run_id} is about dataset {run.dataset_id}; leave out dataset_id."
                )
            config = None
            if command.vllm_base_url:
                config = runs.config_from_json(
                    {**_stored_config(run.config), "vllm_base_url": command.vllm_base_url}
                )
            runs.requeue(session, run_id, config)
        return run_id


def _stored_config(config: RunConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in config.__dataclass_fields__}


def _public_config(config: RunConfig) -> dict[str, Any]:
    return {
        **_stored_config(config),
        "trait_ids": list(config.trait_ids),
        "include_rationale": config.include_rationale,
    }


def _summary(run: RunRecord) -> RunSummary:
    return {
        "id": run.id,
        "model_name": run.model_name,
        "include_rationale": run.config.include_rationale,
        "system_prompt": run.config.system_prompt,
        "dataset_id": run.dataset_id,
        "dataset_name": run.dataset_name,
        "created_at": run.created_at.isoformat(),
        "started_at": run.started_at.isoformat() if run.started_at else None,
        "finished_at": run.finished_at.isoformat() if run.finished_at else None,
        "duration_s": run.seconds_active,
        "n_results": run.done,
        "total": run.total,
        "failed": run.failed,
        "status": run.status.value,
        "error": run.error,
        "resumable": run.status in RESUMABLE,
        "simulated": run.simulated,
        "answer_mode": run.config.answer_mode,
        "note": run.note,
        "tags": list(run.tags),
    }
