"""What was answered: counts, means, order effects, distributions, styles, the health of a run."""

from benchlib.application.analysis.basis import (
    STYLE_FAMILY,
    category_of,
    check_category,
    check_options,
    correction_of,
    describe_run_distributions,
    of_attribute,
    run_basis,
)
from benchlib.application.analysis.panel_cache import KeptPanels
from benchlib.application.analysis.panel_payloads import (
    AllMeans,
    DistributionsPanel,
    HealthCheck,
    MeansPanel,
    MetricsPanel,
    OrderPanel,
    StylesPanel,
)
from benchlib.domain.analysis.data_quality import judge_data_quality, worst_status
from benchlib.domain.analysis.distributions import compute_distribution_summary
from benchlib.domain.analysis.metrics import (
    AttributeMean,
    compute_means_by_attribute,
    compute_rating_histogram,
    compute_trait_category_histograms,
    compute_trait_category_summary,
    summarise_rating_by,
)
from benchlib.domain.analysis.order_effects import compute_order_effect_metrics
from benchlib.domain.analysis.styles import compute_missing_rates, compute_response_styles
from benchlib.domain.analysis.trait_sets import count_sample
from benchlib.domain.stats.welch import DEFAULT_ALPHA
from benchlib.infrastructure.loading.data_loader import LoadedRun


class AnswerPanels(KeptPanels):
    """Panels on the answers themselves; parameters as in `RunAnalysis`."""

    def get_metrics(self, run_id: int, *, use_expected: bool = True) -> MetricsPanel:
        """Histograms, summary by trait category and means by attribute."""

        def compute(loaded: LoadedRun) -> MetricsPanel:
            cells = loaded.cells(use_expected=use_expected)
            basis = run_basis(loaded, use_expected=use_expected, copies=True)
            return {
                **basis,
                "n": basis["n_answers"],
                "n_personas": loaded.grid.n_rated_personas,
                "hist": compute_rating_histogram(loaded.grid),
                "trait_categories": {
                    "histograms": compute_trait_category_histograms(loaded.grid),
                    "summary": compute_trait_category_summary(loaded.grid),
                },
                "attributes": {
                    name: summarise_rating_by(cells, name) for name in loaded.attributes
                },
            }

        return self._panel(run_id, "metrics", {"use_expected": use_expected}, compute)

    def get_order_metrics(self, run_id: int, *, trait_category: str | None = None) -> OrderPanel:
        """How well the answers in both scale orders agree."""
        category = category_of(trait_category)

        def compute(loaded: LoadedRun) -> OrderPanel:
            check_category(loaded, category)
            grid = loaded.originals.take_category(category)
            basis = run_basis(loaded, use_expected=False)
            return {
                **compute_order_effect_metrics(grid),
                "ok": True,
                "run_id": basis["run_id"],
                "n": grid.n_answers,
                "n_answers": basis["n_answers"],
                "missing": basis["missing"],
                "failed": basis["failed"],
                "preliminary": basis["preliminary"],
                "simulated": basis["simulated"],
                "n_copies": basis["n_copies"],
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
        rows = of_attribute(table["data"], attribute)
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
            "n_copies": table["n_copies"],
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
        category = category_of(trait_category)

        def compute(loaded: LoadedRun) -> AllMeans:
            cells = loaded.cells(use_expected=use_expected)
            return {
                **run_basis(loaded, use_expected=use_expected),
                **count_sample(cells, category),
                "trait_category": category,
                "data": {
                    name: compute_means_by_attribute(cells, name, trait_category=category)
                    for name in loaded.attributes
                },
            }

        chosen = {"trait_category": category, "use_expected": use_expected}
        return self._panel(run_id, "means", chosen, compute)

    def get_distributions(
        self, run_id: int, *, trait_category: str | None = None
    ) -> DistributionsPanel:
        """The distributions behind the answers, by trait and trait category."""
        category = category_of(trait_category)

        def compute(loaded: LoadedRun) -> DistributionsPanel:
            check_category(loaded, category)
            return describe_run_distributions(loaded, category)

        return self._panel(run_id, "distributions", {"trait_category": category}, compute)

    def get_styles(
        self, run_id: int, *, alpha: float = DEFAULT_ALPHA, use_expected: bool = True
    ) -> StylesPanel:
        """Acquiescence, extreme and midpoint responding, and who leaves questions unrated."""
        check_options(alpha=alpha)

        def compute(loaded: LoadedRun) -> StylesPanel:
            cells = loaded.cells(use_expected=use_expected)
            originals = loaded.originals
            styles = compute_response_styles(originals, cells, alpha=alpha)
            return {
                **run_basis(loaded, use_expected=use_expected),
                **styles,
                "n": cells.n_ratings,
                "n_personas": cells.n_personas,
                "correction": correction_of(STYLE_FAMILY, "bh", styles["family_size"], alpha),
                "missing_rates": compute_missing_rates(originals, cells, alpha=alpha),
            }

        chosen = {"alpha": alpha, "use_expected": use_expected}
        return self._panel(run_id, "styles", chosen, compute)

    def get_health_check(self, run_id: int) -> HealthCheck:
        """Whether a run's numbers can be trusted: the banner shown wherever results are."""

        def compute(loaded: LoadedRun) -> HealthCheck:
            basis = run_basis(loaded, use_expected=True, copies=True)
            items = judge_data_quality(
                loaded.run,
                compute_order_effect_metrics(loaded.grid),
                compute_rating_histogram(loaded.grid)["counts"],
                compute_distribution_summary(loaded.distributions),
            )
            return {
                **basis,
                "n": basis["n_answers"],
                "n_personas": loaded.grid.n_rated_personas,
                "status": worst_status(items),
                "items": items,
            }

        return self._panel(run_id, "health", {}, compute)
