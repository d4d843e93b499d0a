import numpy as np
import pytest
from scipy import stats

from benchlib.domain.errors import InvalidInput
from benchlib.domain.stats.pooling import covariance_of_means
from benchlib.domain.stats.trait_estimates import (
    compute_shrunken_effects,
    compute_simultaneous_intervals,
)
from benchlib.domain.stats.welch import (
    compute_moments_and_residuals,
    compute_q_values,
    compute_welch,
)

BIG_DF = 1e6


def intervals(deltas, cov, df=BIG_DF):
    deltas, cov = np.asarray(deltas, dtype=float), np.asarray(cov, dtype=float)
    se = np.sqrt(np.diag(cov))
    rng = np.random.default_rng(0)
    return compute_simultaneous_intervals(deltas, cov, se, np.full(len(deltas), df), rng)


def test_one_trait_has_its_own_interval():
    found = intervals([0.5], [[0.04]], df=10)
    reach = stats.t.ppf(0.975, 10) * 0.2
    assert found.ci_high[0] - 0.5 == pytest.approx(reach, rel=0.02)


def test_independent_traits_get_sidaks_interval():
    # 1 - .95^(1/10) = .00512 for each of ten
    found = intervals(np.zeros(10), np.eye(10))
    assert found.ci_high == pytest.approx([stats.norm.isf((1 - 0.95**0.1) / 2)] * 10, rel=0.02)


def test_traits_that_move_together_cost_nothing():
    found = intervals(np.zeros(10), np.ones((10, 10)))
    assert found.ci_high == pytest.approx([1.96] * 10, rel=0.02)


def test_traits_without_an_error_are_left_out():
    cov = np.diag([0.04, 0.0, 0.04])
    found = intervals([0.1, 0.2, np.nan], cov)
    assert np.isfinite(found.ci_low).tolist() == [True, False, False]
    assert np.isnan(intervals([np.nan], [[0.1]]).ci_low).all()


def test_equal_deltas_are_drawn_to_their_mean():
    found = compute_shrunken_effects(np.full(12, 0.3), 0.01 * np.eye(12), BIG_DF, 0.1)
    assert found.mean == pytest.approx([0.3] * 12)
    assert (found.ci_high - found.ci_low < 2 * 1.96 * 0.1).all()
    assert (found.prob_above_margin > 0.95).all()


def test_clear_differences_are_left_alone():
    deltas = np.array([-2.0, -1, 0, 1, 2])
    found = compute_shrunken_effects(deltas, 1e-4 * np.eye(5), BIG_DF, 0.1)
    assert found.mean == pytest.approx(deltas, abs=1e-3)
    assert found.ci_high - found.ci_low == pytest.approx([2 * 1.96 * 0.01] * 5, rel=0.01)
    assert found.prob_above_margin == pytest.approx([1, 1, 0, 1, 1], abs=1e-6)
    assert 1 < found.tau < 4


def test_the_largest_delta_is_corrected_most():
    deltas = np.array([0.6, 0.1, 0.0, -0.1, 0.05, 0.15])
    found = compute_shrunken_effects(deltas, 0.04 * np.eye(6), BIG_DF, 0.1)
    assert np.argmax(np.abs(found.mean - deltas)) == 0
    assert deltas.mean() < found.mean[0] < 0.6
    assert found.mean.sum() == pytest.approx(deltas.sum())


def test_too_little_to_shrink():
    two = compute_shrunken_effects(np.array([0.1, 0.2]), np.eye(2), 20, 0.1)
    assert np.isnan(two.mean).all()
    assert np.isnan(compute_shrunken_effects(np.zeros(4), np.zeros((4, 4)), 20, 0.1).mean).all()
    assert len(compute_shrunken_effects(np.zeros(0), np.zeros((0, 0)), 20, 0.1).mean) == 0
    with pytest.raises(InvalidInput, match="above 0"):
        compute_shrunken_effects(np.zeros(4), np.eye(4), 20, 0)


def test_coverage_of_all_rows_and_of_the_significant_ones():
    # 60 forests, 24 traits, 60 + 60 personas, true deltas with sd .15. Raw intervals of
    # significant rows cover .63; 3 Monte Carlo errors of "all hold" are .084.
    rng, codes = np.random.default_rng(1), np.repeat([0, 1], 60)
    seen, together, shrunken, picked = np.ones((60, 24), dtype=bool), [], [], []
    for _ in range(60):
        true = rng.normal(0, 0.15, 24)
        table = rng.normal(0, 0.3, (120, 1)) + rng.normal(0, 0.8, (120, 24))
        moments, residuals = compute_moments_and_residuals(table + codes[:, None] * true, codes, 2)
        cov = sum(covariance_of_means(residuals[codes == g], seen) for g in (0, 1))
        welch = compute_welch(moments.at(0), moments.at(1))
        wide = compute_simultaneous_intervals(welch.delta, cov, welch.se, welch.df, rng)
        found = compute_shrunken_effects(welch.delta, cov, float(np.median(welch.df)), 0.1)
        together.append(((wide.ci_low <= true) & (true <= wide.ci_high)).all())
        holds = (found.ci_low <= true) & (true <= found.ci_high)
        shrunken.append(holds.mean())
        picked.extend(holds[compute_q_values(welch.p_value) < 0.05].tolist())
    assert np.mean(together) >= 0.866
    assert np.mean(shrunken) >= 0.91
    assert np.mean(picked) >= 0.8
