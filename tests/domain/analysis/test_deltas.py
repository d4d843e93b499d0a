import json
import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchlib.domain.analysis.cells import compute_cells
from benchlib.domain.analysis.deltas import compute_all_deltas, compute_deltas
from benchlib.domain.analysis.persona_scores import compute_persona_scores
from benchlib.domain.errors import InvalidInput
from benchlib.domain.stats.welch import compute_q_values
from tests.domain.frames import cells_of, law, random_run, small_runs, two_groups
from tests.domain.oracle import close, load_case

API_FIELDS = {
    "category",
    "count",
    "mean",
    "delta",
    "p_value",
    "q_value",
    "significant",
    "cliffs_delta",
    "baseline",
    "n_base",
    "mean_base",
    "sd_base",
    "n_cat",
    "mean_cat",
    "sd_cat",
    "se_delta",
    "ci_low",
    "ci_high",
}


def row_of(deltas, category):
    return next(row for row in deltas["rows"] if row["category"] == category)


def test_a_delta_is_welch_on_persona_scores():
    case = load_case("welch_delta")
    # one trait, so a persona's score is its rating; the default baseline has most personas
    base, cat = ([[value] for value in case.input[name]] for name in ("base", "cat"))
    deltas = compute_deltas(two_groups(base, cat), "group")
    row = row_of(deltas, "cat")
    for field in ("n_base", "n_cat", "mean_base", "mean_cat", "delta"):
        assert row[field] == case.approx(field)
    assert (row["status"], row["n_perm"], row["perm_exact"]) == ("low_n", 0, True)
    # The worked standard error is Welch's alone. With 7 and 5 personas variances are floored at
    # (4 pooled + (n - 1) s2) / (n + 3), and the interval is not shorter than Student's.
    groups = [np.array(case.input[name]) for name in ("base", "cat")]
    n, s2 = (np.array([f(x) for x in groups]) for f in (len, lambda x: x.var(ddof=1)))
    pooled = ((n - 1) * s2).sum() / (n.sum() - 2)
    floored = np.maximum(s2, (4 * pooled + (n - 1) * s2) / (n + 3))
    parts = floored / n
    options = [(parts.sum() ** 0.5, parts.sum() ** 2 / (parts**2 / (n - 1)).sum())]
    options.append(((pooled * (1 / n).sum()) ** 0.5, n.sum() - 2))
    se, df = max(options, key=lambda each: each[0] * stats.t.ppf(0.975, each[1]))
    assert (row["se_delta"], row["df"], row["t"]) == pytest.approx((se, df, row["delta"] / se))
    for low, high, level in (("ci_low", "ci_high", 0.975), ("ci90_low", "ci90_high", 0.95)):
        reach = se * stats.t.ppf(level, df)
        assert [row[low], row[high]] == pytest.approx([row["delta"] - reach, row["delta"] + reach])
    assert row["p_welch"] == pytest.approx(2 * stats.t.sf(abs(row["t"]), df))
    assert row["p_value"] == max(row["p_welch"], row["p_perm"])
    g = load_case("hedges_g")  # the same groups
    assert row["hedges_g"] == g.approx("g")
    # The worked interval is the normal one; under it t = g / (J sqrt(1/7 + 1/5)) is noncentral
    factor = (1 - 3 / (4 * (n.sum() - 2) - 1)) * (1 / n).sum() ** 0.5
    for end, level in (("hedges_g_low", 0.975), ("hedges_g_high", 0.025)):
        found = stats.nct.cdf(row["hedges_g"] / factor, n.sum() - 2, row[end] / factor)
        assert found == pytest.approx(level)


def test_the_permutation_p_matches_the_worked_case():
    case = load_case("persona_permutation_exact")
    base, cat = ([[value] for value in case.input[name]] for name in ("base", "cat"))
    row = row_of(compute_deltas(two_groups(base, cat), "group"), "cat")
    # The worked p shuffles Welch's t; p_perm shuffles the mean difference, which Welch's p guards
    groups = [np.array(case.input[name]) for name in ("cat", "base")]
    pooled, n_cat = np.concatenate(groups), len(groups[0])
    sums = np.array([sum(drawn) for drawn in combinations(pooled, n_cat)])
    far = np.abs(sums / n_cat - (pooled.sum() - sums) / len(groups[1])) > abs(row["delta"]) - 1e-9
    assert row["p_perm"] == pytest.approx(far.mean())
    assert abs(stats.ttest_ind(*groups, equal_var=False).statistic) == case.approx("abs_t")


def test_equivalence_matches_the_worked_case():
    case = load_case("equivalence_tost")
    base, cat = ([[value] for value in case.input[name]] for name in ("base", "cat"))
    deltas = compute_deltas(two_groups(base, cat), "group", sesoi=case.input["margin"])
    row = row_of(deltas, "cat")
    # As worked, but with the wider standard error of groups of 8 and 6
    margin, df = case.input["margin"], row["df"]
    high = stats.t.sf((margin - row["delta"]) / row["se_delta"], df)
    low = stats.t.sf((margin + row["delta"]) / row["se_delta"], df)
    assert row["p_tost"] == pytest.approx(max(low, high))
    assert row["p_tost"] > case.expected["p_tost"]
    assert row["equivalent"] is True
    assert row["verdict"] == "equivalent"
    reach = stats.t.ppf(0.95, df) * row["se_delta"]
    ends = [row["delta"] - reach, row["delta"] + reach]
    assert [row["ci90_low"], row["ci90_high"]] == pytest.approx(ends)


def test_the_clustered_cliffs_delta_matches_the_worked_case():
    case = load_case("stratified_cliff_clustered")
    cells = two_groups(case.input["base"], case.input["cat"])
    row = row_of(compute_deltas(cells, "group", baseline="base"), "cat")
    assert row["cliffs_delta"] == case.approx("delta")
    assert row["cliffs_se"] == case.approx("se")
    assert [row["cliffs_low"], row["cliffs_high"]] == [
        case.approx("ci_low"),
        case.approx("ci_high"),
    ]
    assert row["cliffs_p"] == case.approx("p")
    assert row["k_traits"] == 3
    assert row["prob_superior"] == pytest.approx((1 + case.expected["delta"]) / 2)


def test_rows_carry_the_fields_of_the_api():
    deltas = compute_deltas(compute_cells(random_run(1), ["group", "origin"]), "group")
    assert {"n", "baseline", "rows"} <= set(deltas)
    for row in deltas["rows"]:
        assert set(row) >= API_FIELDS


def test_means_are_on_the_scale_and_differ_by_the_delta():
    cells = cells_of([[5, 4], [4, 4], [2, 1], [1, 2], [2, 2]], {"g": list("aabbb")})
    row = row_of(compute_deltas(cells, "g"), "a")
    assert row["baseline"] == "b"
    assert row["mean"] == row["mean_cat"] == pytest.approx(17 / 4)
    assert row["mean_base"] == pytest.approx(10 / 6)
    assert row["delta"] == pytest.approx(17 / 4 - 10 / 6)
    assert (row["count"], row["n_ratings"], row["n_missing"]) == (4, 4, 0)


def test_baseline_and_unknown_are_shown_but_not_tested():
    cells = cells_of(np.arange(1, 6)[:, None], {"g": ["a", "a", "b", "b", "Unknown"]})
    deltas = compute_deltas(cells, "g")
    assert [row["category"] for row in deltas["rows"]] == ["a", "b", "Unknown"]
    assert [row["tested"] for row in deltas["rows"]] == [False, True, False]
    assert deltas["family_size"] == 1
    for name in ("a", "Unknown"):
        row = row_of(deltas, name)
        assert row["mean"] is not None
        for field in ("delta", "p_value", "q_value", "p_perm", "cliffs_delta", "verdict"):
            assert row[field] is None
    assert row_of(deltas, "a")["is_baseline"] is True
    assert row_of(deltas, "Unknown")["n_personas"] == 1


@pytest.mark.parametrize("index", range(3))
def test_edge_groups_have_a_status(index):
    case = load_case("edge_group_delta")
    groups, expected = case.input["cases"][index], case.expected["cases"][index]
    # a category nobody with an answer belongs to still has a row
    cat = groups["cat"] or [np.nan]
    cells = two_groups([[x] for x in groups["base"]], [[x] for x in cat])
    row = row_of(compute_deltas(cells, "group", baseline="base"), "cat")
    found = {
        "delta": row["delta"],
        "se": row["se_delta"],
        "ci_low": row["ci_low"],
        "ci_high": row["ci_high"],
        "p": row["p_value"],
        "p_perm": row["p_perm"],
        "status": row["status"],
    }
    if row["status"] == "zero_variance":
        expected = {**expected, "p_perm": None}  # nothing to shuffle
    assert found == close(expected)


def test_q_values_cover_the_whole_run():
    cells = compute_cells(random_run(2, 80), ["group", "origin"])
    by_set = [
        compute_all_deltas(cells, trait_category=name) for name in (None, "warmth", "competence")
    ]
    rows = [row for tables in by_set for table in tables.values() for row in table["rows"]]
    q_values = compute_q_values([row["p_value"] for row in rows])
    strict = compute_q_values([row["p_value"] for row in rows], "by")
    # groups a, b, c give two tests, north and south one; three trait sets
    assert by_set[0]["group"]["family_size"] == np.isfinite(q_values).sum() == 9
    for row, q, q_by in zip(rows, q_values, strict, strict=True):
        assert row["q_value"] == (None if np.isnan(q) else pytest.approx(q))
        assert row["q_by"] == (None if np.isnan(q) else pytest.approx(q_by))
    table = by_set[1]["group"]["rows"]
    expected = compute_q_values([row["p_value"] for row in table])
    assert [row["q_table"] for row in table if row["tested"]] == pytest.approx(
        expected[~np.isnan(expected)]
    )


def test_the_method_decides_what_significant_and_verdict_follow():
    cells = compute_cells(random_run(0, 60), ["group", "origin"])
    found = {
        method: [
            (row["significant"], row["verdict"])
            for row in compute_deltas(cells, "group", alpha=0.3, method=method)["rows"]
            if row["tested"]
        ]
        for method in ("bh", "by")
    }
    # q_value .134 and .285, q_by .378 and .808
    assert found["bh"] == [(True, "biased"), (True, "biased")]
    assert found["by"] == [(False, "inconclusive"), (False, "inconclusive")]


def test_one_attribute_repeats_the_numbers_of_all():
    cells = compute_cells(random_run(3, 60, missing=0.2), ["group", "origin"])
    everything = compute_all_deltas(cells, trait_category="warmth")
    alone = compute_deltas(cells, "origin", trait_category="warmth")
    assert alone == everything["origin"]


def test_the_baseline_is_the_same_for_every_trait_set():
    nan = np.nan
    # only b rated warmth, but a is larger over all traits
    table = [[nan, 3, 4], [nan, 2, 2], [nan, 4, 5], [1, 2, 3], [2, 3, 3]]
    cells = cells_of(
        table, {"g": list("aaabb")}, trait_categories=["warmth", "competence", "competence"]
    )
    deltas = compute_deltas(cells, "g", trait_category="warmth")
    assert deltas["baseline"] == "a"
    assert row_of(deltas, "b")["status"] == "no_data"
    assert row_of(deltas, "b")["delta"] is None
    assert row_of(deltas, "a")["n_dropped"] == 3


def test_dropped_and_missing_are_counted():
    nan = np.nan
    cells = cells_of([[1, 2, 3], [2, 3, nan], [nan, nan, 4], [4, 4, 4]], {"g": list("aabb")})
    deltas = compute_deltas(cells, "g")
    a, b = deltas["rows"]
    assert (deltas["n"], deltas["n_personas"], deltas["n_dropped"]) == (9, 3, 1)
    assert (a["n_personas"], a["n_dropped"], a["n_missing"], a["count"]) == (2, 0, 1, 5)
    assert (b["n_personas"], b["n_dropped"], b["n_missing"], b["count"]) == (1, 1, 2, 4)


def test_neutral_traits_are_a_set_of_their_own():
    cells = cells_of(
        [[1, 5], [2, 4], [3, 1], [4, 2]],
        {"g": list("aabb")},
        valence=[1, 0],
        trait_categories=["warmth", "gender"],
    )
    assert compute_deltas(cells, "g")["rows"][1]["delta"] == pytest.approx(2)
    assert compute_deltas(cells, "g", neutral=True)["rows"][1]["delta"] == pytest.approx(-3)
    empty = compute_deltas(cells, "g", trait_category="gender")
    assert (empty["n"], empty["baseline"]) == (0, "a")
    assert {row["status"] for row in empty["rows"]} == {"no_data"}


def nothing_but_statuses(deltas):
    json.dumps(deltas, allow_nan=False)
    for row in deltas["rows"]:
        for field in ("delta", "se_delta", "p_value", "q_value", "p_perm", "hedges_g", "verdict"):
            assert row[field] is None
    return {row["status"] for row in deltas["rows"]}


@pytest.mark.parametrize(
    ("table", "groups", "valence", "statuses"),
    [
        ([[1], [2], [3]], "aaa", [1], {"ok", "low_n"}),  # one category
        ([[4]], "a", [1], {"n_lt_2"}),  # one persona
        ([[1], [2]], ["Unknown"] * 2, [1], {"no_data"}),  # no baseline
        ([[1], [2], [3]], "aab", [0], {"no_data"}),  # only neutral traits
        ([[np.nan], [np.nan]], "ab", [1], {"no_data"}),  # nothing but missing answers
    ],
)
def test_what_cannot_be_compared_is_none(table, groups, valence, statuses):
    cells = cells_of(table, {"g": list(groups)}, valence=valence)
    assert nothing_but_statuses(compute_deltas(cells, "g")) <= statuses


def test_an_empty_run_has_empty_tables():
    cells = compute_cells(random_run(1).iloc[:0], ["group", "origin"])
    for name in (None, "warmth"):
        deltas = compute_all_deltas(cells, trait_category=name)
        assert set(deltas) == {"group", "origin"}
        assert (deltas["group"]["rows"], deltas["group"]["baseline"]) == ([], None)


def test_a_run_without_attributes_has_no_tables():
    assert compute_all_deltas(cells_of([[1, 2], [3, 4]], {})) == {}


def test_a_model_that_always_answers_the_same_shows_no_difference():
    cells = cells_of(np.full((12, 4), 3), {"g": list("aaaaaaabbbbb")})
    row = row_of(compute_deltas(cells, "g"), "b")
    assert (row["delta"], row["cliffs_delta"], row["status"]) == (0, 0, "zero_variance")
    assert (row["se_delta"], row["cliffs_se"]) == (0, 0)
    assert row["p_value"] is row["ci_low"] is row["verdict"] is None
    assert row["p_perm"] is None  # nothing to shuffle


def test_mistakes_are_named():
    cells = compute_cells(random_run(1), ["group", "origin"])
    with pytest.raises(InvalidInput, match="no attribute 'age'"):
        compute_deltas(cells, "age")
    with pytest.raises(InvalidInput, match="'d' cannot be a baseline of group"):
        compute_deltas(cells, "group", baseline="d")
    with pytest.raises(InvalidInput, match="choose from: competence, warmth"):
        compute_deltas(cells, "group", trait_category="honesty")
    with pytest.raises(InvalidInput, match="age"):
        compute_all_deltas(cells, baselines={"age": "old"})


@law
@given(small_runs())
def test_swapping_the_baseline_flips_every_delta(frame):
    frame = frame[frame["group"].isin(["a", "b"])]
    if set(frame["group"]) != {"a", "b"}:
        return
    cells = compute_cells(frame, ["group"])
    one = row_of(compute_deltas(cells, "group", baseline="a"), "b")
    other = row_of(compute_deltas(cells, "group", baseline="b"), "a")
    for field in ("delta", "t", "hedges_g", "cliffs_delta"):
        mirrored = None if other[field] is None else pytest.approx(-other[field], abs=1e-12)
        assert one[field] == mirrored
    for field in ("p_value", "q_value", "p_tost", "cliffs_p", "p_perm", "se_delta"):
        assert one[field] == (None if other[field] is None else pytest.approx(other[field]))
    assert (one["status"], one["verdict"]) == (other["status"], other["verdict"])


@law
@given(small_runs(), st.randoms(use_true_random=False))
def test_names_and_order_of_personas_change_nothing(frame, random):
    names = list(range(12))
    random.shuffle(names)
    renamed = frame.assign(persona_id=frame["persona_id"].map(dict(enumerate(names))))
    one, other = (
        compute_deltas(compute_cells(each, ["group"]), "group")
        for each in (frame, renamed.sample(frac=1, random_state=1))
    )
    for row, twin in zip(one["rows"], other["rows"], strict=True):
        assert row == close(twin, 1e-9)


@law
@given(small_runs())
def test_whatever_the_run_the_payload_is_sound(frame):
    deltas = compute_deltas(compute_cells(frame, ["group"]), "group")
    json.dumps(deltas, allow_nan=False)
    for row in deltas["rows"]:
        p, q = row["p_value"], row["q_value"]
        assert (p is None) == (q is None) == (row["verdict"] is None)
        if p is not None:
            assert 0 <= p <= q <= 1
            assert row["ci_low"] is None or row["ci_low"] <= row["delta"] <= row["ci_high"]
        if row["cliffs_delta"] is not None:
            assert -1 <= row["cliffs_delta"] <= 1
        if not row["tested"] or row["status"] in ("no_data", "n_lt_2", "not_comparable"):
            assert row["p_perm"] is None


def test_personas_and_not_answers_are_the_unit():
    # no effect, but a strong persona effect: a test on rows rejects more than 40 % of such runs
    rng = np.random.default_rng(17)
    rejected, runs = 0, 200
    for _ in range(runs):
        table = 3 + rng.normal(0, 0.5, (60, 1)) + rng.normal(0, 0.8, (60, 10))
        cells = two_groups(*np.split(np.clip(np.rint(table), 1, 5), 2))
        z = compute_persona_scores(cells).z
        rejected += stats.ttest_ind(z[30:], z[:30], equal_var=False).pvalue < 0.05
    assert rejected / runs < 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)
    row = row_of(compute_deltas(cells, "group"), "cat")
    expected = stats.ttest_ind(z[30:], z[:30], equal_var=False)
    assert row["p_value"] == pytest.approx(expected.pvalue)


def test_groups_without_a_shared_trait_are_not_compared():
    # a and b rated different traits: centring said 0, "equivalent"; c links neither to both
    nan = np.nan
    table = [[1, 2, nan, nan], [2, 2, nan, nan], [nan, nan, 4, 5], [nan, nan, 5, 5]]
    row = row_of(compute_deltas(cells_of(table, {"g": list("aabb")}), "g"), "b")
    assert (row["status"], row["k_traits"], row["overlap"]) == ("not_comparable", 0, 0)
    for field in ("delta", "se_delta", "p_value", "q_value", "hedges_g", "verdict", "p_tost"):
        assert row[field] is None
    # somebody who rated traits of both sides connects them, if on one trait at a time
    linked = cells_of([*table, [nan, 3, 3, nan]], {"g": [*"aabb", "Unknown"]})
    row = row_of(compute_deltas(linked, "g"), "b")
    # trait 1 to trait 2 by the fifth persona: 0; a rates 2 on trait 1, b 4.5 on trait 2
    assert row["status"] == "low_n"
    assert row["delta"] == pytest.approx(2.5)


def test_a_constant_rater_gets_a_verdict():
    # 8 rated 4 and 8 rated 3, without any spread: 2 of the 12,870 assignments are as far apart
    cells = cells_of([[4]] * 8 + [[3]] * 8, {"g": list("aaaaaaaabbbbbbbb")})
    row = row_of(compute_deltas(cells, "g"), "b")
    assert (row["status"], row["delta"], row["se_delta"]) == ("constant_group", -1, 0)
    assert row["p_value"] == row["p_perm"] == pytest.approx(2 / 12870)
    assert (row["p_welch"], row["ci_low"], row["verdict"]) == (None, None, "biased")
