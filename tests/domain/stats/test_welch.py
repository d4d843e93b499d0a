import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.meta_analysis import effectsize_smd
from statsmodels.stats.weightstats import ttost_ind

from benchlib.domain.stats.welch import (
    compute_equivalence,
    compute_hedges_g,
    compute_moments,
    compute_moments_and_residuals,
    compute_q_values,
    compute_welch,
    is_significant,
    judge,
    moments_of,
    none_if_nan,
)
from tests.domain.frames import law
from tests.domain.oracle import close, load_case

scores = st.lists(st.floats(-2, 2, width=32), min_size=2, max_size=12)


def welch_of(base, cat):
    return compute_welch(moments_of(base), moments_of(cat))


def test_welch_matches_the_worked_case():
    case = load_case("welch_delta")
    base, cat = moments_of(case.input["base"]), moments_of(case.input["cat"])
    welch = compute_welch(base, cat)
    found = {
        "n_base": int(welch.n_base),
        "n_cat": int(welch.n_cat),
        "mean_base": float(base.mean),
        "mean_cat": float(cat.mean),
        "delta": float(welch.delta),
        "se": float(welch.se),
        "df": float(welch.df),
        "t": float(welch.t),
        "p": float(welch.p_value),
        "ci_low": float(welch.ci_low),
        "ci_high": float(welch.ci_high),
        "ci90_low": float(welch.ci90_low),
        "ci90_high": float(welch.ci90_high),
    }
    assert found == close(case.expected)
    assert welch.status == "low_n"  # 7 and 5 personas


@law
@given(scores, scores)
def test_welch_agrees_with_scipy(base, cat):
    welch = welch_of(base, cat)
    if welch.status == "zero_variance" or welch.se < 1e-6:
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Precision loss")  # of one constant group
        expected = stats.ttest_ind(cat, base, equal_var=False)
    interval = expected.confidence_interval()
    assert welch.t == pytest.approx(expected.statistic)
    assert welch.p_value == pytest.approx(expected.pvalue)
    assert welch.df == pytest.approx(expected.df)
    assert [welch.ci_low, welch.ci_high] == pytest.approx([interval.low, interval.high])


@law
@given(scores, scores)
def test_swapping_the_groups_flips_the_sign_and_nothing_else(base, cat):
    one, other = welch_of(base, cat), welch_of(cat, base)
    assert one.delta == -other.delta
    np.testing.assert_allclose(one.p_value, other.p_value)
    np.testing.assert_allclose([one.ci_low, one.ci_high], [-other.ci_high, -other.ci_low])
    g, mirrored = (
        compute_hedges_g(moments_of(a), moments_of(b)) for a, b in ((base, cat), (cat, base))
    )
    np.testing.assert_allclose(g.g, -mirrored.g)


@pytest.mark.parametrize("index", range(3))
def test_edge_groups_have_a_status_instead_of_a_test(index):
    case = load_case("edge_group_delta")
    groups, expected = case.input["cases"][index], case.expected["cases"][index]
    welch = welch_of(groups["base"], groups["cat"])
    assert welch.status == expected["status"]
    for name, value in (
        ("delta", welch.delta),
        ("se", welch.se),
        ("p", welch.p_value),
        ("ci_low", welch.ci_low),
        ("ci_high", welch.ci_high),
    ):
        assert none_if_nan(value) == close(expected[name])


def test_two_different_constants_are_no_proof():
    # scipy returns p = 0 here
    welch = welch_of([3.0, 3.0, 3.0], [4.0, 4.0])
    assert (welch.status, float(welch.delta), float(welch.se)) == ("zero_variance", 1.0, 0.0)
    assert none_if_nan(welch.p_value) is None
    assert none_if_nan(compute_hedges_g(moments_of([3.0, 3.0]), moments_of([4.0, 4.0])).g) is None


def test_rounding_noise_is_no_variance():
    value = 0.1 + 0.2
    assert moments_of([value, 0.3, 0.3]).var == 0
    assert moments_of([3.0, 3.0 + 1e-6]).var > 0


def test_small_groups_are_marked():
    assert welch_of([1.0, 2.0, 3.0, 4.0], [2.0, 3.0, 4.0, 5.0, 6.0]).status == "low_n"


def test_moments_ignore_missing_values_and_strangers():
    table = np.array([[1.0, np.nan], [3.0, 4.0], [9.0, 9.0], [5.0, 6.0]])
    moments, residuals = compute_moments_and_residuals(table, np.array([0, 0, -1, 1]), 3)
    np.testing.assert_array_equal(moments.n, [[2, 1], [1, 1], [0, 0]])
    np.testing.assert_array_equal(moments.mean, [[2, 4], [5, 6], [np.nan, np.nan]])
    np.testing.assert_array_equal(moments.var, [[2, np.nan], [np.nan] * 2, [np.nan] * 2])
    np.testing.assert_array_equal(residuals, [[-1, 0], [1, 0], [0, 0], [0, 0]])
    flat = compute_moments(table[:, 0], np.array([0, 0, -1, 1]), 3)
    np.testing.assert_array_equal(flat.mean, [2, 5, np.nan])
    assert moments.at(-1).n.tolist() == [0, 0]


def test_hedges_g_matches_the_worked_case_and_statsmodels():
    case = load_case("hedges_g")
    base, cat = moments_of(case.input["base"]), moments_of(case.input["cat"])
    found = compute_hedges_g(base, cat)
    assert {
        "g": float(found.g),
        "var_g": float(found.var),
        "ci_low": float(found.ci_low),
        "ci_high": float(found.ci_high),
    } == close(case.expected)
    expected = effectsize_smd(cat.mean, cat.sd, cat.n, base.mean, base.sd, base.n)
    assert [found.g, found.var] == pytest.approx(expected)


def test_equivalence_matches_the_worked_case():
    case = load_case("equivalence_tost")
    welch = welch_of(case.input["base"], case.input["cat"])
    found = compute_equivalence(welch, case.input["margin"])
    assert found.p_value == case.approx("p_tost")
    assert found.p_low == case.approx("p_low")
    assert found.p_high == case.approx("p_high")
    assert [float(welch.ci90_low), float(welch.ci90_high)] == case.approx("ci90")
    assert judge(False, float(found.p_value), 0.05) == "equivalent"


@law
@given(scores, scores, st.floats(0.01, 2))
def test_equivalence_agrees_with_statsmodels_and_the_interval(base, cat, margin):
    welch = welch_of(base, cat)
    if welch.status == "zero_variance" or welch.se < 1e-6:
        return
    found = compute_equivalence(welch, margin)
    expected = ttost_ind(np.array(cat), np.array(base), -margin, margin, usevar="unequal")[0]
    assert found.p_value == pytest.approx(expected, abs=1e-12)
    if abs(found.p_value - 0.05) > 1e-9:
        within = -margin < welch.ci90_low and welch.ci90_high < margin
        assert within == (found.p_value < 0.05)


def test_no_variance_no_equivalence():
    welch = welch_of([3.0, 3.0], [3.0, 3.0])
    assert none_if_nan(compute_equivalence(welch).p_value) is None


@pytest.mark.parametrize(
    ("significant", "p_equivalence", "verdict"),
    [
        (True, 0.5, "biased"),
        (True, 0.01, "negligible"),
        (False, 0.01, "equivalent"),
        (False, 0.5, "inconclusive"),
        (None, 0.5, None),
        (True, None, "biased"),  # two different constants: no interval, but a permutation
    ],
)
def test_verdicts(significant, p_equivalence, verdict):
    assert judge(significant, p_equivalence, 0.05) == verdict


def test_false_discovery_rates_match_the_worked_case():
    case = load_case("fdr_run")
    assert [none_if_nan(q) for q in compute_q_values(case.input["p"])] == case.approx("q_bh")
    assert [none_if_nan(q) for q in compute_q_values(case.input["p"], "by")] == case.approx("q_by")


def test_a_family_without_tests_has_no_q():
    assert compute_q_values([]).tolist() == []
    assert [none_if_nan(q) for q in compute_q_values([None, None])] == [None, None]


@law
@given(st.lists(st.none() | st.floats(0, 1), max_size=20))
def test_q_is_never_below_p_and_untested_rows_do_not_count(p_values):
    q_values = compute_q_values(p_values)
    strict = compute_q_values(p_values, "by")
    tested = [p for p in p_values if p is not None]
    np.testing.assert_array_equal(q_values[~np.isnan(q_values)], compute_q_values(tested))
    for p, q, q_by in zip(p_values, q_values, strict, strict=True):
        if p is None:
            assert np.isnan(q)
        else:
            assert p <= q + 1e-15 <= q_by + 1e-12 <= 1 + 1e-9


def test_significance_needs_a_test():
    assert is_significant(None, 0.05) is None
    assert is_significant(0.01, 0.05) is True
    assert is_significant(0.05, 0.05) is False
