"""What runs found: one method per panel, computed by the domain from a run's ratings."""

import pandas as pd

from benchlib.application.payloads import Means, Metrics, OrderMetrics
from benchlib.domain.errors import InvalidInput
from benchlib.domain.metrics import (
    AttributeMean,
    compute_means_by_attribute,
    compute_order_effect_metrics,
    compute_rating_histogram,
    compute_trait_category_histograms,
    compute_trait_category_summary,
    filter_by_trait_category,
    summarise_rating_by,
)
from benchlib.domain.results import RunRecord
from benchlib.domain.run_state import ACTIVE
from benchlib.infrastructure import data_loader
from benchlib.infrastructure.storage import runs
from benchlib.infrastructure.storage.engine import Store
from benchlib.settings import Settings


class RunAnalysis:
    """The panels of a run. Reads the store; writes nothing but cached panels."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings

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

    def _panel(self, run_id: int) -> tuple[RunRecord, list[str], pd.DataFrame]:
        with self._store.read() as session:
            run = runs.get_run(session, run_id)
        return run, self._attributes(run), data_loader.df_for_read(self._store, run)

    def _attributes(self, run: RunRecord) -> list[str]:
        personas = data_loader.load_personas_cached(self._store, run.dataset_id)
        return data_loader.attribute_names(personas)
