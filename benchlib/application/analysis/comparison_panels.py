"""Runs compared: how their configurations differ, and how their numbers do.

The first run is the reference; runs are never pooled.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypedDict
from zlib import crc32

from benchlib.application.analysis.answer_panels import OrderPanel
from benchlib.application.analysis.panels import (
    Correction,
    Panel,
    SampleInfo,
    correction,
    pick_attribute,
    sample_info,
)
from benchlib.application.analysis.queries import Alpha, OfRatings, OfTraits, OptionalName, Sesoi
from benchlib.domain.analysis.comparison import (
    DeltaDifferences,
    compute_delta_differences,
)
from benchlib.domain.analysis.level_differences import LevelDifferences, compute_level_differences
from benchlib.domain.analysis.run_agreement import RunAgreement, compute_run_agreement
from benchlib.domain.analysis.shared_runs import (
    FEWEST_RUNS,
    MOST_RUNS,
    RunShare,
    SharedRuns,
    compute_shared_runs,
)
from benchlib.domain.errors import InvalidInput
from benchlib.domain.records import RunRecord
from benchlib.domain.simulation.presets import PRESETS
from benchlib.domain.stats.welch import DEFAULT_ALPHA, DEFAULT_SESOI, FdrMethod
from benchlib.infrastructure.loading.data_loader import LoadedRun

LEVEL_FAMILY: Final = "all level differences of the comparison: runs × sets of traits"
DELTA_DIFFERENCE_FAMILY: Final = (
    "all differences of deltas of the comparison: runs × attributes × categories × sets of traits"
)


class ConfigDifference(TypedDict):
    """A setting that differs between runs; one value per run, None = unknown."""

    what: str
    label: str
    values: list[str | None]


class ComparedRun(SampleInfo, RunShare):
    """A run of the comparison, and how much of it is compared."""

    model_name: str
    dataset_name: str
    status: str


class Comparison(TypedDict):
    """What a comparison is based on.

    `n` counts the ratings of all runs behind the numbers, `n_cells` the personas x traits that
    every run rated, `missing` is summed over the runs. `preliminary` and `simulated` are true if
    they are for one of the runs.
    """

    ok: bool
    reference_id: int
    runs: list[ComparedRun]
    differs: list[ConfigDifference]
    n: int
    n_personas: int
    n_traits: int
    n_cells: int
    missing: int
    preliminary: bool
    simulated: bool
    uses_expected: bool
    trait_category: str | None
    correction: Correction


class MetricsComparison(Comparison):
    """Levels of runs against the first, and how well they agree."""

    levels: LevelDifferences
    agreement: list[RunAgreement]


class DeltasComparison(Comparison):
    """Deltas of runs against those of the first, by attribute."""

    data: dict[str, DeltaDifferences]


class OrderOfRun(TypedDict):
    """Consistency of one run over all its own pairs of scale orders; None = undefined."""

    run_id: int
    model_name: str
    status: str
    n_pairs: int
    n_personas: int
    exact_rate: float | None
    exact_rate_ci_low: float | None
    exact_rate_ci_high: float | None
    mae: float | None
    mae_ci_low: float | None
    mae_ci_high: float | None
    position_shift: float | None
    position_shift_ci_low: float | None
    position_shift_ci_high: float | None
    kappa: float | None
    preliminary: bool
    simulated: bool


class OrderComparison(TypedDict):
    """The scale-order effects of runs, each from its own pairs; nothing is tested."""

    ok: bool
    reference_id: int
    runs: list[OrderOfRun]
    differs: list[ConfigDifference]
    preliminary: bool
    simulated: bool
    trait_category: str | None


class CompareOrderQuery(OfTraits):
    """The agreement of both scale orders, run by run."""


class CompareMetricsQuery(OfTraits, OfRatings):
    """Levels of runs; `by` is the correction that `significant` and `verdict` follow."""

    alpha: Alpha = DEFAULT_ALPHA
    sesoi: Sesoi = DEFAULT_SESOI
    by: FdrMethod = "bh"


class CompareDeltasQuery(CompareMetricsQuery):
    """Deltas of runs.

    Attributes:
        attribute: One attribute; None = all, against their largest categories.
        baseline: The category of `attribute` to compare against.
    """

    attribute: OptionalName = None
    baseline: OptionalName = None


def _compare_metrics(loaded: Sequence[LoadedRun], query: CompareMetricsQuery) -> MetricsComparison:
    """How favourably runs rate the same personas; all trait sets unless a category is named."""
    shared = _shared(loaded, query)
    levels = compute_level_differences(
        shared,
        trait_category=query.trait_category,
        alpha=query.alpha,
        sesoi=query.sesoi,
        method=query.by,
    )
    agreement = compute_run_agreement(shared, query.trait_category)
    return {
        **_comparison(loaded, shared, query, LEVEL_FAMILY, levels["family_size"]),
        "n_personas": agreement[0]["n_personas"],
        "n_traits": agreement[0]["n_traits"],
        "n_cells": agreement[0]["n_cells"],
        "levels": levels,
        "agreement": agreement,
    }


def _compare_deltas(loaded: Sequence[LoadedRun], query: CompareDeltasQuery) -> DeltasComparison:
    """How much the differences between groups differ between runs."""
    attribute, baseline = query.attribute, query.baseline
    if baseline is not None and attribute is None:
        raise InvalidInput("Name the attribute that the baseline is a category of.")
    shared = _shared(loaded, query)
    data = compute_delta_differences(
        shared,
        baselines={attribute: baseline} if attribute and baseline else None,
        trait_category=query.trait_category,
        alpha=query.alpha,
        sesoi=query.sesoi,
        method=query.by,
    )
    size = max((table["family_size"] for table in data.values()), default=0)
    return {
        **_comparison(loaded, shared, query, DELTA_DIFFERENCE_FAMILY, size),
        "data": data if attribute is None else {attribute: pick_attribute(data, attribute)},
    }


COMPARE_METRICS: Final = Panel("comparison of levels", CompareMetricsQuery, _compare_metrics)
COMPARE_DELTAS: Final = Panel("comparison of deltas", CompareDeltasQuery, _compare_deltas)


def compare_order_panels(
    found: Sequence[RunRecord], panels: Sequence[OrderPanel], query: CompareOrderQuery
) -> OrderComparison:
    """The scale-order effects of runs side by side, each from its own order panel."""
    return {
        "ok": True,
        "reference_id": found[0].id,
        "runs": [_order_of_run(run, panel) for run, panel in zip(found, panels, strict=True)],
        "differs": config_differences(found),
        "preliminary": any(panel["preliminary"] for panel in panels),
        "simulated": any(panel["simulated"] for panel in panels),
        "trait_category": query.trait_category,
    }


def _order_of_run(run: RunRecord, panel: OrderPanel) -> OrderOfRun:
    return {
        "run_id": run.id,
        "model_name": run.model_name,
        "status": panel["status"],
        "n_pairs": panel["n_pairs"],
        "n_personas": panel["n_personas"],
        "exact_rate": panel["rma"]["exact_rate"],
        "exact_rate_ci_low": panel["rma"]["exact_rate_ci_low"],
        "exact_rate_ci_high": panel["rma"]["exact_rate_ci_high"],
        "mae": panel["rma"]["mae"],
        "mae_ci_low": panel["rma"]["mae_ci_low"],
        "mae_ci_high": panel["rma"]["mae_ci_high"],
        "position_shift": panel["obe"]["position_shift"],
        "position_shift_ci_low": panel["obe"]["position_shift_ci_low"],
        "position_shift_ci_high": panel["obe"]["position_shift_ci_high"],
        "kappa": panel["agreement"]["kappa"]["quadratic"]["value"],
        "preliminary": panel["preliminary"],
        "simulated": panel["simulated"],
    }


def check_runs_to_compare(run_ids: Sequence[int]) -> None:
    """Refuse too few runs, too many, and a run that is named twice."""
    if not FEWEST_RUNS <= len(run_ids) <= MOST_RUNS:
        raise InvalidInput(f"Compare {FEWEST_RUNS} to {MOST_RUNS} runs; {len(run_ids)} were named.")
    twice = [run_id for i, run_id in enumerate(run_ids) if run_id in run_ids[:i]]
    if twice:
        raise InvalidInput(f"Run {twice[0]} is named twice; name each run once.")


def config_differences(found: Sequence[RunRecord]) -> list[ConfigDifference]:
    """What differs in the configurations and manifests of runs."""
    described = [_described(run) for run in found]
    return [
        {"what": what, "label": label, "values": [values[what] for values in described]}
        for what, label in _LABELS.items()
        if len({values[what] for values in described}) > 1
    ]


_LABELS: Final = {
    "model": "Model",
    "model_revision": "Model revision",
    "engine": "Engine",
    "engine_version": "Engine version",
    "simulated_preset": "Simulated rater",
    "language": "Language",
    "answer_mode": "Answer mode",
    "system_prompt": "System prompt",
    "prompt_version": "Prompt version",
    "prompt_hash": "Prompt hash",
    "temperature": "Temperature",
    "seed": "Seed",
    "scale_mode": "Scale order",
    "dual_fraction": "Dual fraction",
    "traits": "Traits",
    "dataset": "Dataset",
    "benchlib_version": "benchlib version",
}


def _described(run: RunRecord) -> dict[str, str | None]:
    config, manifest = run.config, run.manifest
    engine, prompt = manifest.get("engine", {}), manifest.get("prompt", {})
    last: Mapping[str, Any] = next(reversed(manifest.get("executions", [])), {})
    asked = sorted(config.trait_ids)
    return {
        "model": run.model_name,
        "model_revision": _text(engine.get("model_revision")),
        "engine": config.llm,
        "engine_version": _text(last.get("engine_version", engine.get("engine_version"))),
        "simulated_preset": PRESETS[config.simulated_preset].label
        if config.llm == "simulated"
        else None,
        "language": config.language,
        "answer_mode": _text(engine.get("answer_mode_used", config.answer_mode)),
        "system_prompt": config.system_prompt or "default",
        "prompt_version": _text(prompt.get("version")),
        "prompt_hash": _text(prompt.get("hash")),
        "temperature": f"{config.temperature:g}",
        "seed": str(config.seed),
        "scale_mode": config.scale_mode,
        "dual_fraction": f"{config.dual_fraction:g}",
        "traits": f"{len(asked)} traits (list {crc32(repr(asked).encode()):08x})",
        "dataset": f"{run.dataset_id}: {run.dataset_name}",
        "benchlib_version": _text(last.get("benchlib_version")),
    }


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _shared(loaded: Sequence[LoadedRun], query: OfRatings) -> SharedRuns:
    reference = loaded[0].cells(use_expected=query.use_expected)
    return compute_shared_runs(
        {one.run.id: one.originals for one in loaded},
        reference.attributes,
        use_expected=query.use_expected,
    )


def _comparison(
    loaded: Sequence[LoadedRun],
    shared: SharedRuns,
    query: CompareMetricsQuery,
    family: str,
    family_size: int,
) -> Comparison:
    described: list[ComparedRun] = [
        {
            **sample_info(one, use_expected=query.use_expected),
            **share,
            "model_name": one.run.model_name,
            "dataset_name": one.run.dataset_name,
            "status": one.run.status.value,
        }
        for one, share in zip(loaded, shared.shares, strict=True)
    ]
    return {
        "ok": True,
        "reference_id": shared.run_ids[0],
        "runs": described,
        "differs": [],
        "n": sum(cells.n_ratings for cells in shared.cells),
        "n_personas": shared.cells[0].n_personas,
        "n_traits": shared.cells[0].n_traits,
        "n_cells": shared.n_cells,
        "missing": sum(one["missing"] for one in described),
        "preliminary": any(one["preliminary"] for one in described),
        "simulated": any(one["simulated"] for one in described),
        "uses_expected": any(one["uses_expected"] for one in described),
        "trait_category": query.trait_category,
        "correction": correction(family, query.by, family_size, query.alpha),
    }
