import math

import numpy as np
import pytest
from scipy import stats

from benchlib.domain.stats.permutation import (
    Labels,
    compute_max_t_p,
    compute_permutation_tests,
)
from benchlib.domain.stats.welch import compute_welch, moments_of
from tests.domain.oracle import close, load_case


def permute(base, cat, seed=None, n_perm=2000):
    """p of the category, with the baseline as group 0."""
    codes = np.repeat([0, 1], [len(base), len(cat)])
    rng = None if seed is None else np.random.default_rng(seed)
    pooled = np.concatenate([base, cat])
    return compute_permutation_tests(pooled, [Labels(codes, 2, 0)], rng, n_perm)[0]


def welch_t(x, y, axis):
    variance = x.var(axis=axis, ddof=1) / x.shape[axis] + y.var(axis=axis, ddof=1) / y.shape[axis]
    return np.abs(x.mean(axis=axis) - y.mean(axis=axis)) / np.sqrt(variance)


def test_few_personas_are_enumerated():
    case = load_case("persona_permutation_exact")
    found = permute(case.input["base"], case.input["cat"])
    assert found.p_value[1] == case.approx("p_exact_studentised")
    assert found.n_perm[1] == case.expected["n_assignments"]
    assert found.exact.tolist() == [False, True]
    assert np.isnan(found.p_value[0])


def test_enumeration_agrees_with_scipy():
    rng = np.random.default_rng(3)
    for n_base, n_cat in ((3, 5), (6, 4), (2, 9)):
        base, cat = rng.normal(size=n_base), rng.normal(0.5, 2, size=n_cat)
        expected = stats.permutation_test(
            (cat, base), welch_t, vectorized=True, alternative="greater", n_resamples=np.inf
        )
        assert permute(base, cat).p_value[1] == pytest.approx(expected.pvalue)


@pytest.mark.parametrize("index", range(3))
def test_edge_groups(index):
    case = load_case("edge_group_delta")
    groups, expected = case.input["cases"][index], case.expected["cases"][index]
    found = permute(groups["base"], groups["cat"]).p_value[1]
    assert (None if np.isnan(found) else found) == close(expected["p_perm"])


@pytest.mark.parametrize(("n_base", "n_cat"), [(3, 2), (3, 3), (40, 30)])
def test_two_constants_are_tested_exactly_on_their_difference(n_base, n_cat):
    base, cat = np.full(n_base, 3.0), np.full(n_cat, 4.0)
    found = permute(base, cat)
    mirror = 2 if n_base == n_cat else 1
    assert found.p_value[1] == pytest.approx(mirror / math.comb(n_base + n_cat, n_cat))
    assert found.exact[1]


def test_draws_approach_all_assignments():
    rng = np.random.default_rng(5)
    base, cat = rng.normal(size=9), rng.normal(1, 1, size=8)  # 24,310 assignments
    found = permute(base, cat, seed=1, n_perm=20_000)
    expected = stats.permutation_test(
        (cat, base), welch_t, vectorized=True, alternative="greater", n_resamples=np.inf
    ).pvalue
    assert not found.exact[1]
    assert found.n_perm[1] == 20_000
    assert found.p_value[1] == pytest.approx(expected, abs=4 * math.sqrt(expected / 20_000))


def test_draws_agree_with_welch_in_large_groups():
    rng = np.random.default_rng(8)
    base, cat = rng.normal(size=400), rng.normal(0.15, 2, size=90)
    p = float(compute_welch(moments_of(base), moments_of(cat)).p_value)
    assert permute(base, cat, seed=2, n_perm=10_000).p_value[1] == pytest.approx(p, abs=0.03)


def test_without_draws_only_exact_tests_remain():
    rng = np.random.default_rng(0)
    base, cat = rng.normal(size=30), rng.normal(size=30)
    for found in (permute(base, cat), permute(base, cat, seed=1, n_perm=0)):
        assert np.isnan(found.p_value).all()
        assert found.n_perm.tolist() == [0, 0]


def test_no_baseline_no_test():
    labels = Labels(np.zeros(6, dtype=np.int64), 1, -1)
    found = compute_permutation_tests(np.arange(6.0), [labels], np.random.default_rng(0))[0]
    assert np.isnan(found.p_value).all()


def test_neither_order_nor_company_changes_a_draw():
    rng = np.random.default_rng(4)
    scores = rng.normal(size=120)
    first, second = rng.integers(-1, 3, 120), rng.integers(0, 5, 120)
    labels = [Labels(first, 3, 1), Labels(second, 5, 0)]
    together = compute_permutation_tests(scores, labels, np.random.default_rng(1))
    alone = compute_permutation_tests(scores, labels[1:], np.random.default_rng(1))[0]
    np.testing.assert_array_equal(together[1].p_value, alone.p_value)
    order = rng.permutation(120)
    moved = [Labels(first[order], 3, 1), Labels(second[order], 5, 0)]
    shuffled = compute_permutation_tests(scores[order], moved, np.random.default_rng(1))
    for one, other in zip(together, shuffled, strict=True):
        np.testing.assert_allclose(one.p_value, other.p_value, atol=1 / 2001)


def test_false_positives_keep_to_the_level_under_unequal_variances():
    # 180 personas with sd .3 against 20 with sd .9; an unstudentised test rejects 37 %
    rng = np.random.default_rng(11)
    rejected = 0
    for _ in range(300):
        base, cat = rng.normal(0, 0.3, 180), rng.normal(0, 0.9, 20)
        codes = np.repeat([0, 1], [180, 20])
        pooled = np.concatenate([base, cat])
        found = compute_permutation_tests(pooled, [Labels(codes, 2, 0)], rng, 199)[0]
        rejected += found.p_value[1] < 0.05
    assert rejected / 300 < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 300)


def test_max_t_is_stricter_than_each_trait_alone():
    rng = np.random.default_rng(6)
    base, cat = rng.normal(size=(25, 8)), rng.normal(size=(20, 8))
    cat[:, 0] += 1.5
    base[:3, 1] = np.nan
    p_max = compute_max_t_p(base, cat, np.random.default_rng(1), 999)
    alone = np.array(
        [
            compute_welch(moments_of(b[~np.isnan(b)]), moments_of(c)).p_value
            for b, c in zip(base.T, cat.T, strict=True)
        ]
    )
    assert (p_max >= alone - 0.02).all()
    assert p_max[0] < 0.05
    assert (p_max[1:] > 0.05).all()
    # one trait: nothing to correct for
    single = compute_max_t_p(base[:, :1], cat[:, :1], np.random.default_rng(1), 999)
    assert single[0] == pytest.approx(permute(base[:, 0], cat[:, 0], 1, 999).p_value[1], abs=0.02)


def test_max_t_leaves_out_traits_without_a_test():
    base, cat = np.array([[3.0, 1.0], [3.0, 2.0]]), np.array([[3.0, 4.0], [3.0, 6.0]])
    p_max = compute_max_t_p(base, cat, np.random.default_rng(1), 99)
    assert np.isnan(p_max[0])
    assert 0 < p_max[1] <= 1
    nothing = compute_max_t_p(base[:, :1], cat[:, :1], np.random.default_rng(1), 99)
    assert np.isnan(nothing).all()
