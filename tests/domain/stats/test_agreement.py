import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given, strategies
from scipy import stats
from statsmodels.stats.contingency_tables import SquareTable
from statsmodels.stats.inter_rater import cohens_kappa

from benchlib.domain.analysis.answer_grid import AnswerGrid
from benchlib.domain.analysis.order_effects import compute_order_effect_metrics
from benchlib.domain.analysis.order_pairs import compute_cluster_mean, compute_order_pairs
from benchlib.domain.simulation.planted import PlantedDesign
from benchlib.domain.simulation.response_model import PlantedModel
from benchlib.domain.stats.agreement import (
    KAPPA_WEIGHTS,
    compute_agreement,
    compute_bowker,
    compute_persona_tables,
    compute_stuart_maxwell,
    compute_table_statistics,
)
from tests.domain.frames import law, long_frame
from tests.domain.oracle import close, load_case

TABLES = strategies.lists(
    strategies.lists(strategies.integers(0, 6), min_size=5, max_size=5), min_size=5, max_size=5
).map(np.array)
PAIRS = strategies.lists(
    strategies.tuples(
        strategies.integers(0, 5),
        strategies.integers(0, 3),
        strategies.integers(1, 5),
        strategies.integers(1, 5),
    ),
    max_size=40,
    unique_by=lambda pair: pair[:2],
)


def pair_frame(pairs):
    """A long frame of (persona, trait, raw in, raw rev)."""
    rows = [
        row
        for persona, trait, first, second in pairs
        for row in ((persona, trait, "in", first), (persona, trait, "rev", second))
    ]
    frame = pd.DataFrame(rows, columns=["persona_id", "trait_id", "scale_order", "rating_raw"])
    return frame.assign(
        case_id=frame["trait_id"].map("trait {}".format),
        label=frame["trait_id"].map("label {}".format),
        trait_category=pd.Categorical(["even" if t % 2 == 0 else "odd" for t in frame["trait_id"]]),
        valence=1,
    )


def order_metrics(frame):
    return compute_order_effect_metrics(AnswerGrid.from_frame(frame))


def expand(table):
    rows, columns = np.indices(table.shape) + 1
    return np.repeat(rows.ravel(), table.ravel()), np.repeat(columns.ravel(), table.ravel())


def numbers_in(payload):
    if isinstance(payload, dict):
        return [number for value in payload.values() for number in numbers_in(value)]
    if isinstance(payload, list):
        return [number for value in payload for number in numbers_in(value)]
    return [payload] if isinstance(payload, float) else []


# --- tables ---------------------------------------------------------------------------------------


@law
@given(TABLES)
def test_table_statistics_equal_the_libraries(table):
    found = compute_table_statistics(table)
    first, second = expand(table)
    if len(np.unique(first)) < 2 or len(np.unique(second)) < 2:
        return
    assert found["pearson"] == pytest.approx(stats.pearsonr(first, second).statistic, abs=1e-9)
    assert found["spearman"] == pytest.approx(stats.spearmanr(first, second).statistic, abs=1e-9)
    assert found["kendall"] == pytest.approx(stats.kendalltau(first, second).statistic, abs=1e-9)
    for weights, wt in zip(KAPPA_WEIGHTS, (None, "linear", "quadratic"), strict=True):
        kappa = cohens_kappa(table, wt=wt, return_results=False)
        assert found[f"kappa_{weights}"] == pytest.approx(kappa, abs=1e-9)


@law
@given(TABLES)
def test_intraclass_correlations_equal_their_analysis_of_variance(table):
    found = compute_table_statistics(table)
    both = np.stack(expand(table), axis=1).astype(float)
    n = len(both)
    if n < 2 or np.ptp(both) == 0:
        return
    target, rater = both.mean(axis=1, keepdims=True), both.mean(axis=0, keepdims=True)
    between = 2 * np.square(target - both.mean()).sum() / (n - 1)
    raters = n * np.square(rater - both.mean()).sum()
    error = np.square(both - target - rater + both.mean()).sum() / (n - 1)
    if between + error > 1e-9:
        consistency = (between - error) / (between + error)
        assert found["icc_c1"] == pytest.approx(consistency, abs=1e-9)
    scale = between + error + 2 / n * (raters - error)
    if abs(scale) > 1e-9:
        assert found["icc_a1"] == pytest.approx((between - error) / scale, abs=1e-9)


@law
@given(TABLES)
def test_swapping_the_answers_changes_no_measure(table):
    for name, value in compute_table_statistics(table).items():
        swapped = compute_table_statistics(table.T)[name]
        assert swapped == pytest.approx(value, abs=1e-9, nan_ok=True), name


@law
@given(TABLES)
def test_reading_the_scale_backwards_changes_no_measure(table):
    for name, value in compute_table_statistics(table).items():
        backwards = compute_table_statistics(table[::-1, ::-1])[name]
        assert backwards == pytest.approx(value, abs=1e-9, nan_ok=True), name


@law
@given(TABLES)
def test_symmetry_tests_equal_statsmodels(table):
    filled = table + 1  # statsmodels adds .5 to every cell if one is empty
    square = SquareTable(filled)
    bowker, marginal = square.symmetry(), square.homogeneity()
    assert compute_bowker(filled)["chi2"] == pytest.approx(bowker.statistic)
    assert compute_bowker(filled)["p_value"] == pytest.approx(bowker.pvalue)
    assert compute_stuart_maxwell(filled)["chi2"] == pytest.approx(marginal.statistic, abs=1e-9)
    assert compute_stuart_maxwell(filled)["df"] == 4


def test_ordinal_alpha_by_hand():
    # Two points, counts: 1-1 twice, 2-2 once, 1-2 once. Values: five 1s, three 2s, n = 8.
    # Distance of 1 and 2: (5/2 + 3/2)^2 = 16. Observed 2 * 16 * 1; expected 2 * 5 * 3 * 16.
    # alpha = 1 - 7 * 32 / 480 = 1 - 224/480
    table = np.zeros((5, 5))
    table[0, 0], table[1, 1], table[0, 1] = 2, 1, 1
    alpha = compute_table_statistics(table)["alpha_ordinal"]
    assert alpha == pytest.approx(1 - 224 / 480)


def test_a_constant_model_has_no_agreement_to_speak_of():
    table = np.zeros((5, 5))
    table[2, 2] = 40
    assert all(np.isnan(value) for value in compute_table_statistics(table).values())
    assert compute_bowker(table) == {"chi2": None, "df": 0, "p_value": None}
    assert compute_stuart_maxwell(table) == {"chi2": None, "df": 0, "p_value": None}


def test_kappa_is_zero_where_one_side_is_constant():
    table = np.zeros((5, 5))
    table[2] = [1, 2, 3, 2, 1]
    found = compute_table_statistics(table)
    for weights in KAPPA_WEIGHTS:
        assert found[f"kappa_{weights}"] == pytest.approx(0)
    assert np.isnan(found["kendall"])


def test_unused_points_cost_degrees_of_freedom():
    table = np.zeros((5, 5))
    table[1, 2], table[2, 1], table[1, 1] = 6, 2, 5
    # McNemar: (6 - 2)^2 / 8 = 2 with 1 df, for both tests
    for test in (compute_bowker(table), compute_stuart_maxwell(table)):
        assert test["chi2"] == pytest.approx(2)
        assert test["df"] == 1
        assert test["p_value"] == pytest.approx(stats.chi2.sf(2, 1))


def test_tables_by_persona_hold_every_pair_once():
    tables = compute_persona_tables(np.array([0, 0, 1]), np.array([1, 5, 3]), np.array([2, 5, 3]))
    assert tables.shape == (2, 5, 5)
    assert tables[0, 0, 1] == tables[0, 4, 4] == tables[1, 2, 2] == 1
    assert tables.sum() == 3


def test_jackknife_equals_leaving_out_by_hand():
    rng = np.random.default_rng(4)
    tables = rng.poisson(0.5, (8, 5, 5))
    estimate = compute_agreement(tables)["kappa"]["quadratic"]
    pooled = tables.sum(axis=0)
    left_out = [cohens_kappa(pooled - t, wt="quadratic", return_results=False) for t in tables]
    se = np.sqrt(7 / 8 * np.square(left_out - np.mean(left_out)).sum())
    assert estimate["se"] == pytest.approx(se)
    reach = stats.t.ppf(0.975, 7) * se
    assert estimate["ci_low"] == pytest.approx(estimate["value"] - reach)


def test_jackknife_needs_two_personas_that_can_be_missed():
    table = np.zeros((5, 5))
    table[0, 1], table[1, 0] = 3, 2
    constant = np.zeros((5, 5))
    constant[2, 2] = 4
    for tables in ([table], [table, constant]):
        estimate = compute_agreement(tables)["kappa"]["linear"]
        assert estimate["value"] is not None
        assert estimate["ci_low"] is None


def test_jackknife_ignores_personas_without_pairs():
    tables = np.random.default_rng(1).poisson(0.5, (6, 5, 5))
    padded = np.concatenate([tables, np.zeros((3, 5, 5))])
    assert compute_agreement(tables) == compute_agreement(padded)


# --- means of clustered values --------------------------------------------------------------------


@law
@given(
    strategies.lists(
        strategies.tuples(strategies.integers(0, 4), strategies.integers(-4, 4)), min_size=3
    )
)
def test_cluster_mean_equals_a_clustered_regression(rows):
    _, clusters = np.unique([cluster for cluster, _ in rows], return_inverse=True)
    values = np.array([float(value) for _, value in rows])
    found = compute_cluster_mean(values, clusters)
    assert found.mean == pytest.approx(values.mean())
    if clusters.max() < 1:
        assert found.se is None
        return
    model = sm.OLS(values, np.ones(len(values)))
    fit = model.fit(cov_type="cluster", cov_kwds={"groups": clusters}, use_t=True)
    assert found.se == pytest.approx(fit.bse[0], abs=1e-9)
    if found.ci_low is not None:
        assert [found.ci_low, found.ci_high] == pytest.approx(fit.conf_int()[0], abs=1e-6)


def test_two_way_interval_equals_statsmodels():
    frame = PlantedDesign(n_personas=40).simulate(3)
    pairs = compute_order_pairs(AnswerGrid.from_frame(frame))
    gap = pairs.difference
    fit = sm.OLS(gap, np.ones(len(gap))).fit(
        cov_type="cluster",
        cov_kwds={"groups": np.column_stack([pairs.personas, pairs.traits])},
        use_t=True,
    )
    found = order_metrics(frame)["obe"]
    width = found["two_way_ci_high"] - found["two_way_ci_low"]
    assert width == pytest.approx(2 * stats.t.ppf(0.975, 29) * fit.bse[0], rel=1e-6)


# --- the order panel ------------------------------------------------------------------------------


def test_order_panel_by_hand():
    frame = pair_frame([(0, 0, 4, 2), (0, 1, 5, 5), (1, 0, 3, 4), (1, 1, 1, 5)])
    # differences in - (6 - rev): 0, 4, 1, 0; by persona 4 and 1
    found = order_metrics(frame)
    assert found["n_pairs"] == 4
    assert found["n_personas"] == 2
    assert found["rma"]["exact_rate"] == 0.5
    assert found["rma"]["mae"] == 1.25
    assert found["rma"]["cliffs_delta"] == 0.5
    assert found["test_retest"]["within1_rate"] == 0.75
    assert found["test_retest"]["mean_abs_diff"] == 1.25
    assert found["obe"]["mean_diff"] == 1.25
    assert found["obe"]["position_shift"] == 0.625
    # persona sums of deviations: 4 - 2.5 and 1 - 2.5; se = sqrt(2 * (1.5^2 + 1.5^2)) / 4 = .75
    assert found["obe"]["se"] == pytest.approx(0.75)
    assert found["obe"]["ci_high"] == pytest.approx(1.25 + 12.7062047 * 0.75)
    # answers of the pairs: 4 4, 5 1, 3 2, 1 1
    assert found["usage"]["eei"] == 4 / 8
    assert found["usage"]["mni"] == 1 / 8
    assert found["usage"]["sv"] == pytest.approx(np.var([4, 4, 5, 1, 3, 2, 1, 1], ddof=1))
    assert found["digits"]["counts_in"] == [1, 0, 1, 1, 1]
    assert found["digits"]["counts_rev"] == [0, 1, 0, 1, 2]
    assert found["status"] == "low_n"


def test_order_panel_counts_pairs_by_both_answers():
    frame = pair_frame([(0, 0, 4, 2), (0, 1, 5, 5), (1, 0, 3, 4), (1, 1, 1, 5), (2, 0, 4, 2)])
    # in x (6 - rev): 4 4, 5 1, 3 2, 1 1, 4 4
    assert order_metrics(frame)["table"] == [
        [1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
        [0, 1, 0, 0, 0],
        [0, 0, 0, 2, 0],
        [1, 0, 0, 0, 0],
    ]
    assert order_metrics(frame.iloc[:0])["table"] == [[0] * 5] * 5


def test_order_panel_by_trait_reads_consistency_not_raw_distance():
    frame = pair_frame([(0, 0, 1, 5), (1, 0, 1, 5), (0, 1, 5, 5), (1, 1, 5, 5)])
    rows = {row["case_id"]: row for row in order_metrics(frame)["by_case"]}
    assert rows["trait 0"]["abs_diff"] == 0  # 1 and 5 on the reversed scale say the same
    assert rows["trait 0"]["rma"] == 1
    assert rows["trait 1"]["abs_diff"] == 4
    assert rows["trait 1"]["mean_in"] == rows["trait 1"]["mean_rev"] == 5
    assert rows["trait 1"]["label"] == "label 1"
    assert rows["trait 1"]["ci_low"] is None  # two equal differences


def test_order_panel_by_trait_category():
    frame = pair_frame([(0, 0, 1, 5), (1, 2, 4, 3), (0, 1, 5, 5)])
    even, odd = order_metrics(frame)["by_trait_category"]
    assert (even["trait_category"], even["n"], even["abs_diff"]) == ("even", 2, 0.5)
    assert (odd["trait_category"], odd["n"], odd["abs_diff"]) == ("odd", 1, 4)
    assert odd["ci_low"] is None


def test_order_panel_puts_traits_without_a_category_last():
    frame = pair_frame([(0, 0, 1, 5), (0, 1, 5, 5)])
    frame["trait_category"] = pd.Categorical([None, None, "x", "x"])
    rows = order_metrics(frame)["by_trait_category"]
    assert [row["trait_category"] for row in rows] == ["x", "Unknown"]


@pytest.mark.parametrize(
    "rows", [[], [(0, 0, "in", 3.0, 1)], [(0, 0, "in", 3.0, 1), (0, 0, "rev", None, 1)]]
)
def test_order_panel_without_pairs_is_undefined_but_complete(rows):
    found = order_metrics(long_frame(rows))
    complete = order_metrics(pair_frame([(0, 0, 1, 5)]))
    assert found.keys() == complete.keys()
    assert found["status"] == "no_data"
    assert found["n_pairs"] == 0
    assert found["by_case"] == found["by_trait_category"] == []
    assert numbers_in(found) == []


def test_order_panel_of_one_persona_has_no_intervals():
    found = order_metrics(pair_frame([(0, 0, 4, 2), (0, 1, 5, 5)]))
    assert found["status"] == "n_lt_2"
    assert found["obe"]["mean_diff"] == 2
    assert found["obe"]["ci_low"] is None
    assert found["obe"]["two_way_ci_low"] is None
    assert found["agreement"]["kappa"]["none"]["ci_low"] is None


@law
@given(PAIRS)
def test_order_panel_never_holds_a_number_that_is_none(pairs):
    found = order_metrics(pair_frame(pairs))
    assert np.isfinite(numbers_in(found)).all()


@law
@given(PAIRS)
def test_consistent_pairs_agree_exactly(pairs):
    consistent = [(persona, trait, first, 6 - first) for persona, trait, first, _ in pairs]
    found = order_metrics(pair_frame(consistent))
    assert found["rma"]["exact_rate"] == (1 if pairs else None)
    assert found["agreement"]["kappa"]["quadratic"]["value"] in (None, pytest.approx(1))


@law
@given(PAIRS)
def test_order_panel_ignores_row_order(pairs):
    frame = pair_frame(pairs)
    found = order_metrics(frame)
    backwards = order_metrics(frame[::-1])
    assert numbers_in(backwards) == pytest.approx(numbers_in(found), abs=1e-12)


# --- raters with known habits ---------------------------------------------------------------------

QUIET = {
    "effects": {},
    "persona_sd": 0,
    "trait_sd": 0,
    "slope_sd": 0,
    "position_bias": 0,
    "acquiescence": 0,
    "spread_log_mean": 0,
    "spread_log_sd": 0,
    "residual_sd": 0,
}


def order_panel_of(**habits):
    design = PlantedDesign(model=PlantedModel(**(QUIET | habits)), n_personas=30)
    return order_metrics(design.simulate(1))


def test_a_rater_that_always_says_3_is_consistent_but_says_nothing():
    found = order_panel_of()
    assert found["rma"]["exact_rate"] == 1
    assert found["agreement"]["kappa"]["quadratic"]["value"] is None
    assert found["correlation"]["kendall"] is None
    assert found["obe"]["ci_low"] is None
    assert found["status"] == "zero_variance"


def test_a_rater_that_always_picks_the_first_option_is_never_consistent():
    found = order_panel_of(position_bias=-100)
    assert found["rma"]["exact_rate"] == 0
    assert found["rma"]["mae"] == 4
    assert found["obe"]["position_shift"] == -2
    assert found["agreement"]["kappa"]["quadratic"]["value"] == 0


def test_a_consistent_rater_agrees_perfectly():
    found = order_panel_of(persona_sd=0.8, trait_sd=0.8)
    assert found["rma"]["exact_rate"] == 1
    assert found["agreement"]["kappa"]["quadratic"]["value"] == pytest.approx(1)
    assert found["obe"]["mean_diff"] == 0


def test_agreement_of_the_worked_case():
    case = load_case("order_agreement_table")
    table = np.array(case.input["table"])
    found = compute_table_statistics(table)
    for name, key in {
        "icc_a1": "icc_A1",
        "icc_c1": "icc_C1",
        "alpha_ordinal": "krippendorff_ordinal",
        "alpha_interval": "krippendorff_interval",
        "pearson": "pearson",
        "spearman": "spearman",
        "kendall": "kendall_tau_b",
    }.items():
        assert float(found[name]) == case.approx(key), name
    for weights in KAPPA_WEIGHTS:
        assert float(found[f"kappa_{weights}"]) == case.approx("kappa")[weights]["kappa"]
    for test, name in (
        (compute_bowker(table), "bowker"),
        (compute_stuart_maxwell(table), "stuart_maxwell"),
    ):
        assert test["chi2"] == case.approx(f"{name}_chi2")
        assert test["p_value"] == case.approx(f"{name}_p")


def test_order_panel_of_the_worked_case():
    case = load_case("order_effect")
    personas = {name: i for i, name in enumerate(sorted({p for p, *_ in case.input["pairs"]}))}
    frame = pair_frame(
        [(personas[p], int(t[1:]), first, second) for p, t, first, second in case.input["pairs"]]
    )
    found = order_metrics(frame)
    flat = {
        "n_pairs": found["n_pairs"],
        "n_personas": found["n_personas"],
        "exact": found["rma"]["exact_rate"],
        "within1": found["test_retest"]["within1_rate"],
        "mae": found["rma"]["mae"],
        "mean_diff": found["obe"]["mean_diff"],
        "sd_diff": found["obe"]["sd"],
        "se_cluster": found["obe"]["se"],
        "ci_low": found["obe"]["ci_low"],
        "ci_high": found["obe"]["ci_high"],
        "position_shift": found["obe"]["position_shift"],
        "loa_low": found["obe"]["loa_low"],
        "loa_high": found["obe"]["loa_high"],
    }
    gap = compute_order_pairs(AnswerGrid.from_frame(frame)).difference
    flat["se_iid"] = compute_cluster_mean(gap, np.arange(len(gap))).se
    assert flat == close(case.expected, case.tolerance)
