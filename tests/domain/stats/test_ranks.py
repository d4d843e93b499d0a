import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.nonparametric import rank_compare_2ordinal

from benchlib.domain.analysis.stratified_cliffs import compute_histograms, compute_stratified_cliffs
from benchlib.domain.stats.ranks import (
    compute_cliffs_delta,
    compute_kruskal_levels,
    compute_mann_whitney,
    rank_levels,
)
from benchlib.domain.stats.welch import none_if_nan
from tests.domain.frames import cells_of, law, two_groups
from tests.domain.oracle import close, load_case

counts = st.lists(st.integers(0, 8), min_size=5, max_size=5)
POINTS = np.arange(1, 6)


def stratified(cells):
    """The category "cat" against "base", which the grouping puts first."""
    codes = (cells.attributes["group"] == "cat").to_numpy().astype(np.int64)
    return compute_stratified_cliffs(cells, codes, 2, 0)


def test_mann_whitney_matches_the_worked_case():
    case = load_case("mann_whitney_counts")
    groups = case.input["counts_base"], case.input["counts_cat"]
    found = compute_mann_whitney(*groups)
    assert found.u_cat == case.approx("U_cat")
    assert found.p_value == case.approx("p_continuity")
    plain = compute_mann_whitney(*groups, continuity=False)
    assert plain.p_value == case.approx("p_no_continuity")
    assert compute_cliffs_delta(*groups).delta == case.approx("cliffs_delta")


@law
@given(counts, counts)
def test_mann_whitney_agrees_with_scipy(base, cat):
    found = compute_mann_whitney(base, cat)
    if not (sum(base) and sum(cat)):
        assert none_if_nan(found.p_value) is None
        return
    if np.count_nonzero(np.add(base, cat)) == 1:
        assert found.p_value == 1
        return
    expected = stats.mannwhitneyu(
        np.repeat(POINTS, cat), np.repeat(POINTS, base), method="asymptotic"
    )
    assert found.u_cat == expected.statistic
    assert found.p_value == pytest.approx(expected.pvalue)


def test_cliffs_delta_matches_the_worked_case():
    case = load_case("cliffs_delta_ci_counts")
    found = compute_cliffs_delta(case.input["counts_base"], case.input["counts_cat"])
    assert {
        "prob_superior": float(found.prob_superior),
        "se": float(found.se) / 2,  # of the probability
        "df": float(found.df),
        "p": float(found.p_value),
        "ci_low": (float(found.ci_low) + 1) / 2,
        "ci_high": (float(found.ci_high) + 1) / 2,
        "cliffs_delta": float(found.delta),
        "delta_ci_low": float(found.ci_low),
        "delta_ci_high": float(found.ci_high),
    } == close(case.expected)


@law
@given(counts, counts)
def test_cliffs_delta_agrees_with_statsmodels(base, cat):
    found = compute_cliffs_delta(base, cat)
    if min(sum(base), sum(cat)) < 2 or found.se == 0:
        assert none_if_nan(found.p_value) is None
        return
    expected = rank_compare_2ordinal(cat, base)
    low, high = expected.conf_int()
    assert found.prob_superior == pytest.approx(expected.prob1)
    assert found.df == pytest.approx(expected.df)
    assert found.p_value == pytest.approx(expected.test_prob_superior().pvalue)
    assert found.ci_low == pytest.approx(max(2 * low - 1, -1))
    assert found.ci_high == pytest.approx(min(2 * high - 1, 1))


@law
@given(counts, counts)
def test_cliffs_delta_flips_with_the_groups(base, cat):
    one, other = compute_cliffs_delta(base, cat), compute_cliffs_delta(cat, base)
    np.testing.assert_allclose(one.delta, -other.delta, atol=1e-15)
    np.testing.assert_allclose(one.p_value, other.p_value)


@pytest.mark.parametrize(
    ("base", "cat", "delta", "se"),
    [
        ([0, 0, 4, 0, 0], [0, 0, 3, 0, 0], 0.0, 0.0),  # all equal
        ([3, 1, 0, 0, 0], [0, 0, 0, 2, 2], 1.0, 0.0),  # complete separation
        ([0, 0, 0, 0, 5], [2, 3, 0, 0, 0], -1.0, 0.0),
        ([1, 2, 1, 0, 0], [0, 1, 0, 0, 0], 0.0, None),  # one persona
        ([1, 2, 1, 0, 0], [0, 0, 0, 0, 0], None, None),  # nobody
    ],
)
def test_cliffs_delta_without_an_interval(base, cat, delta, se):
    found = compute_cliffs_delta(base, cat)
    assert none_if_nan(found.delta) == delta
    assert none_if_nan(found.se) == se
    for value in (found.ci_low, found.ci_high, found.p_value, found.df):
        assert none_if_nan(value) is None


def test_many_tables_at_once():
    rng = np.random.default_rng(0)
    base, cat = rng.integers(1, 9, (3, 4, 5)), rng.integers(1, 9, (3, 4, 5))
    found = compute_cliffs_delta(base, cat)
    assert found.delta.shape == (3, 4)
    assert found.p_value[2, 1] == compute_cliffs_delta(base[2, 1], cat[2, 1]).p_value


def test_stratified_cliffs_delta_matches_the_worked_case():
    case = load_case("stratified_cliff_clustered")
    found = stratified(two_groups(case.input["base"], case.input["cat"]))
    assert found.by_trait[1].tolist() == case.approx("delta_by_trait")
    assert found.k_traits[1] == 3
    for name, value in (
        ("delta", found.cliffs.delta[1]),
        ("se", found.cliffs.se[1]),
        ("df", found.cliffs.df[1]),
        ("ci_low", found.cliffs.ci_low[1]),
        ("ci_high", found.cliffs.ci_high[1]),
        ("p", found.cliffs.p_value[1]),
    ):
        assert value == case.approx(name)


@law
@given(
    st.lists(st.integers(1, 5), min_size=2, max_size=9),
    st.lists(st.integers(1, 5), min_size=2, max_size=9),
)
def test_one_trait_is_the_plain_cliffs_delta(base, cat):
    cells = two_groups(np.array(base)[:, None], np.array(cat)[:, None])
    found = stratified(cells).cliffs
    histograms = [np.bincount(values, minlength=6)[1:] for values in (base, cat)]
    expected = compute_cliffs_delta(*histograms)
    np.testing.assert_allclose(found.delta[1], expected.delta, atol=1e-15)
    np.testing.assert_allclose(found.se[1], expected.se, atol=1e-12)
    np.testing.assert_allclose(found.p_value[1], expected.p_value)


def test_stratified_cliffs_delta_skips_what_a_group_did_not_rate():
    nan = np.nan
    base = [[1, 2, nan], [2, nan, nan], [4, 3, nan]]
    cat = [[5, 3, 1], [nan, 2, 2], [3, 5, 3]]
    found = stratified(two_groups(base, cat))
    assert found.k_traits.tolist() == [0, 2]
    # trait 0: 5 > 1, 2, 4 and 3 > 1, 2 but < 4: (3 + 1) / 6; trait 1: 3, 2, 5 against 2, 3
    by_hand = np.array([4 / 6, ((1 + 0) + (0 - 1) + (1 + 1)) / 6])
    np.testing.assert_allclose(found.by_trait[1, :2], by_hand)
    assert found.cliffs.delta[1] == pytest.approx(by_hand.mean())
    # placements by hand: cat [1, 1/2, ...]; each weighted by group size / raters / traits
    psi_cat = np.array(
        [
            (1 - by_hand[0]) * (3 / 2) / 2 + (0.5 - by_hand[1]) / 2,
            (-0.5 - by_hand[1]) / 2,
            (1 / 3 - by_hand[0]) * (3 / 2) / 2 + (1 - by_hand[1]) / 2,
        ]
    )
    psi_base = np.array(
        [
            (1 - by_hand[0]) / 2 + (2 / 3 - by_hand[1]) * (3 / 2) / 2,
            (1 - by_hand[0]) / 2,
            (0 - by_hand[0]) / 2 + (0 - by_hand[1]) * (3 / 2) / 2,
        ]
    )
    se = np.sqrt(psi_cat.var(ddof=1) / 3 + psi_base.var(ddof=1) / 3)
    assert found.cliffs.se[1] == pytest.approx(se)


def test_stratified_cliffs_delta_without_a_baseline():
    found = compute_stratified_cliffs(cells_of([[1], [2]], {}), np.array([0, 0]), 1, -1)
    assert none_if_nan(found.cliffs.delta[0]) is None
    assert found.k_traits.tolist() == [0]


def test_histograms_count_each_persona_once():
    cells = cells_of([[1, 5], [np.nan, 5], [2, 3]], {})
    found = compute_histograms(cells, np.array([0, 0, -1]), 1)
    assert found.sum() == 3
    assert found[0, 0, 2] == 1
    assert found[0, 1, 10] == 2


def test_kruskal_from_counts_matches_the_worked_case():
    case = load_case("kruskal_counts")
    counts = np.array(case.input["counts"])
    groups, points = np.indices(counts.shape)
    levels, codes = (np.repeat(index.ravel(), counts.ravel()) for index in (points, groups))
    found = compute_kruskal_levels(levels, codes, len(counts))
    assert {
        "H": found.h,
        "df": found.df,
        "p": found.p_value,
        "eta2_H": found.eta2,
        "epsilon2": found.epsilon2,
        "n": found.n,
    } == close(case.expected)


@law
@given(st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=6), min_size=2, max_size=4))
def test_kruskal_agrees_with_scipy(groups):
    values = np.concatenate(groups).astype(float)
    codes = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    found = compute_kruskal_levels(rank_levels(values), codes, len(groups) + 1)  # one is empty
    if len(set(values)) == 1:
        assert found.h is None
        return
    expected = stats.kruskal(*groups)
    assert (found.h, found.p_value) == pytest.approx((expected.statistic, expected.pvalue))
    assert (found.n_groups, found.n) == (len(groups), len(values))


def test_kruskal_needs_two_groups():
    for found in (
        compute_kruskal_levels(np.array([0, 1]), np.array([0, 0]), 1),
        compute_kruskal_levels(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), 3),
    ):
        assert found.h is found.p_value is found.eta2 is found.epsilon2 is None


def test_rounding_noise_is_a_tie():
    assert rank_levels(np.array([0.1 + 0.2, 0.3, 0.5, 0.2])).tolist() == [1, 1, 2, 0]
