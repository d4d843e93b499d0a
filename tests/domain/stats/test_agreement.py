import numpy as np
import pytest
from hypothesis import given, strategies
from scipy import stats
from statsmodels.stats.contingency_tables import SquareTable
from statsmodels.stats.inter_rater import cohens_kappa

from benchlib.domain.stats.agreement import (
    KAPPA_WEIGHTS,
    compute_agreement,
    compute_bowker,
    compute_persona_tables,
    compute_stuart_maxwell,
    compute_table_statistics,
)
from tests.domain.frames import law
from tests.domain.oracle import load_case

TABLES = strategies.lists(
    strategies.lists(strategies.integers(0, 6), min_size=5, max_size=5), min_size=5, max_size=5
).map(np.array)


def expand(table):
    rows, columns = np.indices(table.shape) + 1
    return np.repeat(rows.ravel(), table.ravel()), np.repeat(columns.ravel(), table.ravel())


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
