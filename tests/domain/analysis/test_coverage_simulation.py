"""Do intervals hold what they promise? A hundred simulated runs against their exact truth.

With 100 runs a true coverage of .95 shows as .885 or more (three standard errors).
"""

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest

from benchlib.domain.analysis.answer_grid import AnswerGrid
from benchlib.domain.analysis.cells import compute_cells
from benchlib.domain.analysis.deltas import compute_deltas
from benchlib.domain.analysis.forest import compute_forest
from benchlib.domain.analysis.order_effects import compute_order_effect_metrics
from benchlib.domain.analysis.styles import compute_response_styles
from benchlib.domain.simulation.planted import PlantedDesign
from benchlib.domain.simulation.response_model import PlantedModel

N_RUNS = 100
ACCEPTED = 0.95 - 3 * np.sqrt(0.95 * 0.05 / N_RUNS)
DESIGN = PlantedDesign()
TRUTH = DESIGN.truth()


def estimates_of(frame):
    """Every statistic with a known truth: {name: (estimate, ci_low, ci_high)}."""
    cells = compute_cells(frame, ["group"])
    found = {}
    for row in compute_deltas(cells, "group", baseline="a")["rows"]:
        if row["tested"]:
            group = row["category"]
            found[f"delta {group}"] = (row["delta"], row["ci_low"], row["ci_high"])
            found[f"cliff {group}"] = (row["cliffs_delta"], row["cliffs_low"], row["cliffs_high"])
    for row in compute_forest(cells, "group", baseline="a", targets=["b", "c"])["rows"]:
        name = f"trait {row['category']} {row['case_id']}"
        found[name] = (row["delta"], row["ci_low"], row["ci_high"])
    grid = AnswerGrid.from_frame(frame)
    styles = compute_response_styles(grid, cells, baselines={"group": "a"})
    for row in styles["attributes"]["group"]["rows"]:
        if row["tested"]:
            name = f"{row['style']} {row['category']}"
            found[name] = (row["delta"], row["ci_low"], row["ci_high"])
    order = compute_order_effect_metrics(grid)
    bias, pairs, retest = order["obe"], order["rma"], order["test_retest"]
    found["mean_diff"] = (bias["mean_diff"], bias["ci_low"], bias["ci_high"])
    for name in ("exact_rate", "mae"):
        found[name] = (pairs[name], pairs[f"{name}_ci_low"], pairs[f"{name}_ci_high"])
    found["within1_rate"] = (
        retest["within1_rate"],
        retest["within1_rate_ci_low"],
        retest["within1_rate_ci_high"],
    )
    kappa = order["agreement"]["kappa"]["quadratic"]
    found["kappa"] = (kappa["value"], kappa["ci_low"], kappa["ci_high"])
    return found


def truth_by_name():
    truth = {
        "mean_diff": TRUTH.order_mean_diff,
        "exact_rate": TRUTH.order_exact,
        "within1_rate": TRUTH.order_within1,
        "mae": TRUTH.order_mae,
        "kappa": TRUTH.kappa_quadratic,
    }
    levels = {
        "acquiescence": TRUTH.acquiescence,
        "extreme": TRUTH.extreme_share,
        "midpoint": TRUTH.midpoint_share,
    }
    table = DESIGN.traits()
    names = table.loc[table["valence"] != 0, "case_id"]
    for group in "bc":
        truth[f"delta {group}"] = TRUTH.delta[group]
        truth[f"cliff {group}"] = TRUTH.cliffs_delta[group]
        for style, level in levels.items():
            truth[f"{style} {group}"] = level[group] - level["a"]
        for case_id, delta in zip(names, TRUTH.trait_delta[group], strict=True):
            truth[f"trait {group} {case_id}"] = delta
    return pd.Series(truth)


@cache
def simulated():
    """Estimates and whether their interval covers the truth, one row per run."""
    truth = truth_by_name()
    runs = [pd.DataFrame(estimates_of(DESIGN.simulate(seed))) for seed in range(N_RUNS)]
    numbers = np.array([run[truth.index].to_numpy() for run in runs])
    estimates = pd.DataFrame(numbers[:, 0], columns=truth.index)
    covers = (numbers[:, 1] <= truth.to_numpy()) & (truth.to_numpy() <= numbers[:, 2])
    return truth, estimates, pd.DataFrame(covers, columns=truth.index)


SINGLE = [name for name in truth_by_name().index if not name.startswith("trait")]


@pytest.mark.parametrize("name", SINGLE)
def test_intervals_cover_the_truth(name):
    _, _, covers = simulated()
    assert covers[name].mean() >= ACCEPTED


@pytest.mark.parametrize("name", SINGLE)
def test_estimates_are_unbiased(name):
    truth, estimates, _ = simulated()
    error = estimates[name].std() / np.sqrt(N_RUNS)
    assert abs(estimates[name].mean() - truth[name]) < 4 * error


def test_intervals_of_single_traits_cover_the_truth():
    truth, estimates, covers = simulated()
    traits = [name for name in truth.index if name.startswith("trait")]
    assert len(traits) == 48
    assert covers[traits].to_numpy().mean() >= ACCEPTED
    bias = (estimates[traits].mean() - truth[traits]).mean()
    # rows share personas, so the error of their mean is about that of a delta
    assert abs(bias) < 4 * estimates["delta b"].std() / np.sqrt(N_RUNS)


def test_without_effects_few_runs_are_flagged():
    model = replace(DESIGN.model, effects={}, acquiescence_effects={})
    design = replace(DESIGN, model=model, n_personas=60)
    p_values = []
    for seed in range(N_RUNS):
        cells = compute_cells(design.simulate(1000 + seed), ["group"])
        rows = compute_deltas(cells, "group", baseline="a")["rows"]
        p_values.append([[row["p_value"], row["p_welch"]] for row in rows if row["tested"]])
    rates = (np.array(p_values) < 0.05).mean(axis=(0, 1))
    # 200 tests in pairs that share a baseline: .05 + 3 * sqrt(.05 * .95 / 100)
    assert (rates <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / N_RUNS)).all()


# --- raters whose numbers are known beforehand ----------------------------------------------------

QUIET = {
    "effects": {},
    "acquiescence_effects": {},
    "persona_sd": 0,
    "trait_sd": 0,
    "slope_sd": 0,
    "position_bias": 0,
    "acquiescence": 0,
    "spread_log_mean": 0,
    "spread_log_sd": 0,
    "residual_sd": 0,
}


def deltas_of(**habits):
    design = PlantedDesign(
        model=PlantedModel(**(QUIET | habits)), n_personas=60, dual_fraction=1, missing_share=0
    )
    cells = compute_cells(design.simulate(1), ["group"])
    rows = compute_deltas(cells, "group", baseline="a")["rows"]
    return {row["category"]: row for row in rows if row["tested"]}


@pytest.mark.parametrize("habit", [{}, {"position_bias": -100}])
def test_a_rater_that_ignores_the_question_shows_no_bias(habit):
    for row in deltas_of(**habit).values():
        assert row["delta"] == 0
        assert row["p_value"] is None
        assert row["ci_low"] is None
        assert row["status"] == "zero_variance"


def test_a_bias_that_cancels_over_valences_is_found_all_the_same():
    effects = {"group": {"b": 1.0}}
    assert deltas_of(effects=effects)["b"]["delta"] == pytest.approx(1)
    design = PlantedDesign(model=PlantedModel(**(QUIET | {"effects": effects})), n_neutral=0)
    frame = design.simulate(1)
    before = frame.groupby("group", observed=True)["rating_pre_valence"].mean()
    assert before["b"] - before["a"] == pytest.approx(0, abs=0.05)  # what un-aligned ratings show
