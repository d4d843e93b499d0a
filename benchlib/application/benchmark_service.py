"""The one door for pages, JSON, shell and notebooks: a method per question asked."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import islice
from time import monotonic
from typing import Any, Literal

import benchlib
from benchlib.application.analysis.run_analysis import RunAnalysis
from benchlib.application.commands import StartBenchmark
from benchlib.application.engines import EngineChoice, EngineService
from benchlib.application.payloads import (
    ActiveBenchmark,
    Health,
    Missing,
    MissingSample,
    RunDetail,
    RunSummary,
)
from benchlib.application.permissions import needs
from benchlib.application.preflight import Preflight
from benchlib.application.process_metrics import ProcessMetrics, ProcessMonitor
from benchlib.domain.asking.engine_reports import EngineConnection, EngineStats, ServerState
from benchlib.domain.asking.prompts import PromptBook
from benchlib.domain.asking.work_plan import count_items, work_plan
from benchlib.domain.errors import InvalidInput, WrongState
from benchlib.domain.records import (
    EVERYTHING,
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
from benchlib.domain.users import OWNER, AuditRecord, Role, User
from benchlib.domain.vocabulary import ScaleOrder
from benchlib.infrastructure.engines.simulated import SIMULATED_MODEL_NAME
from benchlib.infrastructure.execution import progress_tracker
from benchlib.infrastructure.execution.progress_tracker import ProgressStatus
from benchlib.infrastructure.execution.worker import Worker
from benchlib.infrastructure.storage import audit, datasets, results, runs, traits
from benchlib.infrastructure.storage.database import Store, open_store
from benchlib.settings import Settings, get_settings

_log = logging.getLogger(__name__)


class BenchmarkService(RunAnalysis):
    """Runs: start, watch, stop, read; what they found comes from `RunAnalysis`.

    Args:
        store: Where runs lie; None opens the one the settings name.
        worker: The process's background thread; None where another process executes.
        settings: None reads the environment.
        user: For whom it acts.
    """

    def __init__(
        self,
        store: Store | None = None,
        worker: Worker | None = None,
        settings: Settings | None = None,
        user: User = OWNER,
    ) -> None:
        settings = settings or get_settings()
        super().__init__(store or open_store(settings.store_url), settings, user)
        self._worker = worker
        self._engines = EngineService(self._settings)
        self._preflight = Preflight(self._store)
        self._monitor = ProcessMonitor(self._store, worker)

    def close(self) -> None:
        """Stop the local server, if one was started, and give back the store's connections."""
        self._engines.stop_server()
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
            launched_by = audit.launched_by(session, run_id)
        return {
            **_summary(run),
            "launched_by": launched_by,
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

    @needs(Role.RESEARCHER, "launch or resume runs")
    def start_benchmark(self, command: StartBenchmark) -> int:
        """Queue a run, or put one that is not complete back into the queue; returns at once.

        Returns:
            The run's id.

        Raises:
            InvalidInput: Something chosen does not exist or does not fit.
            WrongState: The run to resume is complete or active.
        """
        if command.resume_run_id is not None:
            run_id = self._resume(command)
        else:
            config = self._config(command)
            with self._store.write() as session:
                n_personas = datasets.get_dataset(session, config.dataset_id).n_personas
                total = count_items(n_personas, len(config.trait_ids), config.dual_fraction)
                now = datetime.now(UTC)
                run_id = runs.add_run(session, config, total, now)
                words = _in_words(runs.get_run(session, run_id))
                self._record(session, "launched", "run", run_id, words, now)
        if self._worker is not None:
            key = command.vllm_api_key
            self._worker.remember_key(run_id, key.get_secret_value() if key else None)
            self._worker.wake()
        resumed = command.resume_run_id is not None
        _log.info("run queued", extra={"run_id": run_id, "resumed": resumed})
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

    @needs(Role.RESEARCHER, "cancel runs")
    def cancel_benchmark(self, run_id: int) -> None:
        """Cancel a queued run at once; ask a running one to stop. What is rated is kept.

        Raises:
            WrongState: The run has ended.
        """
        now = datetime.now(UTC)
        with self._store.write() as session:
            runs.request_cancel(session, run_id, now)
            words = _in_words(runs.get_run(session, run_id))
            self._record(session, "cancelled", "run", run_id, words, now)
        _log.info("cancel requested", extra={"run_id": run_id})

    @needs(Role.RESEARCHER, "tag runs and write notes")
    def annotate_run(self, run_id: int, *, note: str, tags: Sequence[str]) -> None:
        """Write a note and tags, for people to find the run again."""
        kept = list(dict.fromkeys(tag.strip() for tag in tags if tag.strip()))
        if len(note) > 10_000 or any(len(tag) > 50 for tag in kept):
            raise InvalidInput("A note has at most 10,000 characters, a tag 50; shorten it.")
        with self._store.write() as session:
            runs.annotate(session, run_id, note=note, tags=kept)
            words = f"Tags: {', '.join(kept) or 'none'}"
            self._record(session, "tagged", "run", run_id, words, datetime.now(UTC))

    @needs(Role.ADMIN, "delete runs")
    def delete_run(self, run_id: int) -> int:
        """Delete a run with all its results; return how many results went.

        Raises:
            WrongState: It is queued or running.
        """
        with self._store.write() as session:
            run = runs.get_run(session, run_id)
            if run.status in ACTIVE:
                raise WrongState(f"Run {run_id} is {run.status}; cancel it first.")
            deleted = runs.delete_run(session, run_id)
            words = f"{_in_words(run)}, {deleted:,} answers"
            self._record(session, "deleted", "run", run_id, words, datetime.now(UTC))
        self._forget_run(run_id)
        _log.info("run deleted", extra={"run_id": run_id, "ratings": deleted})
        return deleted

    # -- before a run -------------------------------------------------------------------------

    def preview_prompts(self, command: StartBenchmark) -> dict[ScaleOrder, Question]:
        """The exact prompt of the first persona and trait, in both scale orders."""
        return self._preflight.prompts(self._config(command))

    def count_prompts(self, command: StartBenchmark) -> int:
        """How many prompts a run of this shape asks."""
        return self._preflight.n_prompts(self._config(command))

    def estimate_tokens(self, command: StartBenchmark) -> int | None:
        """About how many tokens its prompts have; None for the simulated rater, who reads none."""
        config = self._config(command)
        return self._preflight.prompt_tokens(config) if config.llm == "vllm" else None

    def estimate_seconds(self, command: StartBenchmark) -> float | None:
        """How long such a run takes at the pace of the last one that was like it, if there is."""
        return self._preflight.seconds(self._config(command))

    # -- engines ------------------------------------------------------------------------------

    @needs(Role.RESEARCHER, "test connections", writes=False)
    def test_connection(
        self, base_url: str | None = None, api_key: str | None = None
    ) -> list[EngineConnection]:
        """What answers at the addresses given, else at those of the settings."""
        return self._engines.test_connection(base_url, api_key)

    def default_engine(self) -> EngineChoice:
        """What a form opens with: the server that answers, else the simulated rater."""
        return self._engines.default_engine()

    def get_engine_stats(self, run_id: int) -> list[EngineStats]:
        """What the engines of a running run say of themselves; none once it has ended."""
        with self._store.read() as session:
            run = runs.get_run(session, run_id)
        return self._engines.stats_of(run)

    @needs(Role.ADMIN, "start the local server")
    def start_server(self, model: str) -> ServerState:
        """Start a local vLLM server for a model name or folder."""
        state = self._engines.start_server(model)
        with self._store.write() as session:
            self._record(session, "started", "server", None, model, datetime.now(UTC))
        return state

    def server_state(self) -> ServerState | None:
        """Where the local server stands; None if none was started."""
        return self._engines.server_state()

    @needs(Role.ADMIN, "stop the local server")
    def stop_server(self) -> None:
        """Stop the local server; does nothing where none was started."""
        state = self._engines.server_state()
        if state is None:
            return
        self._engines.stop_server()
        with self._store.write() as session:
            self._record(session, "stopped", "server", None, state["model"], datetime.now(UTC))

    # -- what a run found ---------------------------------------------------------------------

    def get_missing(
        self, run_id: int, where: AnswerFilter = EVERYTHING, *, limit: int = 20, offset: int = 0
    ) -> Missing:
        """What is still to do, with one page of the questions that have no rating.

        Counts are of the whole run, whatever `where` shows.
        """
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
            for item in islice(filter(where.asks_for, plan), offset, offset + limit)
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
        self, run_id: int, where: AnswerFilter = EVERYTHING, *, limit: int = 50, offset: int = 0
    ) -> list[StoredFailure]:
        """One page of failed attempts, newest first."""
        with self._store.read() as session:
            runs.get_run(session, run_id)
            return results.list_failures(session, run_id, where, limit=limit, offset=offset)

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

    # -- who did what -------------------------------------------------------------------------

    @needs(Role.ADMIN, "see who did what", writes=False)
    def list_activity(self, *, limit: int = 50, offset: int = 0) -> list[AuditRecord]:
        """One page of who did what, newest first."""
        with self._store.read() as session:
            return audit.list_entries(session, limit=limit, offset=offset)

    @needs(Role.ADMIN, "see who did what", writes=False)
    def count_activity(self) -> int:
        """How many actions are recorded."""
        with self._store.read() as session:
            return audit.count_entries(session)

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

    def get_process_metrics(self) -> ProcessMetrics:
        """What a monitor is told of this process and its store."""
        return self._monitor.metrics()

    # -- inside -------------------------------------------------------------------------------

    def _config(self, command: StartBenchmark) -> RunConfig:
        """Check what was chosen against what exists."""
        if command.dataset_id is None:
            raise InvalidInput("Name the dataset.")
        llm: Literal["vllm", "simulated"] = "vllm" if command.llm == "vllm" else "simulated"
        with self._store.read() as session:
            datasets.get_dataset(session, command.dataset_id)
            asked = self._asked(traits.list_traits(session), command)
        if llm == "vllm":
            self._engines.check_address(command.vllm_base_url)
        model_name = SIMULATED_MODEL_NAME if llm == "simulated" else command.model_name
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
            max_concurrency=command.batch_size,
            attrgen_run_id=command.attrgen_run_id,
            simulated_items_per_second=command.simulated_items_per_second,
            simulated_fault_rate=command.simulated_fault_rate,
        )

    @staticmethod
    def _asked(known: Sequence[TraitRecord], command: StartBenchmark) -> list[TraitRecord]:
        if command.trait_ids is None:
            asked = [trait for trait in known if trait.active]
            if not asked:
                raise InvalidInput("No trait is active; switch some on under Traits.")
        else:
            by_id = {trait.id: trait for trait in known}
            strays = [trait_id for trait_id in command.trait_ids if trait_id not in by_id]
            if strays:
                raise InvalidInput(f"trait_ids: there is no trait {strays[0]} in the catalogue.")
            asked = [by_id[trait_id] for trait_id in dict.fromkeys(command.trait_ids)]
        mute = [trait.case_id for trait in asked if not trait.adjective.get(command.language)]
        if mute:
            raise InvalidInput(
                f"language: these traits have no wording in {command.language}: "
                f"{', '.join(mute[:5])}; add one under Traits, or leave them out."
            )
        return asked

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
                self._engines.check_address(command.vllm_base_url)
                config = runs.config_from_json(
                    {**runs.config_to_json(run.config), "vllm_base_url": command.vllm_base_url}
                )
            runs.requeue(session, run_id, config)
            self._record(session, "resumed", "run", run_id, _in_words(run), datetime.now(UTC))
        return run_id


def _in_words(run: RunRecord) -> str:
    """What still tells which run it was when it is gone."""
    return f"{run.model_name} on {run.dataset_name}"


def _public_config(config: RunConfig) -> dict[str, Any]:
    return {
        **runs.config_to_json(config),
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
