import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.oneway import anova_oneway

from benchlib.domain.stats.brown_forsythe import compute_brown_forsythe
from benchlib.domain.stats.welch import compute_moments
from tests.domain.frames import law


def analyse(*groups):
    codes = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    values = np.concatenate(groups).astype(float)
    return compute_brown_forsythe(compute_moments(values, codes, len(groups)))


@law
@given(
    st.lists(st.lists(st.floats(-3, 3, width=16), min_size=3, max_size=9), min_size=2, max_size=6)
)
def test_equals_statsmodels(groups):
    found = analyse(*groups)
    if not found.n_groups or np.isnan(found.f):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = anova_oneway([np.array(group) for group in groups], use_var="bf")
    assert found.f == pytest.approx(expected.statistic, rel=1e-8, abs=1e-12)
    assert (found.df1, found.df2) == pytest.approx(expected.df, rel=1e-8)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-7)


def test_by_hand():
    # groups 1 3, 2 4 6, 5 5 5 5; N = 9, mean 4: between 2 * 4 + 0 + 4 * 1 = 12,
    # within (1 - 2/9) 2 + (1 - 3/9) 4 + 0 = 38/9, so F* = 108/38
    found = analyse([1, 3], [2, 4, 6], [5, 5, 5, 5])
    assert found.f == pytest.approx(108 / 38)
    # means 2 4 5 about 11/3: (25 + 1 + 16)/9 = 14/3; errors 1, 4/3, 0, their mean 7/9
    assert found.variance_between == pytest.approx(14 / 6 - 7 / 9)
    assert found.sd_between == pytest.approx(np.sqrt(14 / 6 - 7 / 9))
    assert found.n_groups == 3


def test_a_constant_group_does_not_void_the_attribute():
    found = analyse([3, 3, 3, 3], [1, 2, 5, 4], [4, 4, 5, 5])
    assert 0 < found.p_value < 1
    assert found.df1 < 2


def test_groups_too_small_to_test_get_no_p():
    found = analyse([1, 2], [3, 5], [2, 2])
    assert np.isnan(found.p_value)
    assert np.isnan(found.variance_low)
    assert np.isfinite(found.variance_between)
    with_three = analyse([1, 2, 3], [3, 5], [4])
    assert np.isfinite(with_three.p_value)
    assert with_three.n_groups == 2


def test_nothing_to_test():
    assert np.isnan(analyse([1, 2, 3]).p_value)
    assert np.isnan(analyse([1, 2, 3]).variance_between)
    constant = analyse([1, 1, 1], [2, 2, 2])
    assert np.isnan(constant.p_value)
    assert constant.variance_between == pytest.approx(0.5)
    assert constant.sd_between == pytest.approx(np.sqrt(0.5))


def test_panels_are_tested_as_if_alone():
    rng = np.random.default_rng(1)
    values, codes = rng.normal(size=(30, 3)), np.repeat([0, 1, 2, -1], [5, 8, 12, 5])
    values[:4, 1] = np.nan
    together = compute_brown_forsythe(compute_moments(values, codes, 3))
    for i in range(3):
        alone = compute_brown_forsythe(compute_moments(values[:, i], codes, 3))
        for name in ("f", "df1", "df2", "p_value", "variance_low", "variance_high"):
            assert getattr(together, name)[i] == pytest.approx(getattr(alone, name))


@law
@given(st.integers(0, 10_000))
def test_the_interval_surrounds_the_estimate(seed):
    rng = np.random.default_rng(seed)
    found = analyse(*(rng.normal(rng.normal(), 1, size) for size in rng.integers(3, 12, 4)))
    assert 0 <= found.variance_low <= max(0, found.variance_between) + 1e-9
    assert found.variance_high >= max(0, found.variance_between) - 1e-9


@pytest.mark.parametrize(
    ("sizes", "sds"),
    [([3] * 20, [0.5] * 20), ([300, 5], [0.5, 1.0]), ([200, 20, 20], [0.3, 0.9, 0.3])],
)
def test_error_rate_bias_and_coverage(sizes, sds):
    # 600 runs each, first without any difference, then with true means .3 apart in pairs
    rng = np.random.default_rng(2)
    codes = np.repeat(np.arange(len(sizes)), sizes)
    noise = rng.normal(size=(len(codes), 600)) * np.asarray(sds)[codes][:, None]
    null = compute_brown_forsythe(compute_moments(noise, codes, len(sizes)))
    assert np.mean(null.p_value < 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 600)
    assert abs(null.variance_between.mean()) < 0.01
    means = 0.3 * (np.arange(len(sizes)) % 2)
    truth = means.var(ddof=1)
    shifted = compute_brown_forsythe(
        compute_moments(noise + means[codes][:, None], codes, len(sizes))
    )
    covered = (shifted.variance_low <= truth) & (truth <= shifted.variance_high)
    assert covered.mean() >= 0.95 - 3 * np.sqrt(0.05 * 0.95 / 600)
    error = shifted.variance_between.std() / np.sqrt(600)
    assert abs(shifted.variance_between.mean() - truth) < 4 * error
