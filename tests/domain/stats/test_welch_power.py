import numpy as np
import pytest
from statsmodels.stats.power import TTestIndPower

from benchlib.domain.errors import InvalidInput
from benchlib.domain.stats.welch import compute_equivalence, compute_moments, compute_welch
from benchlib.domain.stats.welch_power import (
    Contrast,
    compute_detectable_delta,
    compute_half_width,
    compute_n_for_half_width,
    compute_n_for_tost,
    compute_planned_score_sd,
    compute_tost_power,
    compute_welch_power,
)

EQUAL = Contrast(60, 60, 0.3, 0.3)


def simulate(contrast, delta, n_runs):
    rng = np.random.default_rng(3)
    base = rng.normal(0, contrast.sd_base, (contrast.n_base, n_runs))
    cat = rng.normal(delta, contrast.sd_cat, (contrast.n_cat, n_runs))
    codes = np.repeat([0, 1], [contrast.n_base, contrast.n_cat])
    moments = compute_moments(np.concatenate([base, cat]), codes, 2)
    return compute_welch(moments.at(0), moments.at(1))


def test_equal_groups_have_the_power_of_the_t_test():
    expected = TTestIndPower().power(0.5, 60, 0.05)
    assert compute_welch_power(0.15, EQUAL) == pytest.approx(expected, rel=1e-6)
    assert compute_welch_power(-0.15, EQUAL) == pytest.approx(expected, rel=1e-6)
    assert compute_welch_power(0, EQUAL) == pytest.approx(0.05)
    assert compute_welch_power(50, EQUAL) == pytest.approx(1)


@pytest.mark.parametrize(
    ("contrast", "delta"),
    [(Contrast(300, 5, 0.3, 0.3), 0.38), (Contrast(100, 20, 0.3, 0.6), 0.35)],
)
def test_lopsided_power_is_what_welchs_test_delivers(contrast, delta):
    # a pooled t test would promise .80 at 300 against 5
    found = np.mean(simulate(contrast, delta, 3000).p_value < 0.05)
    assert compute_welch_power(delta, contrast) == pytest.approx(found, abs=0.03)


def test_the_detectable_delta_has_the_wanted_power():
    for contrast in (EQUAL, Contrast(300, 5, 0.3, 0.3), Contrast(1000, 2, 0.3, 0.3)):
        for n_tests in (1, 60):
            delta = compute_detectable_delta(contrast, n_tests=n_tests)
            assert compute_welch_power(delta, contrast, n_tests=n_tests) == pytest.approx(0.8)


def test_correction_costs_power():
    delta = compute_detectable_delta(Contrast(1000, 1000, 0.3, 0.3))
    found = [
        compute_welch_power(delta, Contrast(1000, 1000, 0.3, 0.3), n_tests=n)
        for n in (1, 10, 60, 400)
    ]
    assert found == pytest.approx([0.8, 0.5, 0.29, 0.15], abs=0.01)


@pytest.mark.parametrize("n", [50, 150])
def test_equivalence_power_is_what_tost_delivers(n):
    contrast = Contrast(n, n, 0.3, 0.3)
    found = np.mean(compute_equivalence(simulate(contrast, 0, 4000), 0.1).p_value < 0.05)
    assert compute_tost_power(0.1, contrast) == pytest.approx(found, abs=0.02)
    assert compute_tost_power(0.1, contrast, delta=0.1) <= 0.05 + 1e-9


def test_sample_sizes_are_the_smallest_that_do():
    n = compute_n_for_tost(0.1, 0.3)
    assert compute_tost_power(0.1, Contrast(n, n, 0.3, 0.3)) >= 0.8
    assert compute_tost_power(0.1, Contrast(n - 1, n - 1, 0.3, 0.3)) < 0.8
    n = compute_n_for_half_width(0.1, 0.3)
    assert compute_half_width(Contrast(n, n, 0.3, 0.3)) <= 0.1
    assert compute_half_width(Contrast(n - 1, n - 1, 0.3, 0.3)) > 0.1
    assert compute_n_for_half_width(10, 0.3) == 2
    assert compute_n_for_half_width(1e-6, 0.3) is None


def test_score_sd_by_hand():
    # .09 + (.16 + .64 * .75) / 16 = .13 with half of the questions asked twice
    assert compute_planned_score_sd(16, 0.5, 0.3, 0.4, 0.8) == pytest.approx(0.13**0.5)
    with pytest.raises(InvalidInput, match="trait"):
        compute_planned_score_sd(0, 0, 0.3, 0.4, 0.8)
    with pytest.raises(InvalidInput, match="negative"):
        compute_planned_score_sd(3, 0, -0.3, 0.4, 0.8)


def test_bad_plans_are_refused():
    with pytest.raises(InvalidInput, match="two personas"):
        Contrast(1, 9, 0.3, 0.3)
    with pytest.raises(InvalidInput, match="above 0"):
        Contrast(5, 9, 0.3, 0)
    with pytest.raises(InvalidInput, match="alpha"):
        compute_welch_power(0.1, EQUAL, alpha=0.6)
    with pytest.raises(InvalidInput, match="one test"):
        compute_welch_power(0.1, EQUAL, n_tests=0)
    with pytest.raises(InvalidInput, match="power"):
        compute_detectable_delta(EQUAL, power=0.01)
    with pytest.raises(InvalidInput, match="above 0"):
        compute_tost_power(0, EQUAL)
    with pytest.raises(InvalidInput, match="half-width"):
        compute_n_for_half_width(0, 0.3)
