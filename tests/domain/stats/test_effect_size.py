import numpy as np
import pytest
from scipy import stats

from benchlib.domain.stats.effect_size import compute_hedges_g_interval, noncentrality_of_t
from benchlib.domain.stats.welch import compute_moments, moments_of


def test_the_ends_are_the_noncentralities_at_the_quantiles():
    t, df = np.array([2.0, -0.5, 12.0]), np.array([8.0, 30.0, 200.0])
    for level in (0.025, 0.975):
        found = noncentrality_of_t(level, df, t)
        assert stats.nct.cdf(t, df, found) == pytest.approx([level] * 3, abs=1e-9)
    assert np.isnan(noncentrality_of_t(0.5, np.array([3.0]), np.array([np.nan]))).all()


def test_swapping_the_groups_mirrors_the_interval():
    base, cat = moments_of([1.0, 2, 4, 3]), moments_of([3.0, 5, 4])
    there, back = compute_hedges_g_interval(base, cat), compute_hedges_g_interval(cat, base)
    assert there.g == pytest.approx(-back.g)
    assert there.ci_low == pytest.approx(-back.ci_high)
    assert there.ci_low < there.g < there.ci_high


def test_no_interval_without_variance_or_personas():
    found = compute_hedges_g_interval(moments_of([3.0, 3, 3]), moments_of([4.0, 4]))
    assert np.isnan(found.ci_low)
    assert np.isnan(compute_hedges_g_interval(moments_of([3.0, 2]), moments_of([4.0])).ci_high)


def test_coverage_with_few_personas():
    # 2,000 samples of 5 + 5 with a true difference of 1.5 sd; 3 Monte Carlo errors are .0146
    rng = np.random.default_rng(1)
    values = np.concatenate([rng.normal(0, 1, (5, 2000)), rng.normal(1.5, 1, (5, 2000))])
    moments = compute_moments(values, np.repeat([0, 1], 5), 2)
    found = compute_hedges_g_interval(moments.at(0), moments.at(1))
    truth = 1.5 * (1 - 3 / 31)  # the interval of g is that of d times its small-sample factor
    covered = (found.ci_low <= truth) & (truth <= found.ci_high)
    assert covered.mean() == pytest.approx(0.95, abs=0.0146)
