"""Runs: start, watch, stop, describe, and read what was answered."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import islice
from time import monotonic
from typing import Any, Final, Literal

from benchlib.application.analysis.panel_cache import PanelCache
from benchlib.application.commands import StartBenchmark
from benchlib.application.composition_cache import load_composition
from benchlib.application.engine_service import EngineService
from benchlib.application.payloads import (
    ActiveBenchmark,
    Missing,
    MissingSample,
    RunDetail,
    RunSummary,
)
from benchlib.application.permissions import ActingService, needs
from benchlib.application.preflight import PlannedRun, describe_planned_run
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
from benchlib.domain.users import Role, User
from benchlib.infrastructure.engines.simulated import SIMULATED_MODEL_NAME
from benchlib.infrastructure.execution import progress_tracker
from benchlib.infrastructure.execution.progress_tracker import ProgressStatus
from benchlib.infrastructure.execution.worker import Worker
from benchlib.infrastructure.storage import audit, datasets, results, runs, traits
from benchlib.infrastructure.storage.database import Store

_log = logging.getLogger(__name__)

_LONGEST_NOTE: Final = 10_000
_LONGEST_TAG: Final = 50

launches = needs(Role.RESEARCHER, "launch or resume runs")


class RunService(ActingService):
    """Everything about runs but their analysis.

    Args:
        store: The store.
        worker: The process's background thread; None where another process executes.
        engines: Checks addresses before a run is queued.
        cache: Dropped for a run that is deleted.
        user: The user it acts for.
        read_only: Whether every write is refused.
    """

    def __init__(
        self,
        store: Store,
        worker: Worker | None,
        engines: EngineService,
        cache: PanelCache,
        user: User,
        read_only: bool,
    ) -> None:
        super().__init__(user, read_only)
        self._store = store
        self._worker = worker
        self._engines = engines
        self._cache = cache

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
            dataset = datasets.get_dataset(session, run.dataset_id)
            asked = traits.get_traits(session, run.config.trait_ids)
            launched_by = audit.launched_by(session, run_id)
        composition = load_composition(
            self._store, dataset, run_id=None if self.read_only else run_id
        )
        return {
            **_summary(run),
            "launched_by": launched_by,
            "dataset": {"id": run.dataset_id, "name": run.dataset_name, "kind": run.dataset_kind},
            "config": _public_config(run.config),
            "manifest": dict(run.manifest),
            "tally": dict(run.tally),
            "attributes": [found["attribute"] for found in composition["attributes"]],
            "trait_categories": sorted({trait.category for trait in asked}),
        }

    def list_models(self) -> list[str]:
        """Names of all models with a run."""
        with self._store.read() as session:
            return runs.list_models(session)

    @launches
    def start_benchmark(self, command: StartBenchmark) -> int:
        """Queue a run, or requeue one that is incomplete; returns at once.

        Returns:
            The run's id.

        Raises:
            InvalidInput: A choice does not exist, or does not go with the others.
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
        """Progress of a run; reads one row, whatever the size of the run."""
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
        """Cancel a queued run at once; ask a running one to stop. Its ratings stay.

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
        """Set the note and the tags that help people find the run again."""
        cleaned = list(dict.fromkeys(tag.strip() for tag in tags if tag.strip()))
        if len(note) > _LONGEST_NOTE or any(len(tag) > _LONGEST_TAG for tag in cleaned):
            raise InvalidInput(
                f"A note has at most {_LONGEST_NOTE:,} characters and a tag {_LONGEST_TAG}; "
                "shorten it."
            )
        with self._store.write() as session:
            runs.annotate(session, run_id, note=note, tags=cleaned)
            words = f"Tags: {', '.join(cleaned) or 'none'}"
            self._record(session, "tagged", "run", run_id, words, datetime.now(UTC))

    @needs(Role.ADMIN, "delete runs")
    def delete_run(self, run_id: int) -> int:
        """Delete a run with all its results; return how many results there were.

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
        self._cache.forget_run(run_id)
        _log.info("run deleted", extra={"run_id": run_id, "ratings": deleted})
        return deleted

    def preview_run(self, command: StartBenchmark) -> PlannedRun:
        """The prompts, size and duration of a run; nothing is queued.

        Raises:
            InvalidInput: A choice does not exist, or does not go with the others.
        """
        return describe_planned_run(self._store, self._config(command))

    def get_missing(
        self, run_id: int, where: AnswerFilter = EVERYTHING, *, limit: int = 20, offset: int = 0
    ) -> Missing:
        """What is left to ask, with one page of the questions that have no rating.

        Counts are those of the whole run, whatever `where` selects.
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
        """The prompt behind an answer, rebuilt from the frozen configuration of the run."""
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

    def _config(self, command: StartBenchmark) -> RunConfig:
        """Validate the choices against the store."""
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
            simulated_preset=command.simulated_preset,
        )

    @staticmethod
    def _asked(known: Sequence[TraitRecord], command: StartBenchmark) -> list[TraitRecord]:
        if command.trait_ids is None:
            asked = [trait for trait in known if trait.active]
            if not asked:
                raise InvalidInput("No trait is active; switch some on under Traits.")
        else:
            by_id = {trait.id: trait for trait in known}
            unknown = [trait_id for trait_id in command.trait_ids if trait_id not in by_id]
            if unknown:
                raise InvalidInput(f"trait_ids: there is no trait {unknown[0]} in the catalogue.")
            asked = [by_id[trait_id] for trait_id in dict.fromkeys(command.trait_ids)]
        unworded = [trait.case_id for trait in asked if not trait.adjective.get(command.language)]
        if unworded:
            raise InvalidInput(
                f"language: these traits have no wording in {command.language}: "
                f"{', '.join(unworded[:5])}; add one under Traits, or leave them out."
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
    """Identifies a run in the audit log after it is deleted."""
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
