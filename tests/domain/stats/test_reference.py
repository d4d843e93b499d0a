"""Numbers from R; golden/reference.R made golden/reference.json and names its packages."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchlib.domain.stats.agreement import compute_table_statistics
from benchlib.domain.stats.effect_size import compute_hedges_g_interval, compute_i2
from benchlib.domain.stats.mean_permutation import compute_mean_permutation
from benchlib.domain.stats.pooling import covariance_of_means, pool_independent
from benchlib.domain.stats.population_error import compute_population_error
from benchlib.domain.stats.welch import (
    compute_moments,
    compute_moments_and_residuals,
    compute_welch,
    moments_of,
)

REFERENCE = json.loads(
    (Path(__file__).parents[1] / "golden" / "reference.json").read_text(encoding="utf-8")
)


def test_the_versions_of_the_packages_are_written_down():
    packages = {"R", "metafor", "lme4", "pbkrtest", "sandwich", "coin", "psych", "effectsize"}
    assert set(REFERENCE["versions"]) == packages


@pytest.mark.parametrize("method", ["DL", "PM", "REML"])
def test_pooling_of_independent_effects_equals_metafor(method):
    meta = REFERENCE["meta"]
    expected, variances = meta[method], np.array(meta["variances"])
    found = pool_independent(np.array(meta["effects"]), variances, method.lower())
    names = ("tau2", "mean", "se", "ci_low", "ci_high", "q", "q_p")
    names += ("se_hksj", "ci_low_hksj", "ci_high_hksj")
    for name in names:
        assert getattr(found, name) == pytest.approx(expected[name], rel=1e-7), name
    assert compute_i2(found.tau2, variances) == pytest.approx(expected["i2"], rel=1e-7)


def test_i2_needs_two_effects():
    assert compute_i2(0.0, np.array([0.1])) is None
    assert compute_i2(0.0, np.array([0.1, 0.2])) == 0


def test_welch_equals_r_and_hc2_of_sandwich():
    expected = REFERENCE["regression"]
    found = compute_welch(moments_of(expected["base"]), moments_of(expected["cat"]))
    assert found.se == pytest.approx(expected["se_hc2"], rel=1e-10)
    assert found.t == pytest.approx(expected["welch_t"], rel=1e-10)
    assert found.df == pytest.approx(expected["welch_df"], rel=1e-10)
    assert found.p_value == pytest.approx(expected["welch_p"], rel=1e-10)
    assert found.ci_low == pytest.approx(expected["welch_low"], rel=1e-10)
    assert found.ci_high == pytest.approx(expected["welch_high"], rel=1e-10)


def test_hc3_of_two_groups_divides_each_variance_by_n_minus_1():
    # leverage is 1/n in either group, so HC3 divides by (1 - 1/n)^2 where HC2 divides by 1 - 1/n
    expected = REFERENCE["regression"]
    base, cat = moments_of(expected["base"]), moments_of(expected["cat"])
    se = np.sqrt(base.var / (base.n - 1) + cat.var / (cat.n - 1))
    assert se == pytest.approx(expected["se_hc3"], rel=1e-10)


@pytest.mark.parametrize("name", REFERENCE["permutation"])
def test_permutation_p_equals_coin(name):
    case = REFERENCE["permutation"][name]
    base, cat = (np.array(case[group], dtype=float)[:, None] for group in ("base", "cat"))
    found = compute_mean_permutation(base, cat)
    # groups of 200 and 120 with spread-out digits are left to the saddlepoint, far in the tail
    assert found.exact[0] == (name != "hundreds")
    assert found.p_value[0] == pytest.approx(case["p_value"], rel=1e-8 if found.exact[0] else 0.01)


def test_hedges_g_interval_equals_effectsize():
    # effectsize takes the exact small-sample factor, we the usual approximation 1 - 3 / (4 df - 1)
    data, expected = REFERENCE["regression"], REFERENCE["hedges"]
    base, cat = np.array(data["base"]), np.array(data["cat"])
    df = len(base) + len(cat) - 2
    ratio = (1 - 3 / (4 * df - 1)) / expected["exact_factor"]
    assert ratio == pytest.approx(1, abs=5e-4)
    found = compute_hedges_g_interval(moments_of(base), moments_of(cat))
    assert found.g == pytest.approx(expected["g"] * ratio, rel=1e-9)
    # its interval comes from an optimiser and is good to about four digits
    assert found.ci_low == pytest.approx(expected["ci_low"] * ratio, rel=2e-3)
    assert found.ci_high == pytest.approx(expected["ci_high"] * ratio, rel=1e-4)
    wide = compute_hedges_g_interval(moments_of(base), moments_of(cat + 4))
    assert wide.ci_low == pytest.approx(expected["wide_low"] * ratio, rel=1e-4)
    assert wide.ci_high == pytest.approx(expected["wide_high"] * ratio, rel=1e-4)


def test_agreement_of_orders_equals_psych():
    expected = REFERENCE["agreement"]
    first, second = np.array(expected["first"]), np.array(expected["second"])
    table = np.zeros((5, 5), dtype=np.int64)
    np.add.at(table, (first - 1, second - 1), 1)
    found = compute_table_statistics(table)
    for name in ("icc_a1", "icc_c1", "kappa_quadratic"):
        assert found[name] == pytest.approx(expected[name], rel=1e-9), name


@pytest.mark.parametrize("name", ["few", "more"])
def test_error_of_the_trait_population_is_near_kenward_roger(name):
    expected = REFERENCE["mixed"][name]
    table, n_base = np.array(expected["ratings"]), expected["n_base"]
    codes = np.repeat([0, 1], [n_base, len(table) - n_base])
    moments, residuals = compute_moments_and_residuals(table, codes, 2)
    deltas = moments.mean[1] - moments.mean[0]
    seen = np.ones_like(table, dtype=bool)
    cov = sum(covariance_of_means(residuals[codes == g], seen[codes == g]) for g in (0, 1))
    scores = compute_moments(table.mean(axis=1), codes, 2)
    welch = compute_welch(scores.at(0), scores.at(1))
    found = compute_population_error(deltas, cov, float(welch.se) ** 2, float(welch.df), len(table))
    assert deltas.mean() == pytest.approx(expected["mean"], rel=1e-9)
    assert found.tau2 == pytest.approx(expected["tau2"], rel=1e-4)
    assert np.sqrt(found.variance) == pytest.approx(expected["se"], rel=1e-4)
    assert found.df == pytest.approx(expected["df"], rel=0.15)
