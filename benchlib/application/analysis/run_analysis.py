"""What runs found: one method per panel, computed by the domain from a run's ratings."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from benchlib.application.analysis.basis import (
    category_of,
    check_options,
    correction_of,
    draws_of,
    run_basis,
)
from benchlib.application.analysis.comparison import RunComparison
from benchlib.application.analysis.group_panels import GroupPanels
from benchlib.application.analysis.panel_payloads import (
    AdjustedPanel,
    ComponentsPanel,
    CounterfactualPanel,
    Planning,
)
from benchlib.application.analysis.power_plan import RunDesign, plan_run
from benchlib.application.permissions import needs
from benchlib.domain.analysis.adjusted_deltas import compute_adjusted_deltas
from benchlib.domain.analysis.counterfactual import compute_counterfactuals
from benchlib.domain.analysis.trait_sets import count_sample
from benchlib.domain.analysis.variance_components import compute_variance_components
from benchlib.domain.errors import InvalidInput
from benchlib.domain.records import RunRecord, TraitRecord
from benchlib.domain.stats.permutation import DEFAULT_N_PERM
from benchlib.domain.stats.welch import DEFAULT_ALPHA
from benchlib.domain.users import Role
from benchlib.infrastructure.cache_warming import (
    Step,
    WarmJob,
    start_warm_cache_job,
)
from benchlib.infrastructure.loading import data_loader
from benchlib.infrastructure.loading.data_loader import LoadedRun
from benchlib.infrastructure.storage import datasets, runs, traits


class RunAnalysis(RunComparison, GroupPanels):
    """The panels of a run.

    Methods share some parameters: `trait_category` None or "all" takes every trait; `neutral`
    takes the neutral traits instead, which are not valence-aligned; `use_expected` lets expected
    ratings take the place of digits where a run has distributions; `alpha` is the level of
    `significant`; `sesoi` the smallest effect of interest in rating points; `by` the correction
    that `significant` follows, `bh` (Benjamini-Hochberg) or `by` (Benjamini-Yekutieli).
    """

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
        check_options(alpha=alpha, n_perm=n_flips)
        category = category_of(trait_category)

        def compute(loaded: LoadedRun) -> CounterfactualPanel:
            with self._store.read() as session:
                links = datasets.load_links(session, loaded.run.dataset_id)
            cells = loaded.cells(use_expected=use_expected, copies=True)
            found = compute_counterfactuals(
                cells,
                links,
                trait_category=category,
                rng=draws_of(loaded.run, category),
                n_flips=n_flips,
                alpha=alpha,
            )
            family = "all changes of all attributes in this table"
            return {
                **run_basis(loaded, use_expected=use_expected, copies=True),
                **found,
                **count_sample(cells, category),
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
        check_options(alpha=alpha)
        category = category_of(trait_category)
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
        category = category_of(trait_category)

        def compute(loaded: LoadedRun) -> ComponentsPanel:
            cells = loaded.cells(use_expected=use_expected)
            components = compute_variance_components(
                cells, attribute, trait_category=category, neutral=neutral
            )
            return {
                **run_basis(loaded, use_expected=use_expected),
                **components,
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
        with self._store.read() as session:
            copies = datasets.load_copies(session, design.dataset_id)
        return plan_run(design, personas, copies, n_traits, spread)

    @needs(Role.RESEARCHER, "warm up a run")
    def start_warm_cache(self, run_id: int) -> WarmJob:
        """Compute the default panels of a run in the background; returns at once."""
        with self._store.read() as session:
            run = runs.get_run(session, run_id)
            asked = traits.get_traits(session, run.config.trait_ids)
        steps = self._warm_steps(run, asked)
        return start_warm_cache_job(
            run_id, steps, lambda: datetime.now(UTC), store=self._store.database
        )

    def _warm_steps(self, run: RunRecord, asked: Sequence[TraitRecord]) -> list[Step]:
        """Every panel that a page opens with, cheap ones first."""
        run_id = run.id
        categories = sorted({trait.category for trait in asked})
        steps: list[Step] = [
            ("answers", lambda: self._load(self._current(run_id))),
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


def _bound(method: Callable[..., object], *args: Any, **named: Any) -> Callable[[], object]:
    return lambda: method(*args, **named)


def _root(variance: float | None) -> float | None:
    return None if variance is None else float(np.sqrt(variance))
