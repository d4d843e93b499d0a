import numpy as np
import pytest
from hypothesis import given, strategies
from scipy import stats
from statsmodels.stats.power import TTestIndPower

from benchlib.domain.errors import InvalidInput
from benchlib.domain.stats.power import (
    compute_equivalence_power,
    compute_mde,
    compute_n_for_delta,
    compute_n_for_equivalence,
    compute_persona_score_sd,
    compute_power,
    compute_run_plan,
)
from tests.domain.frames import law
from tests.domain.oracle import load_case


def test_more_traits_help_only_against_noise():
    assert compute_persona_score_sd(30, 0.3, 0.35, 0.8) == pytest.approx(
        np.sqrt(0.35**2 + 0.64 / 39)
    )
    assert compute_persona_score_sd(10**9, 0, 0.35, 0.8) == pytest.approx(0.35, abs=1e-6)


@law
@given(strategies.integers(2, 500), strategies.integers(2, 500), strategies.floats(0, 5))
def test_power_equals_statsmodels_where_that_has_an_answer(n_base, n_cat, effect):
    found = compute_power(effect, n_base, n_cat, 1.0)
    library = TTestIndPower().power(effect, nobs1=n_base, ratio=n_cat / n_base, alpha=0.05)
    if np.isnan(library):
        assert found == pytest.approx(1, abs=0.05)
    else:
        assert found == pytest.approx(library, abs=1e-9)


@law
@given(strategies.integers(2, 400), strategies.floats(0, 4), strategies.floats(0.01, 4))
def test_power_grows_with_the_effect(n, effect, more):
    assert compute_power(effect + more, n, n, 1.0) >= compute_power(effect, n, n, 1.0) - 1e-9


@law
@given(strategies.integers(3, 400), strategies.integers(3, 400), strategies.floats(0.05, 1.5))
def test_the_mde_has_the_wanted_power(n_base, n_cat, sd):
    mde = compute_mde(n_base, n_cat, sd)
    assert compute_power(mde, n_base, n_cat, sd) == pytest.approx(0.8, abs=1e-5)


# Rows of the design study: 30 traits, residual sd .8, personas sd .1, .25, .5.
@pytest.mark.parametrize(
    ("n_personas", "mdes"), [(1000, (0.031, 0.051, 0.092)), (3000, (0.018, 0.030, 0.053))]
)
def test_mde_of_published_designs(n_personas, mdes):
    half = n_personas // 2
    found = [
        compute_mde(half, half, compute_persona_score_sd(30, 0, sd)) for sd in (0.1, 0.25, 0.5)
    ]
    assert found == pytest.approx(mdes, abs=6e-4)


@pytest.mark.parametrize(("n_traits", "sizes"), [(30, [54, 144, 465]), (10, [127, 217, 538])])
def test_sizes_for_equivalence_of_published_designs(n_traits, sizes):
    sds = [compute_persona_score_sd(n_traits, 0, sd) for sd in (0.1, 0.25, 0.5)]
    assert [compute_n_for_equivalence(0.1, sd) for sd in sds] == sizes


def test_equivalence_power_matches_a_simulation():
    # 20,000 pairs of means and pooled variances; sd of a share of .8 is .003
    n, sd = 144, np.sqrt(0.25**2 + 0.64 / 30)
    rng = np.random.default_rng(5)
    gap = rng.normal(0, sd * np.sqrt(2 / n), 20_000)
    se = sd * np.sqrt(rng.chisquare(2 * n - 2, 20_000) / (2 * n - 2) * 2 / n)
    passed = (np.abs(gap) + stats.t.ppf(0.95, 2 * n - 2) * se < 0.1).mean()
    assert compute_equivalence_power(0.1, n, n, sd) == pytest.approx(passed, abs=0.012)


def test_size_for_a_delta_is_the_smallest_that_does():
    n = compute_n_for_delta(0.1, 0.3)
    assert compute_power(0.1, n, n, 0.3) >= 0.8
    assert compute_power(0.1, n - 1, n - 1, 0.3) < 0.8
    assert compute_n_for_delta(-0.1, 0.3) == n
    assert compute_n_for_delta(100, 0.3) == 2


def test_undefined_plans_are_none():
    assert compute_mde(1, 50, 0.3) is None
    assert compute_power(0.1, 1, 50, 0.3) is None
    assert compute_equivalence_power(0.1, 0, 50, 0.3) is None
    assert compute_n_for_delta(0.0, 0.3) is None
    assert compute_n_for_delta(1e-9, 0.3) is None
    assert compute_n_for_equivalence(1e-9, 0.3) is None
    assert compute_mde(20, 20, 0.0) == 0
    assert compute_power(0.1, 20, 20, 0.0) is None
    assert compute_n_for_delta(0.1, 0.0) == 2


@law
@given(strategies.integers(0, 50), strategies.integers(0, 50), strategies.integers(1, 60))
def test_a_plan_is_always_complete(n_base, n_cat, n_traits):
    plan = compute_run_plan(n_base, n_cat, n_traits)
    assert len(plan) == 10
    assert (plan["mde"] is None) == (min(n_base, n_cat) < 2)


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
    ],
)
def test_plans_are_checked(wrong):
    with pytest.raises(InvalidInput):
        compute_run_plan(**({"n_base": 10, "n_cat": 10, "n_traits": 5} | wrong))


def test_a_plan_of_the_worked_case():
    case = load_case("power_mde")
    wanted = {key: case.input[key] for key in ("n_base", "n_cat", "n_traits", "dual_fraction")}
    plan = compute_run_plan(
        **wanted,
        sd_persona=case.input["sd_persona"],
        sd_residual=case.input["sd_resid"],
        delta=case.input["delta"],
        alpha=case.input["alpha"],
        power=case.input["power"],
    )
    assert plan["sd_persona_score"] == case.approx("sd_persona_score")
    assert plan["mde"] == case.approx("mde")
    assert plan["power_at_delta"] == case.approx("power_at_delta")
