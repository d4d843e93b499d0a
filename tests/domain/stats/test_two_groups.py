from math import comb

import numpy as np
import pytest
from scipy import stats

from benchlib.domain.stats.two_groups import (
    compute_pooled_variance,
    compute_two_groups,
    floor_variance,
)
from benchlib.domain.stats.welch import compute_moments, compute_q_values, compute_welch


def compare(*groups):
    """The comparison of the groups with the first one; one column."""
    codes = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    return compute_two_groups(np.concatenate(groups).astype(float), codes, len(groups), 0)


def nearly_constant(rng, shape, modal):
    """Ratings of which a share is 4 and the others lie below: constant groups and skew."""
    return rng.choice(
        [1.0, 2, 3, 4], shape, p=[*(np.array([0.05, 0.2, 0.75]) * (1 - modal)), modal]
    )


def test_large_groups_with_spread_keep_welch():
    rng = np.random.default_rng(1)
    base, cat = rng.normal(0, 1, 60), rng.normal(0.3, 2, 30)
    found, expected = compare(base, cat), stats.ttest_ind(cat, base, equal_var=False)
    assert found.p_value[1] == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval()
    assert (found.ci_low[1], found.ci_high[1]) == pytest.approx((interval.low, interval.high))
    assert np.isnan(found.p_perm[1])
    assert found.status.tolist() == ["ok", "ok"]
    assert np.isnan(found.p_value[0])


def test_small_groups_get_the_larger_of_both_p():
    # groups 1 2 3 4 / 4 5 5: variances 5/3 and 1/3, pooled 17/15; floored
    # max(5/3, (4 * 17/15 + 5) / 7 = 1.362) = 5/3 and (4 * 17/15 + 2/3) / 6 = .8667
    found = compare([1, 2, 3, 4], [4, 5, 5])
    moments = compute_moments(np.array([1, 2, 3, 4, 4, 5, 5.0]), np.repeat([0, 1], [4, 3]), 2)
    assert compute_pooled_variance(moments) == pytest.approx(17 / 15)
    assert floor_variance(moments, compute_pooled_variance(moments)) == pytest.approx(
        [5 / 3, 13 / 15]
    )
    # 4 + 5 + 5 = 14 is the largest sum; its mirror image 6.57 or less is 1 + 2 + 3, so 2 or 3 of
    # the 35 choices: {4, 5, 5} comes twice, with either 4; the lowest {1, 2, 3} once
    assert found.p_perm[1] == pytest.approx(3 / 35)
    assert found.perm_exact[1]
    assert found.p_value[1] == max(found.p_welch[1], found.p_perm[1])
    assert found.status.tolist() == ["low_n", "low_n"]


def test_the_interval_is_not_shorter_than_students():
    # Six personas that happen to say 4 or nearly so, beside 120 with spread: by its own variance
    # the group would get an interval of a fifth of this width
    rng = np.random.default_rng(4)
    base, cat = rng.integers(1, 6, 120), np.array([4, 4, 4, 4, 4, 4.5])
    found = compare(base, cat)
    student = stats.ttest_ind(cat, base).confidence_interval()
    assert found.ci_high[1] - found.ci_low[1] >= (student.high - student.low) * (1 - 1e-9)


def test_a_constant_group_no_longer_flags_by_itself():
    # 27 of 120 say 3 or 2, six all say 4: Welch takes the six for certain and finds p < 1e-5
    base = [4] * 93 + [3] * 20 + [2] * 7
    found = compare(base, [4] * 6)
    assert found.status[1] == "constant_group"
    # the chance alone that six of the 126 are all among the 99 fours: C(99, 6) / C(126, 6) = .2275
    assert found.p_value[1] > 0.2


def test_a_rater_without_noise_gets_a_verdict():
    found = compare([3.0] * 40, [3.75] * 30)
    assert found.p_value[1] == pytest.approx(1 / comb(70, 30), rel=1e-9)
    assert found.se[1] == 0
    assert np.isnan(found.p_welch[1])
    assert found.status[1] == "constant_group"
    small = compare([3.0] * 4, [3.75] * 2)
    assert small.p_value[1] == pytest.approx(1 / 15)


def test_equal_constants_have_no_test():
    found = compare([3.0] * 4, [3.0] * 5)
    assert found.status[1] == "zero_variance"
    assert found.delta[1] == 0
    assert np.isnan(found.p_value[1])


def test_groups_too_small_for_a_test():
    found = compare([1.0, 2, 3], [2.0], [])
    assert found.status.tolist() == ["low_n", "n_lt_2", "no_data"]
    assert found.delta[1] == 0
    assert np.isnan(found.p_value).all()
    assert np.isnan(found.se[1])
    nothing = compute_two_groups(np.ones(3), np.zeros(3, dtype=np.int64), 2, -1)
    assert np.isnan(nothing.p_value).all()


def test_a_tiny_variance_calls_for_the_permutation_in_large_groups():
    rng = np.random.default_rng(5)
    spread, tiny = rng.integers(1, 6, 50).astype(float), np.r_[np.full(49, 3.0), 3.1]
    found = compare(spread, tiny)
    assert np.isfinite(found.p_perm[1])
    assert found.status[1] == "ok"


def test_personas_of_other_groups_are_not_shuffled_in():
    rng = np.random.default_rng(6)
    base, cat, other = rng.integers(1, 6, 20), rng.integers(2, 6, 8), rng.exponential(1, 50)
    alone, together = compare(base, cat), compare(base, cat, other)
    assert together.p_perm[1] == pytest.approx(alone.p_perm[1])
    codes = np.repeat([0, 1, -1], [20, 8, 50])
    left_out = compute_two_groups(np.concatenate([base, cat, other]), codes, 2, 0)
    assert left_out.p_value[1] == pytest.approx(alone.p_value[1])


def test_columns_are_tested_as_if_alone():
    rng = np.random.default_rng(7)
    values = nearly_constant(rng, (60, 4), 0.6)
    values[rng.random(values.shape) < 0.1] = np.nan
    codes = np.repeat([0, 1, 2], [35, 15, 10])
    together = compute_two_groups(values, codes, 3, 0)
    for column in range(4):
        alone = compute_two_groups(values[:, column], codes, 3, 0)
        assert together.p_value[:, column] == pytest.approx(alone.p_value, nan_ok=True)
        assert together.ci_low[:, column] == pytest.approx(alone.ci_low, nan_ok=True)


@pytest.mark.parametrize("modal", [0.6, 0.79])
def test_forests_of_nearly_constant_ratings_hold_their_error_rate(modal):
    # No effect at all, 24 traits, lopsided groups. Welch alone has a false flag in 90 to 100 % of
    # such runs; nominal are 5 %, and 3 Monte Carlo errors above are 11.5 % of 100.
    rng, sizes = np.random.default_rng(9), [120, 40, 20, 10, 8, 6]
    codes = np.repeat(np.arange(6), sizes)
    flagged, plain = 0, 0
    for _ in range(100):
        values = nearly_constant(rng, (sum(sizes), 24), modal)
        moments = compute_moments(values, codes, 6)
        found = compute_two_groups(values, codes, 6, 0, moments)
        flagged += bool((compute_q_values(found.p_value.ravel()) < 0.05).any())
        welch = compute_welch(moments.at(0), moments).p_value[1:]
        plain += bool((compute_q_values(welch.ravel()) < 0.05).any())
    assert flagged <= 11
    assert plain >= 80


@pytest.mark.parametrize(("n", "m"), [(120, 6), (300, 29)])
def test_intervals_cover_where_the_small_group_is_nearly_constant(n, m):
    rng = np.random.default_rng(10)
    values = nearly_constant(rng, (n + m, 400), 0.9)
    found = compute_two_groups(values, np.repeat([0, 1], [n, m]), 2, 0)
    covered = (found.ci_low[1] <= 0) & (found.ci_high[1] >= 0)
    assert covered[np.isfinite(found.se[1])].mean() >= 0.93
    assert np.mean(found.p_value[1] < 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)
