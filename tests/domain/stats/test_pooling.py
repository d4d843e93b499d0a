from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.meta_analysis import combine_effects

from benchlib.domain.errors import InvalidInput
from benchlib.domain.stats.pooling import (
    covariance_of_means,
    pool_independent,
    pool_trait_population,
)
from benchlib.domain.stats.welch import compute_welch, moments_of
from tests.domain.frames import law
from tests.domain.oracle import load_case

cells = st.lists(
    st.lists(st.floats(1, 5, width=32), min_size=3, max_size=3), min_size=2, max_size=7
)


def covariance(group):
    table = np.array(group, dtype=float)
    centre = np.nanmean(table, axis=0)
    return covariance_of_means(np.nan_to_num(table - centre), ~np.isnan(table))


def pool(base, cat):
    base, cat = np.array(base, dtype=float), np.array(cat, dtype=float)
    deltas = np.nanmean(cat, axis=0) - np.nanmean(base, axis=0)
    on_list = compute_welch(*(moments_of(np.nanmean(group, axis=1)) for group in (base, cat)))
    return pool_trait_population(
        deltas,
        covariance(base),
        covariance(cat),
        len(base),
        len(cat),
        float(on_list.se**2),
        float(on_list.df),
    )


def test_the_trait_population_matches_the_worked_case():
    case = load_case("forest_pooled_correlated")
    found = pool(case.input["base"], case.input["cat"])
    for name, key in (
        ("mean", "mean"),
        ("se", "se_random_traits"),
        ("tau2", "tau2"),
        ("i2", "I2"),
        ("f_het", "F_het"),
        ("df1", "df1"),
        ("df2", "df2"),
        ("epsilon", "eps_gg"),
        ("p_het_uncorrected", "p_het"),
        ("p_het", "p_het_gg"),
    ):
        assert getattr(found, name) == case.approx(key), name
    # The worked df took tau2 / T for a mean square with T - 1 df. It is a difference: A - C with
    # A = SS / ((T - 1) T) on T - 1 df, C = s2 / T on (n - 2)(T - 1) df, next to B = 1'V1 / T^2.
    base, cat = (np.array(case.input[name], dtype=float) for name in ("base", "cat"))
    k, n = base.shape[1], len(base) + len(cat)
    cov = covariance(base) + covariance(cat)
    a = (cat.mean(axis=0) - base.mean(axis=0)).var(ddof=1) / k
    c = (np.trace(cov) - cov.sum() / k) / ((k - 1) * k)
    means = compute_welch(*(moments_of(group.mean(axis=1)) for group in (base, cat)))
    b, df_b = float(means.se**2), float(means.df)
    df = (a + b - c) ** 2 / (a**2 / (k - 1) + b**2 / df_b + c**2 / ((n - 2) * (k - 1)))
    assert found.df == pytest.approx(min(df, max(df_b, k - 1)))
    assert found.df < case.expected["df_random"]
    reach = stats.t.ppf(0.975, found.df) * found.se
    assert [found.ci_low, found.ci_high] == pytest.approx([found.mean - reach, found.mean + reach])
    assert [found.pi_low, found.pi_high] == case.approx("pi")


@law
@given(cells, cells)
def test_sampling_variance_is_that_of_the_persona_means(base, cat):
    # 1'V1 / T^2 is the squared Welch standard error on persona means
    base, cat = np.array(base), np.array(cat)
    total = (covariance(base) + covariance(cat)).sum() / 9
    expected = sum(group.mean(axis=1).var(ddof=1) / len(group) for group in (base, cat))
    assert total == pytest.approx(expected, abs=1e-12)


@law
@given(cells, cells)
def test_without_differences_between_traits_it_is_welch_on_persona_means(base, cat):
    found = pool(base, cat)
    if found.tau2 != 0 or found.se is None or found.se < 1e-6:
        return
    means = (moments_of(np.mean(group, axis=1)) for group in (base, cat))
    expected = compute_welch(*means)
    assert found.p_value == pytest.approx(float(expected.p_value))
    assert found.df == pytest.approx(float(expected.df))


def test_missing_ratings_use_the_personas_that_rated_both():
    nan = np.nan
    table = [[1.0, 2.0], [2.0, nan], [4.0, 3.0], [nan, 4.0]]
    found = covariance(table)
    # variances over three raters each, divided by 3
    assert np.diag(found) == pytest.approx([np.var([1, 2, 4], ddof=1) / 3, 1 / 3])
    # two personas rated both; residuals from means 7/3 and 3, divisor 1, times 2 / (3 * 3)
    cross = (1 - 7 / 3) * (2 - 3) + (4 - 7 / 3) * (3 - 3)
    assert found[0, 1] == pytest.approx(cross / 1 * 2 / 9)
    assert covariance([[1.0, nan], [nan, 2.0], [3.0, 4.0]])[0, 1] == 0


def test_few_traits():
    rng = np.random.default_rng(0)
    base, cat = rng.normal(3, 1, (9, 2)), rng.normal(3, 1, (8, 2))
    two = pool(base, cat)
    assert two.k == 2
    assert two.p_value is not None
    assert two.pi_low is two.pi_high is None
    one = pool(base[:, :1], cat[:, :1])
    expected = stats.ttest_ind(cat[:, 0], base[:, 0], equal_var=False)
    assert one.p_value == pytest.approx(expected.pvalue)
    assert one.tau2 is one.f_het is one.pi_low is None
    none = pool_trait_population(
        np.empty(0), np.empty((0, 0)), np.empty((0, 0)), 9, 8, np.nan, np.nan
    )
    assert (none.k, none.mean, none.se) == (0, None, None)


def test_no_variance_leaves_the_mean_alone():
    found = pool(np.full((4, 3), 3.0), np.full((5, 3), 4.0))
    assert found.mean == 1
    assert {value for name, value in asdict(found).items() if name not in ("k", "mean")} == {None}
    lonely = pool(np.array([[1.0, 2.0], [2.0, 4.0]]), np.array([[3.0, 5.0]]))
    assert lonely.mean is not None
    assert lonely.se is None


@pytest.mark.parametrize("method", ["dl", "pm", "reml"])
def test_textbook_poolings_match_the_worked_case(method):
    case = load_case("random_effects_meta")
    found = pool_independent(
        np.array(case.input["effect"]), np.array(case.input["variance"]), method
    )
    assert (found.k, found.excluded) == (13, ())
    assert found.tau2 == case.approx(f"tau2_{method}")
    assert found.q == case.approx("Q")
    assert found.q_p == pytest.approx(case.expected["Q_p"])
    # I2 of the worked case is that of DerSimonian-Laird, (Q - 12) / Q; the others follow their own
    # tau2: tau2 / (tau2 + s2), the typical variance s2 being the one that gives DL's
    dl = case.expected["tau2_dl"]
    typical = dl / case.expected["I2"] - dl
    assert found.i2 == pytest.approx(found.tau2 / (found.tau2 + typical), abs=1e-6)
    if method == "dl":
        assert found.i2 == case.approx("I2")
    expected = case.approx(method)
    assert {name: getattr(found, name) for name in expected} == expected


@law
@given(
    st.lists(st.tuples(st.floats(-1, 1), st.floats(0.01, 1)), min_size=2, max_size=8),
    st.sampled_from(["dl", "pm"]),
)
def test_textbook_poolings_agree_with_statsmodels(pairs, method):
    effect, variance = np.array(pairs).T
    found = pool_independent(effect, variance, method)
    with np.errstate(all="ignore"):
        expected = combine_effects(effect, variance, method_re=method)
    # statsmodels stops its search for Paule and Mandel's tau2 early
    tolerance = 1e-4 if method == "pm" else 1e-9
    assert found.tau2 == pytest.approx(max(expected.tau2, 0), abs=tolerance)
    assert min(effect) - 1e-12 <= found.mean <= max(effect) + 1e-12
    if expected.tau2 >= 0:
        assert found.mean == pytest.approx(expected.mean_effect_re, abs=tolerance)
        assert found.se == pytest.approx(expected.sd_eff_w_re, abs=tolerance)
        assert found.se_hksj == pytest.approx(expected.sd_eff_w_re_hksj, abs=tolerance)


def test_reml_maximises_the_restricted_likelihood():
    rng = np.random.default_rng(4)
    effect, variance = rng.normal(0, 0.6, 12), rng.uniform(0.05, 0.3, 12)

    def minus_log_likelihood(tau2):
        weight = 1 / (variance + tau2)
        mean = weight @ effect / weight.sum()
        return (
            np.log(variance + tau2).sum() + np.log(weight.sum()) + weight @ (effect - mean) ** 2
        ) / 2

    grid = np.linspace(0, 1, 20_001)
    best = grid[np.argmin([minus_log_likelihood(tau2) for tau2 in grid])]
    assert pool_independent(effect, variance, "reml").tau2 == pytest.approx(best, abs=1e-4)


def test_effects_without_a_weight_are_listed():
    effect, variance = np.array([0.1, 0.5, np.nan, 0.3]), np.array([0.01, 0.0, 0.1, 0.02])
    found = pool_independent(effect, variance, "dl")
    assert (found.k, found.excluded) == (2, (1, 2))
    assert found.pi_low is None
    one = pool_independent(effect[:1], variance[:1], "reml")
    assert (one.mean, one.se, one.tau2, one.q) == (0.1, pytest.approx(0.1), None, None)
    nothing = pool_independent(effect[1:3], variance[1:3], "pm")
    assert (nothing.k, nothing.mean) == (0, None)
    with pytest.raises(InvalidInput, match="dl, pm, reml"):
        pool_independent(effect, variance, "bayes")
