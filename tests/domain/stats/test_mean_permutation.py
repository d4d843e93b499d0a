from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchlib.domain.stats import mean_permutation
from benchlib.domain.stats.mean_permutation import compute_mean_permutation
from tests.domain.frames import law
from tests.domain.oracle import load_case

digits = st.lists(st.integers(1, 5), min_size=1, max_size=7)


def one(base, cat):
    """p and whether it is exact, for one pair of groups."""
    columns = [np.asarray(values, dtype=float)[:, None] for values in (base, cat)]
    found = compute_mean_permutation(*columns)
    return float(found.p_value[0]), bool(found.exact[0])


def enumerated(base, cat):
    pooled = np.concatenate([base, cat]).astype(float)
    observed = abs(np.mean(cat) - np.mean(base))
    gaps = []
    for chosen in combinations(range(len(pooled)), len(cat)):
        drawn = pooled[list(chosen)]
        rest = np.delete(pooled, list(chosen))
        gaps.append(abs(drawn.mean() - rest.mean()) >= observed - 1e-9)
    return np.mean(gaps)


@law
@given(digits, digits)
def test_exact_p_counts_all_assignments(base, cat):
    assert one(base, cat) == (pytest.approx(enumerated(base, cat)), True)


def test_shares_and_halves_are_exact_too():
    base, cat = [0, 1 / 24, 0, 0, 2 / 24], [3 / 24, 1 / 24, 3 / 24]
    assert one(base, cat)[0] == pytest.approx(enumerated(base, cat))
    base, cat = [4, 4, 4.5, 3, 4], [2, 3.5, 4]
    assert one(base, cat)[0] == pytest.approx(enumerated(base, cat))


def test_a_lone_value_has_the_chance_of_being_drawn():
    # 1 of 8 differs and lies in the group of 2: drawn there with probability 2/8, and as far out
    # only then
    assert one([4] * 6, [4, 5]) == (pytest.approx(0.25), True)


def test_nearly_constant_large_groups_are_exact_without_a_floor():
    # 5 of 1,000 differ and all lie in the smaller group of 300: C(300, 5) / C(1000, 5)
    p, exact = one([4] * 700, [4] * 295 + [5] * 5)
    assert exact
    assert p == pytest.approx(comb(300, 5) / comb(1000, 5), rel=1e-9)
    # opposite constants: only the observed split is as extreme
    assert one([2] * 40, [4] * 30)[0] == pytest.approx(1 / comb(70, 30), rel=1e-9)
    assert one([2] * 30, [4] * 30)[0] == pytest.approx(2 / comb(60, 30), rel=1e-9)


def test_exact_p_of_the_worked_case():
    case = load_case("exact_permutation_counts")
    base, cat = (
        np.repeat(np.arange(1, len(case.input[name]) + 1), case.input[name])
        for name in ("counts_base", "counts_cat")
    )
    assert one(base, cat) == (case.approx("p_exact"), True)


@pytest.mark.parametrize(("n", "m", "shift"), [(120, 20, 0.5), (40, 25, 1), (400, 10, 1)])
def test_the_saddlepoint_is_close_to_the_exact_tail(monkeypatch, n, m, shift):
    rng = np.random.default_rng(n)
    base, cat = rng.integers(1, 6, n), np.clip(rng.integers(1, 6, m) + shift, 1, 6)
    p, exact = one(base, cat)
    assert exact
    monkeypatch.setattr(mean_permutation, "EXACT_BUDGET", 0)
    approximate, exact = one(base, cat)
    assert not exact
    assert approximate == pytest.approx(p, rel=0.02)


def test_the_saddlepoint_of_continuous_values_is_near_the_t_test():
    rng = np.random.default_rng(3)
    base, cat = rng.normal(0, 1, 500), rng.normal(0.4, 1, 60)
    p, exact = one(base, cat)
    assert not exact
    assert p == pytest.approx(stats.ttest_ind(cat, base).pvalue, rel=0.1)


def test_rounding_keeps_continuous_values_close_to_enumeration():
    rng = np.random.default_rng(8)
    for _ in range(5):
        base, cat = rng.normal(0, 1, 8), rng.normal(1, 1, 5)
        assert one(base, cat)[0] == pytest.approx(enumerated(base, cat), abs=0.01)


def test_missing_values_and_empty_groups():
    base = np.array([[1.0, 1, np.nan], [2, np.nan, np.nan], [2, 2, np.nan]])
    cat = np.array([[3.0, 3, 4], [np.nan, 5, 4]])
    found = compute_mean_permutation(base, cat)
    assert found.p_value[:2] == pytest.approx(
        [enumerated([1, 2, 2], [3]), enumerated([1, 2], [3, 5])]
    )
    assert np.isnan(found.p_value[2])
    assert one([3, 3], [3]) == (1.0, True)


@law
@given(digits, digits)
def test_swapping_the_groups_changes_nothing(base, cat):
    assert one(base, cat)[0] == pytest.approx(one(cat, base)[0])
