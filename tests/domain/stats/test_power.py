import pytest
from hypothesis import given, strategies
from statsmodels.stats.power import TTestIndPower

from benchlib.domain.errors import InvalidInput
from benchlib.domain.stats.power import compute_run_plan
from benchlib.domain.stats.welch_power import (
    Contrast,
    compute_half_width,
    compute_n_for_delta,
    compute_tost_power,
    compute_welch_power,
)
from tests.domain.frames import law
from tests.domain.oracle import load_case


# Rows of the design study: 30 traits, residual sd .8, personas sd .1, .25, .5.
@pytest.mark.parametrize(
    ("n_personas", "mdes"), [(1000, (0.031, 0.051, 0.092)), (3000, (0.018, 0.030, 0.053))]
)
def test_mde_of_published_designs(n_personas, mdes):
    half = n_personas // 2
    found = [compute_run_plan(half, half, 30, sd_persona=sd)["mde"] for sd in (0.1, 0.25, 0.5)]
    assert found == pytest.approx(mdes, abs=6e-4)


# By z these were 54, 144, 465 and 127, 217, 538: one persona or two too few.
@pytest.mark.parametrize(("n_traits", "sizes"), [(30, [55, 145, 466]), (10, [128, 218, 539])])
def test_sizes_for_equivalence_of_published_designs(n_traits, sizes):
    plans = [compute_run_plan(9, 9, n_traits, sd_persona=sd) for sd in (0.1, 0.25, 0.5)]
    assert [plan["n_per_group_equivalence"] for plan in plans] == sizes


def test_size_for_a_delta_is_the_smallest_that_does():
    n = compute_n_for_delta(0.1, 0.3)
    assert compute_welch_power(0.1, Contrast(n, n, 0.3, 0.3)) >= 0.8
    assert compute_welch_power(0.1, Contrast(n - 1, n - 1, 0.3, 0.3)) < 0.8
    assert compute_n_for_delta(-0.1, 0.3) == n
    assert compute_n_for_delta(100, 0.3) == 2
    assert compute_n_for_delta(0.0, 0.3) is None
    assert compute_n_for_delta(1e-9, 0.3) is None


def test_a_lopsided_plan_does_not_promise_what_a_pooled_t_test_would():
    plan = compute_run_plan(300, 5, 30)
    sd = plan["sd_persona_score"]
    pooled = TTestIndPower().solve_power(nobs1=300, ratio=5 / 300, alpha=0.05, power=0.8) * sd
    groups = Contrast(300, 5, sd, sd)
    assert compute_welch_power(pooled, groups) == pytest.approx(0.575, abs=0.005)
    assert compute_welch_power(plan["mde"], groups) == pytest.approx(0.8)
    assert plan["mde"] > 1.3 * pooled
    assert plan["half_width"] == pytest.approx(compute_half_width(groups))
    assert plan["power_equivalence"] == pytest.approx(compute_tost_power(0.1, groups))


def test_a_plan_says_what_the_correction_costs():
    plan = compute_run_plan(1000, 1000, 30, n_tests=60)
    one = compute_run_plan(1000, 1000, 30, delta=plan["mde"], n_tests=60)
    assert one["power_at_delta"] == pytest.approx(0.8)
    assert one["power_corrected"] == pytest.approx(0.29, abs=0.01)
    after = compute_run_plan(1000, 1000, 30, delta=plan["mde_corrected"], n_tests=60)
    assert after["power_corrected"] == pytest.approx(0.8)
    assert compute_run_plan(50, 50, 30)["mde_corrected"] == compute_run_plan(50, 50, 30)["mde"]


def test_asking_twice_halves_the_noise_of_answers_only():
    # .09 + (.16 + .64 * .75) / 16 = .13
    plan = compute_run_plan(
        20, 20, 16, dual_fraction=0.5, sd_persona=0.3, sd_persona_trait=0.4, sd_residual=0.8
    )
    assert plan["sd_persona_score"] == pytest.approx(0.13**0.5)


def test_undefined_plans_are_none():
    alone = compute_run_plan(50, 1, 30)
    assert alone["n_per_group_half_width"] > 2
    tested = ("mde", "mde_corrected", "power_at_delta", "power_corrected", "power_equivalence")
    assert [alone[name] for name in (*tested, "half_width")] == [None] * 6
    sure = compute_run_plan(20, 20, 5, sd_persona=0, sd_residual=0)
    assert (sure["mde"], sure["mde_corrected"], sure["half_width"]) == (0, 0, 0)
    assert (sure["power_at_delta"], sure["n_per_group_delta"]) == (None, 2)


@law
@given(strategies.integers(0, 50), strategies.integers(0, 50), strategies.integers(1, 60))
def test_a_plan_is_always_complete(n_base, n_cat, n_traits):
    plan = compute_run_plan(n_base, n_cat, n_traits, n_tests=400)
    assert len(plan) == 15
    assert (plan["mde"] is None) == (min(n_base, n_cat) < 2)
    assert plan["mde"] is None or 0 < plan["mde"] < plan["mde_corrected"]


def test_a_plan_counts_the_questions():
    assert compute_run_plan(100, 100, 30, dual_fraction=0.3)["n_questions"] == 7800


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_traits": 0},
        {"dual_fraction": 2},
        {"sd_persona": -1},
        {"alpha": 0},
        {"power": 1},
        {"margin": 0},
        {"half_width": 0},
        {"n_tests": 0},
    ],
)
def test_plans_are_checked(wrong):
    with pytest.raises(InvalidInput):
        compute_run_plan(**({"n_base": 10, "n_cat": 10, "n_traits": 5} | wrong))


def test_a_plan_of_the_worked_case():
    # The case counts a dual fraction of .3 as 30 * 1.3 answers; asking 30 % twice leaves
    # 1 - .3 / 2 = .85 of the noise, not 1 / 1.3 = .769. The sd that gives the case its score sd:
    case = load_case("power_mde")
    sd_residual = case.input["sd_resid"] * (1 / 1.3 / 0.85) ** 0.5
    plan = compute_run_plan(
        case.input["n_base"],
        case.input["n_cat"],
        case.input["n_traits"],
        dual_fraction=case.input["dual_fraction"],
        sd_persona=case.input["sd_persona"],
        sd_residual=sd_residual,
        delta=case.input["delta"],
        alpha=case.input["alpha"],
        power=case.input["power"],
    )
    assert plan["sd_persona_score"] == case.approx("sd_persona_score")
    # Welch's df of 120 and 80 is 169, the pooled one 198: a difference of 5e-4 of the delta
    assert plan["mde"] == pytest.approx(case.expected["mde"], rel=1e-3)
    assert plan["power_at_delta"] == pytest.approx(case.expected["power_at_delta"], abs=1e-3)
