"""Groups against each other: deltas, forests, omnibus tests."""

from collections.abc import Sequence

from benchlib.application.analysis.basis import (
    DELTA_FAMILY,
    FOREST_FAMILY,
    OMNIBUS_FAMILY,
    basis_of,
    category_of,
    check_options,
    correction_of,
    draws_of,
    of_attribute,
    run_basis,
)
from benchlib.application.analysis.panel_cache import KeptPanels
from benchlib.application.analysis.panel_payloads import (
    AllDeltas,
    AllForests,
    DeltasPanel,
    ForestPanel,
    OmnibusByCategoryPanel,
    OmnibusPanel,
)
from benchlib.domain.analysis.deltas import compute_all_deltas, compute_deltas
from benchlib.domain.analysis.forest import compute_all_forests, compute_forest
from benchlib.domain.analysis.omnibus import compute_omnibus, compute_omnibus_by_category
from benchlib.domain.analysis.trait_comparisons import ForestOptions
from benchlib.domain.analysis.trait_sets import count_sample
from benchlib.domain.errors import InvalidInput
from benchlib.domain.stats.permutation import DEFAULT_N_PERM
from benchlib.domain.stats.pooling import MetaMethod
from benchlib.domain.stats.welch import DEFAULT_ALPHA, DEFAULT_SESOI, FdrMethod
from benchlib.infrastructure.loading.data_loader import LoadedRun


class GroupPanels(KeptPanels):
    """Panels on the differences between groups; parameters as in `RunAnalysis`."""

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
                **basis_of(every),
                **of_attribute(every["data"], attribute),
                "correction": every["correction"],
            }
        check_options(alpha=alpha, sesoi=sesoi, n_perm=n_perm)
        category = category_of(trait_category)

        def compute(loaded: LoadedRun) -> DeltasPanel:
            deltas = compute_deltas(
                loaded.cells(use_expected=use_expected),
                attribute,
                baseline=baseline,
                trait_category=category,
                neutral=neutral,
                rng=draws_of(loaded.run, category),
                n_perm=n_perm,
                alpha=alpha,
                sesoi=sesoi,
                method=by,
            )
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
        check_options(alpha=alpha, sesoi=sesoi, n_perm=n_perm)
        category = category_of(trait_category)

        def compute(loaded: LoadedRun) -> AllDeltas:
            cells = loaded.cells(use_expected=use_expected)
            data = compute_all_deltas(
                cells,
                trait_category=category,
                neutral=neutral,
                rng=draws_of(loaded.run, category),
                n_perm=n_perm,
                alpha=alpha,
                sesoi=sesoi,
                method=by,
            )
            size = max((deltas["family_size"] for deltas in data.values()), default=0)
            return {
                **run_basis(loaded, use_expected=use_expected),
                **count_sample(cells, category, neutral=neutral),
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
        check_options(alpha=alpha, sesoi=sesoi, n_perm=n_perm)
        if max_t and n_perm < 1:
            raise InvalidInput("n_perm: the max-t correction needs at least one draw.")
        category = category_of(trait_category)
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
                    poolings=tuple(dict.fromkeys(methods)),
                    method=by,
                    max_t=max_t,
                    n_perm=n_perm,
                ),
                rng=draws_of(loaded.run, attribute),
            )
            return {
                **run_basis(loaded, use_expected=use_expected),
                **forest,
                **count_sample(cells, category, neutral=neutral),
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
        check_options(alpha=alpha, sesoi=sesoi)
        category = category_of(trait_category)

        def compute(loaded: LoadedRun) -> AllForests:
            cells = loaded.cells(use_expected=use_expected)
            data = compute_all_forests(
                cells,
                trait_category=category,
                neutral=neutral,
                options=ForestOptions(alpha=alpha, sesoi=sesoi, method=by),
            )
            size = max((forest["family_size"] for forest in data.values()), default=0)
            return {
                **run_basis(loaded, use_expected=use_expected),
                **count_sample(cells, category, neutral=neutral),
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
        check_options(alpha=alpha)
        category = category_of(trait_category)

        def compute(loaded: LoadedRun) -> OmnibusPanel:
            cells = loaded.cells(use_expected=use_expected)
            omnibus = compute_omnibus(cells, trait_category=category, neutral=neutral, alpha=alpha)
            return {
                **run_basis(loaded, use_expected=use_expected),
                **omnibus,
                **count_sample(cells, category, neutral=neutral),
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
        check_options(alpha=alpha)

        def compute(loaded: LoadedRun) -> OmnibusByCategoryPanel:
            cells = loaded.cells(use_expected=use_expected)
            tables = compute_omnibus_by_category(cells, neutral=neutral, alpha=alpha)["categories"]
            size = max((table["family_size"] for table in tables.values()), default=0)
            return {
                **run_basis(loaded, use_expected=use_expected),
                **count_sample(cells, neutral=neutral),
                "correction": correction_of(OMNIBUS_FAMILY, "bh", size, alpha),
                "categories": tables,
            }

        chosen = {"alpha": alpha, "use_expected": use_expected, "neutral": neutral}
        return self._panel(run_id, "omnibus by category", chosen, compute)
