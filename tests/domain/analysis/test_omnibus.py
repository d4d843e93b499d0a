import json
import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.oneway import anova_oneway

from benchlib.domain.analysis.cells import compute_cells
from benchlib.domain.analysis.omnibus import (
    compute_anova,
    compute_omnibus,
    compute_omnibus_by_category,
)
from benchlib.domain.analysis.persona_scores import compute_persona_scores
from benchlib.domain.errors import InvalidInput
from benchlib.domain.stats.brown_forsythe import compute_brown_forsythe
from benchlib.domain.stats.welch import compute_moments, compute_q_values
from tests.domain.frames import cells_of, law, random_run, small_runs
from tests.domain.oracle import load_case

API_FIELDS = (
    "attribute",
    "h_stat",
    "p_value",
    "eta_squared",
    "n_groups",
    "n_total",
    "significant",
    "effect_interpretation",
)


def anova_of(groups):
    codes = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    return compute_anova(compute_moments(np.concatenate(groups), codes, len(groups)))


def brown_forsythe_of(runs):
    """Runs of equally many groups of one size, tested together."""
    values = np.array(runs)  # (runs, groups, n)
    codes = np.repeat(np.arange(values.shape[1]), values.shape[2])
    flat = values.reshape(len(values), -1).T
    return compute_brown_forsythe(compute_moments(flat, codes, values.shape[1]))


def omnibus_of(groups):
    """One trait, so that a persona's score is its rating."""
    names = [name for name, group in zip("abcdef", groups, strict=False) for _ in group]
    cells = cells_of(np.concatenate(groups)[:, None], {"g": names})
    return compute_omnibus(cells)["attributes"][0]


def test_an_attribute_as_a_whole_matches_the_worked_case():
    case = load_case("omnibus_attribute")
    row = omnibus_of(case.input["groups"])
    for name, key in (
        ("welch_f", "welch_F"),
        ("welch_df1", "welch_df1"),
        ("welch_df2", "welch_df2"),
        ("welch_p", "welch_p"),
        ("f_stat", "F"),
        ("f_p", "F_p"),
        ("omega_squared", "omega2"),
    ):
        assert row[name] == case.approx(key), name
    expected = stats.kruskal(*case.input["groups"])
    assert row["h_stat"] == pytest.approx(expected.statistic)
    assert row["p_value"] == pytest.approx(expected.pvalue)
    assert (row["n_groups"], row["n_total"], row["status"]) == (3, 12, "low_n")
    # The worked variance between groups pools their variances; now every group has its own:
    # variance of the means minus the mean of s2 / n
    groups = [np.array(group) for group in case.input["groups"]]
    between = np.var([x.mean() for x in groups], ddof=1)
    between -= np.mean([x.var(ddof=1) / len(x) for x in groups])
    assert row["variance_between"] == pytest.approx(between)
    assert row["sd_between_low"] <= row["sd_between"] <= row["sd_between_high"]
    brown = anova_oneway(groups, use_var="bf")
    assert row["bf_f"] == pytest.approx(brown.statistic)
    assert row["bf_p"] == row["bf_q"] == pytest.approx(brown.pvalue)
    assert row["significant"] is bool(brown.pvalue < 0.05)


def test_kruskal_wallis_matches_the_worked_case():
    case = load_case("kruskal_counts")
    groups = [np.repeat(np.arange(1, 6), counts) for counts in case.input["counts"]]
    row = omnibus_of(groups)
    assert row["h_stat"] == case.approx("H")
    assert row["p_value"] == case.approx("p")
    assert row["eta_squared"] == case.approx("eta2_H")
    assert row["epsilon_squared"] == case.approx("epsilon2")
    assert row["effect_interpretation"] == "small"
    assert row["n_total"] == case.expected["n"]


@law
@given(
    st.lists(st.lists(st.floats(-2, 2, width=16), min_size=2, max_size=6), min_size=2, max_size=4)
)
def test_anova_agrees_with_statsmodels(groups):
    found = anova_of(groups)
    if found.welch_f is not None and min(np.var(group) for group in groups) > 1e-9:
        expected = anova_oneway(groups, use_var="unequal")
        assert found.welch_f == pytest.approx(expected.statistic)
        assert found.welch_p == pytest.approx(expected.pvalue)
        assert found.welch_df2 == pytest.approx(expected.df_denom)
    if found.f is not None and found.f < 1e9:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scipy on constant groups
            classic = stats.f_oneway(*groups)
        assert found.f == pytest.approx(classic.statistic, rel=1e-5)


def test_groups_of_one_are_left_out():
    row = omnibus_of([[1.0, 2.0, 3.0], [2.0, 4.0, 5.0], [5.0]])
    without = omnibus_of([[1.0, 2.0, 3.0], [2.0, 4.0, 5.0]])
    assert (row["n_groups"], row["n_total"], row["n_personas"]) == (2, 6, 7)
    for field in ("h_stat", "p_value", "welch_p", "sd_between"):
        assert row[field] == pytest.approx(without[field])


def test_a_constant_group_leaves_the_classic_numbers():
    row = omnibus_of([[3.0, 3.0, 3.0], [1.0, 2.0, 4.0]])
    assert (row["welch_f"], row["welch_p"], row["status"]) == (None, None, "constant_group")
    assert row["h_stat"] is not None
    assert row["sd_between"] is not None
    assert row["bf_p"] is not None


def test_the_bias_index_of_a_fair_model_is_about_zero():
    # ten categories and a strong persona effect: a score from the largest |delta| is far from 0
    rng = np.random.default_rng(2)
    found = brown_forsythe_of([np.split(rng.normal(0, 0.5, 200), 10) for _ in range(200)])
    mean, sd = found.variance_between.mean(), found.variance_between.std()
    assert abs(mean) < 4 * sd / math.sqrt(200)
    assert (found.p_value < 0.05).mean() < 0.05 + 3 * math.sqrt(0.0475 / 200)


def test_the_bias_index_finds_a_planted_spread():
    rng = np.random.default_rng(3)
    effects = np.array([-0.2, 0.2, 0.0, 0.2, -0.2])
    found = brown_forsythe_of(
        [[rng.normal(effect, 0.4, 60) for effect in effects] for _ in range(200)]
    ).variance_between
    assert np.mean(found) == pytest.approx(effects.var(ddof=1), abs=4 * np.std(found) / 14)


def test_rows_and_families_cover_attributes_and_trait_sets():
    cells = compute_cells(random_run(1, 80), ["group", "origin"])
    overall = compute_omnibus(cells)
    parts = compute_omnibus_by_category(cells)["categories"]
    assert list(parts) == ["competence", "warmth"]
    assert [row["attribute"] for row in overall["attributes"]] == ["group", "origin"]
    rows = [row for table in (overall, *parts.values()) for row in table["attributes"]]
    assert all(set(row) >= set(API_FIELDS) for row in rows)
    for p, q in (("p_value", "q_value"), ("welch_p", "welch_q")):
        expected = compute_q_values([row[p] for row in rows])
        assert [row[q] for row in rows] == pytest.approx(expected)
    assert overall["family_size"] == parts["warmth"]["family_size"] == 6
    assert parts["warmth"] == compute_omnibus(cells, trait_category="warmth")
    assert overall["summary"]["total"] == 2
    one = compute_omnibus(cells, attributes=["origin"])
    assert one["attributes"] == overall["attributes"][1:]


def test_unknown_takes_no_part():
    table = np.array([[1], [2], [4], [5], [1], [1]])
    shown = compute_omnibus(cells_of(table, {"g": [*"aabb", "Unknown", "Unknown"]}))
    row = shown["attributes"][0]
    assert (row["n_groups"], row["n_total"], row["n_personas"], row["n_ratings"]) == (2, 4, 4, 4)
    assert row["h_stat"] == pytest.approx(stats.kruskal([1, 2], [4, 5]).statistic)


@pytest.mark.parametrize(
    ("table", "groups", "valence", "status"),
    [
        ([[1], [2], [3]], "aaa", [1], "n_lt_2"),  # one category
        ([[4]], "a", [1], "n_lt_2"),  # one persona
        ([[1], [2]], ["Unknown"] * 2, [1], "no_data"),  # nobody to test
        ([[1], [2], [3]], "aab", [0], "no_data"),  # only neutral traits
        ([[np.nan], [np.nan]], "ab", [1], "no_data"),  # nothing but missing answers
        ([[3], [3], [3], [3]], "aabb", [1], "zero_variance"),  # all equal
    ],
)
def test_what_cannot_be_tested_is_none(table, groups, valence, status):
    omnibus = compute_omnibus(cells_of(table, {"g": list(groups)}, valence=valence))
    json.dumps(omnibus, allow_nan=False)
    (row,) = omnibus["attributes"]
    assert row["status"] == status
    for field in ("h_stat", "p_value", "q_value", "welch_f", "omega_squared", "sd_between"):
        assert row[field] is None
    assert row["significant"] is row["effect_interpretation"] is None
    assert omnibus["summary"] == {"significant_count": 0, "total": 1}


def test_an_empty_run_has_rows_without_numbers():
    cells = compute_cells(random_run(1).iloc[:0], ["group", "origin"])
    assert [row["status"] for row in compute_omnibus(cells)["attributes"]] == ["no_data"] * 2
    assert compute_omnibus_by_category(cells) == {"categories": {}}


def test_mistakes_are_named():
    cells = compute_cells(random_run(1), ["group"])
    with pytest.raises(InvalidInput, match="no attribute 'age'"):
        compute_omnibus(cells, attributes=["age"])
    with pytest.raises(InvalidInput, match="no trait category 'honesty'"):
        compute_omnibus(cells, trait_category="honesty")


@law
@given(small_runs())
def test_whatever_the_run_the_payload_is_sound(frame):
    cells = compute_cells(frame, ["group"])
    omnibus = compute_omnibus(cells)
    json.dumps(omnibus, allow_nan=False)
    (row,) = omnibus["attributes"]
    if row["p_value"] is not None:
        assert row["p_value"] <= row["q_value"] + 1e-12
        scores = compute_persona_scores(cells)
        assert row["n_total"] <= scores.enters.sum()
    if row["variance_between"] is not None:
        assert row["sd_between"] == math.sqrt(max(0.0, row["variance_between"]))
