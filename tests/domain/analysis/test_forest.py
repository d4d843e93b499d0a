import json

import numpy as np
import pytest
from hypothesis import given
from scipy import stats

from benchlib.domain.analysis.cells import compute_cells
from benchlib.domain.analysis.deltas import compute_all_deltas, compute_deltas
from benchlib.domain.analysis.forest import compute_all_forests, compute_forest
from benchlib.domain.analysis.trait_comparisons import ForestOptions
from benchlib.domain.errors import InvalidInput
from benchlib.domain.stats.ranks import compute_cliffs_delta, compute_mann_whitney
from benchlib.domain.stats.welch import compute_q_values
from tests.domain.frames import cells_of, law, random_run, ratings_of, small_runs, two_groups
from tests.domain.oracle import close, load_case

ROW_FIELDS = {
    "case_id",
    "label",
    "category",
    "baseline",
    "trait_category",
    "valence",
    "n_base",
    "n_cat",
    "delta",
    "se",
    "ci_low",
    "ci_high",
    "p_value",
    "q_value",
    "cliffs_delta",
    "significant",
}


def test_rows_and_diamonds_match_the_worked_case():
    case = load_case("forest_pooled_correlated")
    cells = two_groups(case.input["base"], case.input["cat"])
    forest = compute_forest(cells, "group", baseline="base", targets=["cat"])
    assert [row["delta"] for row in forest["rows"]] == case.approx("delta_by_trait")
    overall = forest["overall"]
    assert overall["mean"] == case.approx("mean")
    # Worked with Welch's error; with 6 and 7 personas it is never smaller, and p the larger of two
    for row, se in zip(forest["rows"], case.expected["se_by_trait"], strict=True):
        assert row["se"] >= se - 1e-9
        assert row["p_value"] == max(row["p_welch"], row["p_perm"])
    assert overall["se"] >= case.expected["se_fixed_traits"] - 1e-9
    assert overall["p_value"] == max(overall["p_welch"], overall["p_perm"])
    assert (overall["k_traits"], overall["overlap"]) == (overall["k"], 1)
    reach = stats.t.ppf(0.975, overall["df"]) * overall["se"]
    ends = [overall["mean"] - reach, overall["mean"] + reach]
    assert [overall["ci_low"], overall["ci_high"]] == pytest.approx(ends)
    # The second diamond: tau2 / T of the worked case on top of the error of the first
    population, k = overall["population"], overall["k"]
    assert population["tau2"] == case.approx("tau2")
    variance = overall["se"] ** 2 + population["tau2"] / k
    assert population["se"] == pytest.approx(variance**0.5)
    reach = stats.t.ppf(0.975, k - 2) * (population["tau2"] + variance) ** 0.5
    ends = [overall["mean"] - reach, overall["mean"] + reach]
    assert [population["pi_low"], population["pi_high"]] == pytest.approx(ends)
    assert population["p_het"] == case.approx("p_het_gg")


def test_a_row_is_welch_plus_rank_statistics():
    rng = np.random.default_rng(1)
    base, cat = rng.integers(1, 6, (40, 2)), rng.integers(1, 6, (35, 2))
    forest = compute_forest(two_groups(base, cat), "group")
    row = forest["rows"][1]
    expected = stats.ttest_ind(cat[:, 1], base[:, 1], equal_var=False)
    assert row["p_value"] == pytest.approx(expected.pvalue)
    assert row["df"] == pytest.approx(expected.df)
    counts = [np.bincount(group[:, 1], minlength=6)[1:] for group in (base, cat)]
    cliffs = compute_cliffs_delta(*counts)
    assert row["cliffs_delta"] == pytest.approx(float(cliffs.delta))
    assert [row["cliffs_low"], row["cliffs_high"]] == pytest.approx(
        [float(cliffs.ci_low), float(cliffs.ci_high)]
    )
    assert row["cliffs_p"] == pytest.approx(float(cliffs.p_value))
    assert row["mwu_p"] == pytest.approx(float(compute_mann_whitney(*counts).p_value))
    assert (row["mean_base"], row["mean_cat"]) == pytest.approx(
        (base[:, 1].mean(), cat[:, 1].mean())
    )
    assert (row["sd_base"], row["sd_cat"]) == pytest.approx(
        (base[:, 1].std(ddof=1), cat[:, 1].std(ddof=1))
    )
    assert (row["n_base"], row["n_cat"], row["n_ratings"], row["n_missing"]) == (40, 35, 35, 0)
    assert (row["weight_percent"], row["trait_id"], row["case_id"]) == (50, 1, "case1")


def test_rows_carry_the_fields_of_the_api():
    forest = compute_forest(compute_cells(random_run(1), ["group", "origin"]), "group")
    assert {"n", "rows", "overall"} <= set(forest)
    assert {"mean", "ci_low", "ci_high"} <= set(forest["overall"])
    assert all(set(row) >= ROW_FIELDS for row in forest["rows"])


def test_a_uniform_favour_survives_the_valence():
    # a is favoured: higher on favourable, lower on unfavourable traits; unaligned it cancels out
    aligned = np.array([[4, 4], [4, 5], [5, 4], [2, 2], [2, 3], [3, 2]])
    frame = ratings_of(aligned, {"g": list("bbbaaa")}, valence=[1, -1])
    before = frame.pivot(index="persona_id", columns="trait_id", values="rating_pre_valence")
    assert before[:3].mean().mean() == pytest.approx(before[3:].mean().mean())
    forest = compute_forest(compute_cells(frame, ["g"]), "g", baseline="a")
    assert [row["delta"] for row in forest["rows"]] == pytest.approx([2, 2])
    assert forest["overall"]["mean"] == pytest.approx(2)
    assert [row["valence"] for row in forest["rows"]] == [1, -1]


def test_the_first_diamond_is_the_delta_of_the_table():
    cells = compute_cells(random_run(4, 60, missing=0.15), ["group", "origin"])
    forests = compute_all_forests(cells)
    deltas = compute_all_deltas(cells)
    warmth = compute_all_deltas(cells, trait_category="warmth")
    for attribute, forest in forests.items():
        for pooled in forest["pooled"]:
            tables = {None: deltas, "warmth": warmth}.get(pooled["trait_category"])
            if tables is None:
                continue
            rows = {row["category"]: row for row in tables[attribute]["rows"]}
            row = rows[pooled["category"]]
            for field, other in (("mean", "delta"), ("se", "se_delta"), ("p_value", "p_value")):
                assert pooled[field] == pytest.approx(row[other])


def test_every_category_is_pooled_overall_and_by_trait_category():
    cells = compute_cells(random_run(5, 50), ["group", "origin"])
    forest = compute_all_forests(cells)["group"]
    assert [(pooled["category"], pooled["trait_category"]) for pooled in forest["pooled"]] == [
        (target, scope) for target in forest["targets"] for scope in (None, "competence", "warmth")
    ]
    assert forest["overall"] == forest["pooled"][0]
    assert [pooled["k"] for pooled in forest["pooled"][:3]] == [6, 3, 3]
    part = compute_forest(cells, "group", trait_category="warmth")
    assert {row["trait_category"] for row in part["rows"]} == {"warmth"}
    assert part["overall"]["k"] == 3
    twin = next(
        pooled
        for pooled in forest["pooled"]
        if (pooled["category"], pooled["trait_category"]) == (part["targets"][0], "warmth")
    )
    assert part["overall"] == close(twin, 1e-9)


def test_the_default_target_is_the_largest_after_the_baseline():
    cells = cells_of(np.arange(9)[:, None] % 5 + 1, {"g": list("aaaabbccc")})
    forest = compute_forest(cells, "g")
    assert (forest["baseline"], forest["targets"]) == ("a", ["c"])
    both = compute_forest(cells, "g", baseline="b", targets=["c", "a"])
    assert [row["category"] for row in both["rows"]] == ["c", "a"]
    with pytest.raises(InvalidInput, match="choose from: b, c"):
        compute_forest(cells, "g", targets=["a"])


def test_q_values_cover_all_rows_of_the_run():
    cells = compute_cells(random_run(6, 60), ["group", "origin"])
    rows = [row for forest in compute_all_forests(cells).values() for row in forest["rows"]]
    expected = compute_q_values([row["p_value"] for row in rows])
    assert [row["q_value"] for row in rows] == pytest.approx(expected)
    one = compute_forest(cells, "origin", trait_category="warmth")
    assert one["family_size"] == len(rows) == 3 * 6
    by_key = {(row["category"], row["case_id"]): row["q_value"] for row in rows}
    for row in one["rows"]:
        assert row["q_value"] == by_key[row["category"], row["case_id"]]
    table = compute_q_values([row["p_value"] for row in one["rows"]])
    assert [row["q_table"] for row in one["rows"]] == pytest.approx(table)


def test_traits_with_few_raters_can_be_left_out():
    nan = np.nan
    table = [[1, 2, nan], [2, 3, 1], [4, 4, nan], [5, 4, 2], [3, 5, nan]]
    cells = cells_of(table, {"g": list("aaabb")})
    everything = compute_forest(cells, "g")
    assert [row["status"] for row in everything["rows"]] == ["low_n", "low_n", "n_lt_2"]
    assert everything["overall"]["k"] == 3
    assert everything["overall"]["population"]["k"] == 2
    fewer = compute_forest(cells, "g", options=ForestOptions(min_n=2))
    assert [row["case_id"] for row in fewer["rows"]] == ["case0", "case1"]
    without = compute_forest(cells_of(np.array(table)[:, :2], {"g": list("aaabb")}), "g")
    assert fewer["overall"] == close(without["overall"], 1e-9)


def test_textbook_poolings_are_added_on_demand():
    rng = np.random.default_rng(3)
    base, cat = rng.integers(1, 6, (8, 4)).astype(float), rng.integers(1, 6, (8, 4)).astype(float)
    base[:, 2] = cat[:, 2] = 3
    forest = compute_forest(
        two_groups(base, cat), "group", options=ForestOptions(poolings=("dl", "reml"))
    )
    found = forest["overall"]["independent"]
    assert [pooling["method"] for pooling in found] == ["dl", "reml"]
    assert [(pooling["k"], pooling["excluded"]) for pooling in found] == [(3, ["case2"])] * 2
    constant = forest["rows"][2]
    assert (constant["status"], constant["se"], constant["p_value"]) == ("zero_variance", 0, None)
    assert constant["precision_percent"] is None
    assert sum(row["precision_percent"] or 0 for row in forest["rows"]) == pytest.approx(100)


def test_the_strict_correction_needs_draws():
    cells = compute_cells(random_run(7), ["group", "origin"])
    options = ForestOptions(max_t=True, n_perm=199)
    with pytest.raises(InvalidInput, match="random generator"):
        compute_forest(cells, "group", options=options)
    forest = compute_forest(cells, "group", options=options, rng=np.random.default_rng(1))
    for row in forest["rows"]:
        assert row["p_max_t"] >= row["p_value"] - 0.1
    assert compute_forest(cells, "group")["rows"][0]["p_max_t"] is None


def test_neutral_traits_have_a_forest_of_their_own():
    cells = cells_of([[1, 5], [2, 4], [3, 1], [4, 2]], {"g": list("aabb")}, valence=[1, 0])
    assert [row["case_id"] for row in compute_forest(cells, "g")["rows"]] == ["case0"]
    neutral = compute_forest(cells, "g", neutral=True)
    assert [(row["case_id"], row["valence"]) for row in neutral["rows"]] == [("case1", 0)]
    assert neutral["overall"]["mean"] == pytest.approx(-3)


@pytest.mark.parametrize(
    ("table", "groups", "valence"),
    [
        ([[1], [2], [3]], "aaa", [1]),  # one category
        ([[4]], "a", [1]),  # one persona
        ([[1], [2]], ["Unknown"] * 2, [1]),  # no baseline
        ([[1], [2], [3]], "aab", [0]),  # only neutral traits
        ([[np.nan], [np.nan]], "ab", [1]),  # nothing but missing answers
        ([[3, 3], [3, 3], [3, 3], [3, 3]], "aabb", [1, 1]),  # all equal
        ([[1, 2], [np.nan, np.nan]], "ab", [1, 1]),  # a category without an answer
    ],
)
def test_what_cannot_be_compared_is_none(table, groups, valence):
    cells = cells_of(table, {"g": list(groups)}, valence=valence)
    options = ForestOptions(poolings=("dl", "pm", "reml"))
    for forest in (
        compute_forest(cells, "g", options=options),
        *compute_all_forests(cells, options=options).values(),
    ):
        json.dumps(forest, allow_nan=False)
        for row in forest["rows"]:
            assert row["p_value"] is row["q_value"] is row["ci_low"] is row["verdict"] is None
            assert row["status"] in ("no_data", "n_lt_2", "zero_variance")
        for pooled in (forest["overall"], *forest["pooled"]):
            assert pooled["p_value"] is pooled["ci_low"] is pooled["population"]["se"] is None
            assert pooled["status"] in ("no_data", "n_lt_2", "zero_variance")


def test_an_empty_run_has_an_empty_forest():
    cells = compute_cells(random_run(1).iloc[:0], ["group", "origin"])
    forest = compute_forest(cells, "group", trait_category="warmth")
    assert (forest["rows"], forest["targets"], forest["pooled"]) == ([], [], [])
    assert (forest["overall"]["mean"], forest["overall"]["status"]) == (None, "no_data")


@law
@given(small_runs(complete=True))
def test_pooled_effects_lie_within_their_rows(frame):
    forest = compute_all_forests(compute_cells(frame, ["group"]))["group"]
    for pooled in forest["pooled"]:
        rows = [row for row in forest["rows"] if row["category"] == pooled["category"]]
        deltas = [row["delta"] for row in rows if row["delta"] is not None]
        for mean in (pooled["mean"], pooled["population"]["mean"]):
            if mean is not None and pooled["trait_category"] is None:
                assert min(deltas) - 1e-9 <= mean <= max(deltas) + 1e-9


@law
@given(small_runs())
def test_swapping_the_baseline_flips_rows_and_diamonds(frame):
    frame = frame[frame["group"].isin(["a", "b"])]
    if set(frame["group"]) != {"a", "b"}:
        return
    cells = compute_cells(frame, ["group"])
    one = compute_forest(cells, "group", baseline="a", targets=["b"])
    other = compute_forest(cells, "group", baseline="b", targets=["a"])
    pairs = [
        *zip(one["rows"], other["rows"], strict=True),
        (
            one["overall"] | {"delta": one["overall"]["mean"]},
            other["overall"] | {"delta": other["overall"]["mean"]},
        ),
    ]
    for row, twin in pairs:
        assert row["delta"] == (
            None if twin["delta"] is None else pytest.approx(-twin["delta"], abs=1e-12)
        )
        assert row["p_value"] == close(twin["p_value"])
        assert row["se"] == close(twin["se"])
    assert one["overall"]["population"]["tau2"] == close(other["overall"]["population"]["tau2"])


@law
@given(small_runs())
def test_whatever_the_run_the_payload_is_sound(frame):
    cells = compute_cells(frame, ["group"])
    options = ForestOptions(poolings=("dl", "pm", "reml"))
    forest = compute_all_forests(cells, options=options)["group"]
    json.dumps(forest, allow_nan=False)
    for row in forest["rows"]:
        if row["p_value"] is not None:
            assert row["p_value"] <= row["q_value"] + 1e-12
            assert row["ci_low"] <= row["delta"] <= row["ci_high"]
    deltas = compute_deltas(cells, "group")
    assert [row["category"] for row in deltas["rows"] if row["tested"]] == forest["targets"]


@pytest.mark.parametrize("method", ["bh", "by"])
def test_the_method_decides_what_significant_and_verdict_follow(method):
    cells = compute_cells(random_run(0, 60), ["group", "origin"])
    options = ForestOptions(alpha=0.2, method=method)
    rows = compute_forest(cells, "group", targets=["b", "c"], options=options)["rows"]
    decisive = [row["q_by" if method == "by" else "q_value"] for row in rows]
    assert [row["significant"] for row in rows] == [q < 0.2 for q in decisive]
    for row in rows:
        decided = {"biased", "negligible"} if row["significant"] else {"inconclusive", "equivalent"}
        assert row["verdict"] in decided
    # two traits have a q_value of .103 and a q_by of .360
    assert sum(q < 0.2 for q in decisive) == {"bh": 2, "by": 0}[method]
