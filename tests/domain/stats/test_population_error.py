import numpy as np
import pytest
from scipy import stats

from benchlib.domain.stats.pooling import covariance_of_means
from benchlib.domain.stats.population_error import compute_population_error
from benchlib.domain.stats.welch import (
    compute_moments,
    compute_moments_and_residuals,
    compute_welch,
)


def test_by_hand():
    # deltas 0 .3 .6: SS .18; V = .02 on and .005 off the diagonal: tr .06, sum .09
    # A = .18/6 = .03, B = .09/9 = .01, C = (.06 - .03)/6 = .005
    cov = np.full((3, 3), 0.005) + 0.015 * np.eye(3)
    found = compute_population_error(np.array([0, 0.3, 0.6]), cov, 0.01, 20, 24)
    assert found.variance == pytest.approx(0.035)
    assert found.tau2 == pytest.approx(0.075)
    assert found.df == pytest.approx(0.035**2 / (0.03**2 / 2 + 0.01**2 / 20 + 0.005**2 / 44))


def test_without_heterogeneity_it_is_the_error_of_the_list():
    cov = np.full((3, 3), 0.005) + 0.015 * np.eye(3)
    found = compute_population_error(np.array([0.1, 0.11, 0.1]), cov, 0.01, 20, 24)
    assert (found.variance, found.df, found.tau2) == pytest.approx((0.01, 20, 0))


def test_a_covariance_that_cannot_be_leaves_a_usable_error():
    # Entries from different personas: the whole sums to -.02, which would be a negative variance
    cov = np.array([[0.02, -0.03], [-0.03, 0.02]])
    found = compute_population_error(np.array([0.1, 0.3]), cov, 0.004, 4, 6)
    assert found.variance >= 0.004
    assert 0 < found.df <= 4


def test_nothing_to_combine():
    one = np.array([[0.01]])
    assert compute_population_error(np.array([0.1]), one, 0.01, 10, 12) is None
    assert compute_population_error(np.array([0.1, 0.2]), np.zeros((2, 2)), 0.0, 10, 12) is None
    nothing = compute_population_error(np.array([0.1, 0.2]), np.eye(2), np.nan, np.nan, 12)
    assert nothing is None


@pytest.mark.parametrize(("n_traits", "tau"), [(3, 0.15), (6, 0.4)])
def test_coverage_of_the_trait_population(n_traits, tau):
    # 600 runs of 100 + 100 personas: .95 less 3 Monte Carlo errors; few traits stay a little short
    rng, codes, covered = np.random.default_rng(4), np.repeat([0, 1], 100), 0
    everything = np.ones((100, n_traits), dtype=bool)
    for _ in range(600):
        true = rng.normal(0, tau, n_traits)
        table = rng.normal(0, 0.3, (200, 1)) + rng.normal(0, 0.8, (200, n_traits))
        table += codes[:, None] * true
        moments, residuals = compute_moments_and_residuals(table, codes, 2)
        cov = sum(covariance_of_means(residuals[codes == g], everything) for g in (0, 1))
        scores = compute_moments(table.mean(axis=1), codes, 2)
        welch = compute_welch(scores.at(0), scores.at(1))
        deltas = moments.mean[1] - moments.mean[0]
        found = compute_population_error(deltas, cov, welch.se.item() ** 2, welch.df.item(), 200)
        covered += abs(deltas.mean()) <= stats.t.ppf(0.975, found.df) * np.sqrt(found.variance)
    assert covered / 600 >= 0.923 - (0.015 if n_traits == 3 else 0)
