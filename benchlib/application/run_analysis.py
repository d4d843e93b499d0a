"""What runs found: one method per panel, computed by the domain from a run's ratings.

Panels of a run that is active are computed at every call; those of a final run are computed once
and kept under a key that holds everything their content depends on.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar, cast
from zlib import crc32

import numpy as np

from benchlib.application.analysis_payloads import (
    AdjustedPanel,
    AllDeltas,
    AllForests,
    AllMeans,
    CacheCleared,
    ComponentsPanel,
    CounterfactualPanel,
    DeltasPanel,
    DistributionsPanel,
    ForestPanel,
    HealthCheck,
    MeansPanel,
    MetricsPanel,
    OmnibusByCategoryPanel,
    OmnibusPanel,
    OrderPanel,
    Planning,
    RunBasis,
    StylesPanel,
)
from benchlib.application.analysis_tables import (
    DELTA_FAMILY,
    FOREST_FAMILY,
    OMNIBUS_FAMILY,
    STYLE_FAMILY,
    correction_of,
    describe_run_distributions,
    judge_rows,
    run_basis,
)
from benchlib.application.health import judge_health, worst_status
from benchlib.application.run_design import RunDesign, plan_run
from benchlib.domain.adjusted import compute_adjusted_deltas
from benchlib.domain.components import compute_variance_components
from benchlib.domain.counterfactual import compute_counterfactuals
from benchlib.domain.deltas import compute_all_deltas, compute_deltas
from benchlib.domain.errors import InvalidInput, ReadOnly
from benchlib.domain.forest import compute_all_forests, compute_forest
from benchlib.domain.forest_study import ForestOptions
from benchlib.domain.metrics import (
    ALL_TRAIT_CATEGORIES,
    AttributeMean,
    compute_means_by_attribute,
    compute_order_effect_metrics,
    compute_rating_histogram,
    compute_trait_category_histograms,
    compute_trait_category_summary,
    filter_by_trait_category,
    summarise_rating_by,
)
from benchlib.domain.omnibus import compute_omnibus, compute_omnibus_by_category
from benchlib.domain.panels import compute_panel
from benchlib.domain.permutation import DEFAULT_N_PERM
from benchlib.domain.pooling import MetaMethod
from benchlib.domain.results import RunRecord, TraitRecord
from benchlib.domain.run_state import ACTIVE
from benchlib.domain.significance import DEFAULT_ALPHA, DEFAULT_SESOI, FdrMethod
from benchlib.domain.styles import compute_missing_rates, compute_response_styles
from benchlib.infrastructure import data_loader, snapshots
from benchlib.infrastructure.cache_warming import (
    Step,
    WarmJob,
    start_warm_cache_job,
    warm_job_snapshot,
)
from benchlib.infrastructure.data_loader import LoadedRun
from benchlib.infrastructure.storage import benchmark_cache, columns, datasets, runs, traits
from benchlib.infrastructure.storage.engine import Store
from benchlib.settings import Settings

MAX_N_PERM: Final = 100_000

_Panel = TypeVar("_Panel")


class RunAnalysis:
    """The panels of a run. Reads the store; writes nothing but kept panels and snapshots.

    Methods share some parameters: `trait_category` None or "all" takes every trait; `neutral`
    takes the neutral traits instead, which are not valence-aligned; `use_expected` lets expected
    ratings take the place of digits where a run has distributions; `alpha` is the level of
    `significant`; `sesoi` the smallest effect of interest in rating points; `by` the correction
    that `significant` follows, `bh` (Benjamini-Hochberg) or `by` (Benjamini-Yekutieli).
    """

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._computing = _OneAtATime()

    # -- what was answered --------------------------------------------------------------------

    def get_metrics(self, run_id: int, *, use_expected: bool = True) -> MetricsPanel:
        """Histograms, summary by trait category and means by attribute."""

        def compute(loaded: LoadedRun) -> MetricsPanel:
            cells = loaded.cells(use_expected=use_expected)
            frame = loaded.answers
            return {
                **run_basis(loaded, use_expected=use_expected),
                "n": len(frame),
                "n_personas": int(frame["persona_id"].nunique()),
                "hist": compute_rating_histogram(frame),
                "trait_categories": {
                    "histograms": compute_trait_category_histograms(frame),
                    "summary": compute_trait_category_summary(frame),
                },
                "attributes": {
                    name: summarise_rating_by(cells, name) for name in loaded.attributes
                },
            }

        return self._panel(run_id, "metrics", {"use_expected": use_expected}, compute)

    def get_order_metrics(self, run_id: int, *, trait_category: str | None = None) -> OrderPanel:
        """How well the answers in both scale orders agree."""
        category = _category(trait_category)

        def compute(loaded: LoadedRun) -> OrderPanel:
            _check_category(loaded, category)
            frame = filter_by_trait_category(loaded.answers, category)
            basis = run_basis(loaded, use_expected=False)
            return {
                **compute_order_effect_metrics(frame),
                "ok": True,
                "run_id": basis["run_id"],
                "n": len(frame),
                "n_answers": basis["n_answers"],
                "missing": basis["missing"],
                "failed": basis["failed"],
                "preliminary": basis["preliminary"],
                "simulated": basis["simulated"],
                "trait_category": category,
            }

        return self._panel(run_id, "order", {"trait_category": category}, compute)

    def get_means(
        self,
        run_id: int,
        attribute: str,
        *,
        top_n: int | None = None,
        trait_category: str | None = None,
        use_expected: bool = True,
    ) -> MeansPanel:
        """Mean rating per category of one attribute.

        Raises:
            InvalidInput: The run's personas have no such attribute.
        """
        table = self.get_means_table(
            run_id, trait_category=trait_category, use_expected=use_expected
        )
        rows = _of_attribute(table["data"], attribute)
        return {
            "ok": True,
            "run_id": run_id,
            "n": table["n"],
            "n_personas": table["n_personas"],
            "n_answers": table["n_answers"],
            "missing": table["missing"],
            "failed": table["failed"],
            "preliminary": table["preliminary"],
            "simulated": table["simulated"],
            "uses_expected": table["uses_expected"],
            "attribute": attribute,
            "trait_category": table["trait_category"],
            "rows": rows if top_n is None else rows[: max(top_n, 0)],
        }

    def get_means_all(
        self, run_id: int, *, trait_category: str | None = None, use_expected: bool = True
    ) -> dict[str, list[AttributeMean]]:
        """Mean rating per category, for all attributes."""
        return self.get_means_table(
            run_id, trait_category=trait_category, use_expected=use_expected
        )["data"]

    def get_means_table(
        self, run_id: int, *, trait_category: str | None = None, use_expected: bool = True
    ) -> AllMeans:
        """The same, with what it rests on."""
        category = _category(trait_category)

        def compute(loaded: LoadedRun) -> AllMeans:
            panel = compute_panel(loaded.cells(use_expected=use_expected), category)
            return {
                **run_basis(loaded, use_expected=use_expected),
                "n": panel.cells.n_ratings,
                "n_personas": int(panel.scores.enters.sum()),
                "trait_category": category,
                "data": {
                    name: compute_means_by_attribute(panel.cells, name)
                    for name in loaded.attributes
                },
            }

        chosen = {"trait_category": category, "use_expected": use_expected}
        return self._panel(run_id, "means", chosen, compute)

    def get_distributions(
        self, run_id: int, *, trait_category: str | None = None
    ) -> DistributionsPanel:
        """The distributions behind the answers, by trait and trait category."""
        category = _category(trait_category)

        def compute(loaded: LoadedRun) -> DistributionsPanel:
            _check_category(loaded, category)
            with self._store.read() as session:
                found = columns.fetch_distributions(session, run_id)
            return describe_run_distributions(loaded, found, category)

        return self._panel(run_id, "distributions", {"trait_category": category}, compute)

    # -- groups against each other ------------------------------------------------------------

    def get_deltas(
        self,
        run_id: int,
        attribute: str,
        baseline: str | None = None,
        *,
        n_perm: int = DEFAULT_N_PERM,
        alpha: float = DEFAULT_ALPHA,
        trait_category: str | None = None,
        sesoi: float = DEFAULT_SESOI,
        use_expected: bool = True,
        by: FdrMethod = "bh",
        neutral: bool = False,
    ) -> DeltasPanel:
        """Every category of one attribute against a baseline, the largest one by default.

        Args:
            n_perm: Draws of the permutation test; 0 leaves it out.

        Raises:
            InvalidInput: There is no such attribute, baseline or trait category, or a number is
                out of range.
        """
        if baseline is None:
            every = self.get_deltas_all(
                run_id,
                trait_category=trait_category,
                n_perm=n_perm,
                alpha=alpha,
                sesoi=sesoi,
                use_expected=use_expected,
                by=by,
                neutral=neutral,
            )
            return {
                **_basis_of(every),
                **_of_attribute(every["data"], attribute),
                "correction": every["correction"],
            }
        _check_options(alpha=alpha, sesoi=sesoi, n_perm=n_perm)
        category = _category(trait_category)

        def compute(loaded: LoadedRun) -> DeltasPanel:
            deltas = compute_deltas(
                loaded.cells(use_expected=use_expected),
                attribute,
                baseline=baseline,
                trait_category=category,
                neutral=neutral,
                rng=_rng(loaded.run, category),
                n_perm=n_perm,
                alpha=alpha,
                sesoi=sesoi,
            )
            judge_rows(deltas["rows"], by, alpha)
            return {
                **run_basis(loaded, use_expected=use_expected),
                **deltas,
                "correction": correction_of(DELTA_FAMILY, by, deltas["family_size"], alpha),
            }

        chosen = {
            "attribute": attribute,
            "baseline": baseline,
            "n_perm": n_perm,
            "alpha": alpha,
            "trait_category": category,
            "sesoi": sesoi,
            "use_expected": use_expected,
            "by": by,
            "neutral": neutral,
        }
        return self._panel(run_id, "deltas of one attribute", chosen, compute)

    def get_deltas_all(
        self,
        run_id: int,
        *,
        trait_category: str | None = None,
        n_perm: int = DEFAULT_N_PERM,
        alpha: float = DEFAULT_ALPHA,
        sesoi: float = DEFAULT_SESOI,
        use_expected: bool = True,
        by: FdrMethod = "bh",
        neutral: bool = False,
    ) -> AllDeltas:
        """`get_deltas` of every attribute, against default baselines, from the same draws."""
        _check_options(alpha=alpha, sesoi=sesoi, n_perm=n_perm)
        category = _category(trait_category)

        def compute(loaded: LoadedRun) -> AllDeltas:
            cells = loaded.cells(use_expected=use_expected)
            data = compute_all_deltas(
                cells,
                trait_category=category,
                neutral=neutral,
                rng=_rng(loaded.run, category),
                n_perm=n_perm,
                alpha=alpha,
                sesoi=sesoi,
            )
            for deltas in data.values():
                judge_rows(deltas["rows"], by, alpha)
            panel = compute_panel(cells, category, neutral=neutral)
            size = max((deltas["family_size"] for deltas in data.values()), default=0)
            return {
                **run_basis(loaded, use_expected=use_expected),
                "n": panel.cells.n_ratings,
                "n_personas": int(panel.scores.enters.sum()),
                "trait_category": category,
                "correction": correction_of(DELTA_FAMILY, by, size, alpha),
                "data": data,
            }

        chosen = {
            "n_perm": n_perm,
            "alpha": alpha,
            "trait_category": category,
            "sesoi": sesoi,
            "use_expected": use_expected,
            "by": by,
            "neutral": neutral,
        }
        return self._panel(run_id, "deltas", chosen, compute)

    def get_forest(
        self,
        run_id: int,
        attribute: str,
        baseline: str | None = None,
        target: str | Sequence[str] | None = None,
        *,
        min_n: int = 0,
        trait_category: str | None = None,
        methods: Sequence[MetaMethod] = (),
        max_t: bool = False,
        n_perm: int = DEFAULT_N_PERM,
        alpha: float = DEFAULT_ALPHA,
        sesoi: float = DEFAULT_SESOI,
        use_expected: bool = True,
        by: FdrMethod = "bh",
        neutral: bool = False,
    ) -> ForestPanel:
        """One delta per trait, and what the traits add up to.

        Args:
            baseline: The category compared against; None = the largest.
            target: One category or several; None = the largest after the baseline.
            min_n: Traits rated by fewer personas in either group are left out.
            methods: Textbook poolings to describe beside ours: `dl`, `pm`, `reml`.
            max_t: Add `p_max_t`, the strict correction within a category's rows.
            n_perm: Draws for `max_t`.

        Raises:
            InvalidInput: There is no such attribute, category or trait category, or a number is
                out of range.
        """
        _check_options(alpha=alpha, sesoi=sesoi, n_perm=n_perm)
        if max_t and n_perm < 1:
            raise InvalidInput("n_perm: the max-t correction needs at least one draw.")
        category = _category(trait_category)
        targets = [target] if isinstance(target, str) else None if target is None else list(target)

        def compute(loaded: LoadedRun) -> ForestPanel:
            cells = loaded.cells(use_expected=use_expected)
            forest = compute_forest(
                cells,
                attribute,
                baseline=baseline,
                targets=targets or None,
                trait_category=category,
                neutral=neutral,
                options=ForestOptions(
                    min_n=min_n,
                    alpha=alpha,
                    sesoi=sesoi,
                    methods=tuple(dict.fromkeys(methods)),
                    max_t=max_t,
                    n_perm=n_perm,
                ),
                rng=_rng(loaded.run, attribute),
            )
            judge_rows(forest["rows"], by, alpha)
            panel = compute_panel(cells, category, neutral=neutral)
            return {
                **run_basis(loaded, use_expected=use_expected),
                **forest,
                "n_personas": int(panel.scores.enters.sum()),
                "correction": correction_of(FOREST_FAMILY, by, forest["family_size"], alpha),
            }

        chosen = {
            "attribute": attribute,
            "baseline": baseline,
            "targets": targets,
            "min_n": min_n,
            "trait_category": category,
            "methods": list(methods),
            "max_t": max_t,
            "n_perm": n_perm if max_t else None,
            "alpha": alpha,
            "sesoi": sesoi,
            "use_expected": use_expected,
            "by": by,
            "neutral": neutral,
        }
        return self._panel(run_id, "forest", chosen, compute)

    def get_forests_all(
        self,
        run_id: int,
        *,
        trait_category: str | None = None,
        alpha: float = DEFAULT_ALPHA,
        sesoi: float = DEFAULT_SESOI,
        use_expected: bool = True,
        by: FdrMethod = "bh",
        neutral: bool = False,
    ) -> AllForests:
        """The forest of every attribute, each with all categories as targets."""
        _check_options(alpha=alpha, sesoi=sesoi)
        category = _category(trait_category)

        def compute(loaded: LoadedRun) -> AllForests:
            cells = loaded.cells(use_expected=use_expected)
            data = compute_all_forests(
                cells,
                trait_category=category,
                neutral=neutral,
                options=ForestOptions(alpha=alpha, sesoi=sesoi),
            )
            for forest in data.values():
                judge_rows(forest["rows"], by, alpha)
            panel = compute_panel(cells, category, neutral=neutral)
            size = max((forest["family_size"] for forest in data.values()), default=0)
            return {
                **run_basis(loaded, use_expected=use_expected),
                "n": panel.cells.n_ratings,
                "n_personas": int(panel.scores.enters.sum()),
                "trait_category": category,
                "correction": correction_of(FOREST_FAMILY, by, size, alpha),
                "data": data,
            }

        chosen = {
            "trait_category": category,
            "alpha": alpha,
            "sesoi": sesoi,
            "use_expected": use_expected,
            "by": by,
            "neutral": neutral,
        }
        return self._panel(run_id, "forests", chosen, compute)

    def get_omnibus(
        self,
        run_id: int,
        *,
        trait_category: str | None = None,
        alpha: float = DEFAULT_ALPHA,
        use_expected: bool = True,
        neutral: bool = False,
    ) -> OmnibusPanel:
        """Whether an attribute matters at all: Kruskal-Wallis, Welch's ANOVA, bias index."""
        _check_options(alpha=alpha)
        category = _category(trait_category)

        def compute(loaded: LoadedRun) -> OmnibusPanel:
            cells = loaded.cells(use_expected=use_expected)
            omnibus = compute_omnibus(cells, trait_category=category, neutral=neutral, alpha=alpha)
            panel = compute_panel(cells, category, neutral=neutral)
            return {
                **run_basis(loaded, use_expected=use_expected),
                **omnibus,
                "n": panel.cells.n_ratings,
                "n_personas": int(panel.scores.enters.sum()),
                "correction": correction_of(OMNIBUS_FAMILY, "bh", omnibus["family_size"], alpha),
            }

        chosen = {
            "trait_category": category,
            "alpha": alpha,
            "use_expected": use_expected,
            "neutral": neutral,
        }
        return self._panel(run_id, "omnibus", chosen, compute)

    def get_kruskal(
        self, run_id: int, *, trait_category: str | None = None, alpha: float = DEFAULT_ALPHA
    ) -> OmnibusPanel:
        """`get_omnibus` by the name of its first test."""
        return self.get_omnibus(run_id, trait_category=trait_category, alpha=alpha)

    def get_kruskal_by_category(
        self,
        run_id: int,
        *,
        alpha: float = DEFAULT_ALPHA,
        use_expected: bool = True,
        neutral: bool = False,
    ) -> OmnibusByCategoryPanel:
        """`get_omnibus` for each trait category."""
        _check_options(alpha=alpha)

        def compute(loaded: LoadedRun) -> OmnibusByCategoryPanel:
            cells = loaded.cells(use_expected=use_expected)
            tables = compute_omnibus_by_category(cells, neutral=neutral, alpha=alpha)["categories"]
            panel = compute_panel(cells, neutral=neutral)
            size = max((table["family_size"] for table in tables.values()), default=0)
            return {
                **run_basis(loaded, use_expected=use_expected),
                "n": panel.cells.n_ratings,
                "n_personas": int(panel.scores.enters.sum()),
                "correction": correction_of(OMNIBUS_FAMILY, "bh", size, alpha),
                "categories": tables,
            }

        chosen = {"alpha": alpha, "use_expected": use_expected, "neutral": neutral}
        return self._panel(run_id, "omnibus by category", chosen, compute)

    def get_styles(
        self, run_id: int, *, alpha: float = DEFAULT_ALPHA, use_expected: bool = True
    ) -> StylesPanel:
        """Acquiescence, extreme and midpoint responding, and who leaves questions unrated."""
        _check_options(alpha=alpha)

        def compute(loaded: LoadedRun) -> StylesPanel:
            cells = loaded.cells(use_expected=use_expected)
            styles = compute_response_styles(loaded.planned(), cells, alpha=alpha)
            attempts, of_attempts = loaded.attempted()
            return {
                **run_basis(loaded, use_expected=use_expected),
                **styles,
                "n": cells.n_ratings,
                "n_personas": cells.n_personas,
                "correction": correction_of(STYLE_FAMILY, "bh", styles["family_size"], alpha),
                "missing_rates": compute_missing_rates(attempts, of_attempts, alpha=alpha),
            }

        chosen = {"alpha": alpha, "use_expected": use_expected}
        return self._panel(run_id, "styles", chosen, compute)

    def get_counterfactual(
        self,
        run_id: int,
        *,
        trait_category: str | None = None,
        n_flips: int = DEFAULT_N_PERM,
        alpha: float = DEFAULT_ALPHA,
        use_expected: bool = True,
    ) -> CounterfactualPanel:
        """Personas against their counterfactuals; empty where the dataset has none."""
        _check_options(alpha=alpha, n_perm=n_flips)
        category = _category(trait_category)

        def compute(loaded: LoadedRun) -> CounterfactualPanel:
            with self._store.read() as session:
                links = datasets.load_links(session, loaded.run.dataset_id)
            panel = compute_panel(loaded.cells(use_expected=use_expected), category)
            found = compute_counterfactuals(
                panel.cells, links, rng=_rng(loaded.run, category), n_flips=n_flips, alpha=alpha
            )
            family = "all changes of all attributes in this table"
            return {
                **run_basis(loaded, use_expected=use_expected),
                **found,
                "n": panel.cells.n_ratings,
                "n_personas": int(panel.scores.enters.sum()),
                "n_linked": len(links),
                "available": len(links) > 0,
                "trait_category": category,
                "correction": correction_of(family, "bh", found["family_size"], alpha),
            }

        chosen = {
            "trait_category": category,
            "n_flips": n_flips,
            "alpha": alpha,
            "use_expected": use_expected,
        }
        return self._panel(run_id, "counterfactual", chosen, compute)

    def get_adjusted_deltas(
        self,
        run_id: int,
        *,
        attributes: Sequence[str] | None = None,
        trait_category: str | None = None,
        alpha: float = DEFAULT_ALPHA,
        use_expected: bool = True,
        neutral: bool = False,
    ) -> AdjustedPanel:
        """What is left of each delta when the other attributes are held fixed."""
        _check_options(alpha=alpha)
        category = _category(trait_category)
        names = list(attributes) if attributes else None

        def compute(loaded: LoadedRun) -> AdjustedPanel:
            cells = loaded.cells(use_expected=use_expected)
            adjusted = compute_adjusted_deltas(
                cells, attributes=names, trait_category=category, neutral=neutral, alpha=alpha
            )
            size = sum(row["p_value"] is not None for row in adjusted["rows"])
            return {
                **run_basis(loaded, use_expected=use_expected),
                **adjusted,
                "n": compute_panel(cells, category, neutral=neutral).cells.n_ratings,
                "correction": correction_of("all rows of this table", "bh", size, alpha),
            }

        chosen = {
            "attributes": names,
            "trait_category": category,
            "alpha": alpha,
            "use_expected": use_expected,
            "neutral": neutral,
        }
        return self._panel(run_id, "adjusted deltas", chosen, compute)

    def get_variance_components(
        self,
        run_id: int,
        attribute: str | None = None,
        *,
        trait_category: str | None = None,
        use_expected: bool = True,
        neutral: bool = False,
    ) -> ComponentsPanel:
        """Where the variance of the ratings sits; within categories of an attribute if named."""
        category = _category(trait_category)

        def compute(loaded: LoadedRun) -> ComponentsPanel:
            cells = loaded.cells(use_expected=use_expected)
            components = compute_variance_components(
                cells, attribute, trait_category=category, neutral=neutral
            )
            return {
                **run_basis(loaded, use_expected=use_expected),
                **components,
                "n": compute_panel(cells, category, neutral=neutral).cells.n_ratings,
                "attribute": attribute,
                "trait_category": category,
            }

        chosen = {
            "attribute": attribute,
            "trait_category": category,
            "use_expected": use_expected,
            "neutral": neutral,
        }
        return self._panel(run_id, "variance components", chosen, compute)

    # -- before and about a run ---------------------------------------------------------------

    def get_planning(self, design: RunDesign) -> Planning:
        """The smallest effect that a planned run can find, per attribute."""
        personas = data_loader.load_personas_cached(self._store, design.dataset_id)
        n_traits = design.n_traits
        if n_traits is None:
            with self._store.read() as session:
                known = traits.list_traits(session)
            n_traits = sum(trait.active and trait.valence != 0 for trait in known)
            if n_traits == 0:
                raise InvalidInput("No active trait has a valence; switch one on under Traits.")
        spread: tuple[float | None, float | None] = (None, None)
        if design.like_run_id is not None:
            parts = self.get_variance_components(design.like_run_id)
            spread = (_root(parts["var_persona"]), _root(parts["var_resid"]))
        names = data_loader.attribute_names(personas)
        return plan_run(design, personas, names, n_traits, spread)

    def get_health_check(self, run_id: int) -> HealthCheck:
        """Whether a run's numbers can be trusted: the banner shown wherever results are."""

        def compute(loaded: LoadedRun) -> HealthCheck:
            frame = loaded.answers
            items = judge_health(
                loaded.run,
                compute_order_effect_metrics(frame),
                compute_rating_histogram(frame)["counts"],
                loaded.mass,
            )
            return {
                **run_basis(loaded, use_expected=True),
                "n": len(frame),
                "n_personas": int(frame["persona_id"].nunique()),
                "status": worst_status(items),
                "items": items,
            }

        return self._panel(run_id, "health", {}, compute)

    # -- kept panels --------------------------------------------------------------------------

    def start_warm_cache(self, run_id: int) -> WarmJob:
        """Compute the default panels of a run in the background; returns at once.

        Raises:
            ReadOnly: This dashboard keeps nothing.
        """
        self._refuse_when_read_only()
        run, asked = self._current(run_id)
        steps = self._warm_steps(run, asked)
        return start_warm_cache_job(
            run_id, steps, lambda: datetime.now(UTC), store=self._store.database
        )

    def get_warm_cache(self, run_id: int) -> WarmJob:
        """Where the newest warm-up of a run stands."""
        self._current(run_id)
        return warm_job_snapshot(run_id, store=self._store.database)

    def clear_cache(self, run_id: int) -> CacheCleared:
        """Forget every kept panel and snapshot of a run; they come back when asked for.

        Raises:
            ReadOnly: This dashboard changes nothing.
        """
        self._refuse_when_read_only()
        self._current(run_id)
        deleted = benchmark_cache.clear_cached(self._store, run_id)
        return {"ok": True, "deleted": deleted, "snapshots": self.forget_run(run_id)}

    def forget_run(self, run_id: int) -> int:
        """Drop a run from memory and its snapshots from disk; return how many those were."""
        data_loader.forget_run(self._store, run_id)
        return snapshots.delete_snapshots(self._snapshot_folder, self._store.database, run_id)

    # -- inside -------------------------------------------------------------------------------

    @property
    def _snapshot_folder(self) -> Path:
        return self._settings.data_dir / "snapshots"

    def _current(self, run_id: int) -> tuple[RunRecord, list[TraitRecord]]:
        with self._store.read() as session:
            run = runs.get_run(session, run_id)
            return run, traits.get_traits(session, run.config.trait_ids)

    def _attributes(self, run: RunRecord) -> list[str]:
        personas = data_loader.load_personas_cached(self._store, run.dataset_id)
        return data_loader.attribute_names(personas)

    def _load(self, run: RunRecord) -> LoadedRun:
        write = not self._settings.read_only
        return data_loader.load_run_cached(self._store, run, self._snapshot_folder, write=write)

    def _panel(
        self,
        run_id: int,
        panel: str,
        parameters: Mapping[str, Any],
        compute: Callable[[LoadedRun], _Panel],
    ) -> _Panel:
        """The kept panel of a final run, else the computed one; active runs are read live."""
        run, asked = self._current(run_id)
        if run.status in ACTIVE:
            return compute(self._load(run))
        keep = not self._settings.read_only
        n_rows = benchmark_cache.result_row_count(self._store, run, keep=keep)
        key = benchmark_cache.cache_key(run, panel, parameters, n_rows, asked)
        kept = benchmark_cache.get_cached(self._store, key)
        if kept is not None:
            return cast(_Panel, kept)
        with self._computing.of(key) as first:
            if not first:  # another thread has just computed it
                kept = benchmark_cache.get_cached(self._store, key)
                if kept is not None:
                    return cast(_Panel, kept)
            loaded = self._load(run)
            value = compute(loaded)
            if keep and loaded.run.data_version == run.data_version:
                benchmark_cache.put_cached(
                    self._store, key, run_id, panel, value, datetime.now(UTC)
                )
            return value

    def _warm_steps(self, run: RunRecord, asked: Sequence[TraitRecord]) -> list[Step]:
        """Every panel that a page opens with, cheap ones first."""
        run_id = run.id
        categories = sorted({trait.category for trait in asked})
        steps: list[Step] = [
            ("answers", lambda: self._load(self._current(run_id)[0])),
            ("health", lambda: self.get_health_check(run_id)),
            ("metrics", lambda: self.get_metrics(run_id)),
            ("means", lambda: self.get_means_all(run_id)),
            ("order metrics", lambda: self.get_order_metrics(run_id)),
            ("omnibus", lambda: self.get_omnibus(run_id)),
            ("omnibus by trait category", lambda: self.get_kruskal_by_category(run_id)),
            ("deltas", lambda: self.get_deltas_all(run_id)),
        ]
        steps += [
            (f"forest: {name}", _bound(self.get_forest, run_id, name))
            for name in self._attributes(run)
        ]
        steps += [
            ("response styles", lambda: self.get_styles(run_id)),
            ("variance components", lambda: self.get_variance_components(run_id)),
            ("adjusted deltas", lambda: self.get_adjusted_deltas(run_id)),
            ("counterfactuals", lambda: self.get_counterfactual(run_id)),
            ("distributions", lambda: self.get_distributions(run_id)),
        ]
        for name in categories:
            steps += [
                (f"means: {name}", _bound(self.get_means_all, run_id, trait_category=name)),
                (f"deltas: {name}", _bound(self.get_deltas_all, run_id, trait_category=name)),
            ]
        return steps

    def _refuse_when_read_only(self) -> None:
        if self._settings.read_only:
            raise ReadOnly


class _OneAtATime:
    """Lets one thread compute a panel while others that want the same one wait for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # a key has a lock exactly as long as somebody wants it
        self._wanted: dict[str, tuple[threading.Lock, int]] = {}

    @contextmanager
    def of(self, key: str) -> Iterator[bool]:
        """Hold the key; gives whether nobody else had it in the meantime."""
        with self._lock:
            lock, waiting = self._wanted.get(key, (threading.Lock(), 0))
            self._wanted[key] = (lock, waiting + 1)
        try:
            with lock:
                yield waiting == 0
        finally:
            with self._lock:
                lock, waiting = self._wanted.pop(key)
                if waiting > 1:
                    self._wanted[key] = (lock, waiting - 1)


def _bound(method: Callable[..., object], *args: Any, **named: Any) -> Callable[[], object]:
    return lambda: method(*args, **named)


def _category(trait_category: str | None) -> str | None:
    """None for every way of saying "all trait categories"."""
    return None if not trait_category or trait_category == ALL_TRAIT_CATEGORIES else trait_category


def _check_category(loaded: LoadedRun, category: str | None) -> None:
    known = sorted({trait.category for trait in loaded.asked})
    if category is not None and category not in known:
        options = ", ".join(known)
        raise InvalidInput(f"There is no trait category {category!r}; choose from: {options}.")


def _check_options(
    *, alpha: float, sesoi: float = DEFAULT_SESOI, n_perm: int = DEFAULT_N_PERM
) -> None:
    if not 0 < alpha < 0.5:
        raise InvalidInput("alpha must lie between 0 and 0.5.")
    if not 0 < sesoi <= 4:
        raise InvalidInput("sesoi, the smallest effect of interest, must lie above 0 and up to 4.")
    if not 0 <= n_perm <= MAX_N_PERM:
        raise InvalidInput(f"The number of draws must lie between 0 and {MAX_N_PERM:,}.")


def _of_attribute(data: Mapping[str, _Panel], attribute: str) -> _Panel:
    if attribute not in data:
        options = ", ".join(data) or "none"
        raise InvalidInput(f"There is no attribute {attribute}; pick {options}.")
    return data[attribute]


def _basis_of(panel: RunBasis) -> RunBasis:
    return {
        "ok": panel["ok"],
        "run_id": panel["run_id"],
        "n_answers": panel["n_answers"],
        "missing": panel["missing"],
        "failed": panel["failed"],
        "preliminary": panel["preliminary"],
        "simulated": panel["simulated"],
        "uses_expected": panel["uses_expected"],
    }


def _rng(run: RunRecord, panel: str | None) -> np.random.Generator:
    """Draws that are the same at every call for a panel, and differ between panels and runs."""
    return np.random.default_rng([run.config.seed, run.id, crc32((panel or "").encode())])


def _root(variance: float | None) -> float | None:
    return None if variance is None else float(np.sqrt(variance))
