"""Payloads of a planted run, as the figures of the analysis get them."""

from dataclasses import replace
from functools import cache

from benchlib.domain.analysis.adjusted_deltas import compute_adjusted_deltas
from benchlib.domain.analysis.answer_grid import AnswerGrid
from benchlib.domain.analysis.cells import compute_cells
from benchlib.domain.analysis.deltas import compute_deltas
from benchlib.domain.analysis.distributions import (
    compute_distribution_summary,
    describe_distributions,
)
from benchlib.domain.analysis.forest import compute_forest
from benchlib.domain.analysis.omnibus import compute_omnibus, compute_omnibus_by_category
from benchlib.domain.analysis.order_effects import compute_order_effect_metrics
from benchlib.domain.analysis.trait_comparisons import ForestOptions
from benchlib.domain.simulation.planted import PlantedDesign
from benchlib.presentation.provenance import Provenance

HOSTILE = '<a href="https://example.org">x</a><img src=x onerror=alert(1)> $x$\nnext'

PROVENANCE = Provenance(
    run_id=3,
    model_name="SmolLM2-135M-Instruct",
    model_revision="abc123",
    dataset_name="Sample: factorial",
    manifest_hash="1a2b3c4d5e6f7788" * 4,
    correction="q: Benjamini–Hochberg over 60 tests (all trait rows of the run)",
    simulated=True,
    preliminary=False,
    n_personas=60,
    n_answers=1234,
    n_missing=5,
    n_dropped=2,
)
MEASURED = replace(PROVENANCE, simulated=False)
DESIGN = PlantedDesign(n_personas=240, n_positive=4, n_negative=4, n_neutral=2)


@cache
def frame():
    return DESIGN.simulate(1)


@cache
def cells():
    return compute_cells(frame(), ["group"])


@cache
def forest():
    options = ForestOptions(poolings=("reml",))
    return compute_forest(cells(), "group", baseline="a", targets=["b", "c"], options=options)


@cache
def deltas():
    return compute_deltas(cells(), "group", baseline="a")


@cache
def adjusted():
    return compute_adjusted_deltas(cells())


@cache
def omnibus():
    return compute_omnibus(cells()), compute_omnibus_by_category(cells())["categories"]


@cache
def order():
    return compute_order_effect_metrics(AnswerGrid.from_frame(frame()))


@cache
def distribution():
    shares = [[0.1, 0.2, 0.4, 0.2, 0.1], [0.0, 0.1, 0.2, 0.3, 0.4]]
    return compute_distribution_summary(describe_distributions(shares, [0.95, 0.99]))
