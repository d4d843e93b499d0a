"""What pages, JSON, shell and notebooks call: runs, their analysis, and engines."""

from collections.abc import Sequence
from typing import Any, Self

import benchlib
from benchlib.application.analysis.answer_panels import (
    MeansPanel,
    MetricsPanel,
    OrderPanel,
    metrics,
    order_metrics,
)
from benchlib.application.analysis.group_panels import DeltasPanel, ForestPanel, forest
from benchlib.application.analysis.panel_cache import PanelCache
from benchlib.application.analysis.run_analysis import RunAnalysis
from benchlib.application.commands import StartBenchmark
from benchlib.application.engine_service import EngineService
from benchlib.application.payloads import Health, RunDetail, RunSummary
from benchlib.application.permissions import ActingService, needs
from benchlib.application.process_metrics import ProcessMetrics, ProcessMonitor
from benchlib.application.run_service import RunService, launches
from benchlib.domain.users import OWNER, AuditRecord, Role, User
from benchlib.infrastructure.execution.progress_tracker import ProgressStatus
from benchlib.infrastructure.execution.worker import Worker
from benchlib.infrastructure.storage import audit
from benchlib.infrastructure.storage import runs as stored_runs
from benchlib.infrastructure.storage.database import Store, open_store
from benchlib.settings import Settings, get_settings


class BenchmarkService(ActingService):
    """The service behind every page and route.

    Its parts do the work; the questions asked most often are methods here as well.

    Args:
        store: The store; None opens the one named in the settings.
        worker: The process's background thread; None where another process executes.
        settings: None reads the environment.
        user: The user it acts for.

    Attributes:
        runs: Start, watch, stop and describe runs, and read single answers.
        analysis: What runs found, alone and compared.
        engines: Test connections; start and stop the local server.
    """

    def __init__(
        self,
        store: Store | None = None,
        worker: Worker | None = None,
        settings: Settings | None = None,
        user: User = OWNER,
    ) -> None:
        settings = settings or get_settings()
        super().__init__(user, settings.read_only)
        self._store = store = store or open_store(settings.store_url)
        self._worker = worker
        self._monitor = ProcessMonitor(store, worker)
        cache = PanelCache(store, settings)
        self.engines = EngineService(store, settings, user)
        self.runs = RunService(store, worker, self.engines, cache, user, settings.read_only)
        self.analysis = RunAnalysis(store, cache, user, settings.read_only)

    def acting_as(self, user: User) -> Self:
        """The same service for another user, and its parts with it."""
        other = super().acting_as(user)
        other.engines = self.engines.acting_as(user)
        other.runs = self.runs.acting_as(user)
        other.analysis = self.analysis.acting_as(user)
        return other

    def close(self) -> None:
        """Stop the local server, if one was started, and close the store."""
        self.engines.close()
        self._store.close()

    # -- runs ---------------------------------------------------------------------------------

    def list_runs(self) -> list[RunSummary]:
        """All runs, newest first."""
        return self.runs.list_runs()

    def get_run(self, run_id: int) -> RunDetail:
        """One run; see `RunService.get_run`."""
        return self.runs.get_run(run_id)

    @launches
    def start_benchmark(self, command: StartBenchmark) -> int:
        """Queue a run and return its id; see `RunService.start_benchmark`."""
        return self.runs.start_benchmark(command)

    def bench_status(self, run_id: int) -> ProgressStatus:
        """Progress of a run."""
        return self.runs.bench_status(run_id)

    # -- what runs found ----------------------------------------------------------------------

    def get_metrics(self, run_id: int, **choices: Any) -> MetricsPanel:
        """Histograms and means; `choices` are the fields of `MetricsQuery`."""
        return self.analysis.get_panel(metrics, run_id, **choices)

    def get_order_metrics(self, run_id: int, **choices: Any) -> OrderPanel:
        """How well the answers in both scale orders agree; fields of `OrderQuery`."""
        return self.analysis.get_panel(order_metrics, run_id, **choices)

    def get_means(self, run_id: int, attribute: str, **choices: Any) -> MeansPanel:
        """Mean rating per category of one attribute; fields of `MeansQuery`."""
        return self.analysis.get_means(run_id, attribute=attribute, **choices)

    def get_deltas(
        self, run_id: int, attribute: str, baseline: str | None = None, **choices: Any
    ) -> DeltasPanel:
        """Every category of one attribute against a baseline; fields of `DeltasQuery`."""
        return self.analysis.get_deltas(run_id, attribute=attribute, baseline=baseline, **choices)

    def get_forest(
        self,
        run_id: int,
        attribute: str,
        baseline: str | None = None,
        target: str | Sequence[str] | None = None,
        **choices: Any,
    ) -> ForestPanel:
        """One delta per trait, and what the traits add up to; fields of `ForestQuery`."""
        return self.analysis.get_panel(
            forest, run_id, attribute=attribute, baseline=baseline, target=target, **choices
        )

    # -- who did what, and the process ----------------------------------------------------------

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

    def get_health(self) -> Health:
        """Whether the store answers and the executor is alive."""
        with self._store.read() as session:
            stored_runs.list_models(session)
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
        """Metrics of this process and its store, for monitoring."""
        return self._monitor.metrics()
