"""Runs beside each other: against scipy by hand, by laws, and against a planted truth."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from scipy import stats

from benchlib.domain.analysis.comparison import compute_delta_differences
from benchlib.domain.analysis.deltas import compute_deltas
from benchlib.domain.analysis.level_differences import compute_level_differences
from benchlib.domain.analysis.run_agreement import compute_run_agreement
from benchlib.domain.errors import InvalidInput
from benchlib.domain.simulation.planted import PlantedDesign
from tests.domain.frames import law, random_run, ratings_of, shared_runs, small_runs

GROUPS = ["a", "a", "a", "b", "b", "b"]
FIRST = np.array([[3, 3], [4, 4], [3, 2], [3, 4], [4, 5], [2, 2]])
SECOND = np.array([[3, 3], [4, 5], [2, 2], [4, 4], [5, 5], [4, 3]])
GAPS = (SECOND - FIRST).mean(axis=1)  # 0, .5, -.5, .5, .5, 1.5


def shared_of(*tables, groups=GROUPS, **kept):
    frames = [ratings_of(table, {"group": groups}, **kept) for table in tables]
    return shared_runs(dict(enumerate(frames)), "group")


def planted(seed, **changes):
    return replace(PlantedDesign(n_personas=40), **changes).simulate(seed)


def one(rows, **wanted):
    (row,) = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
    return row


def test_levels_are_the_paired_t_test_of_scipy():
    found = compute_level_differences(shared_of(FIRST, SECOND))
    row = one(found["rows"], trait_category=None)
    expected = stats.ttest_1samp(GAPS, 0)
    low, high = expected.confidence_interval()
    assert row["difference"] == pytest.approx(2.5 / 6)
    assert row["mean_reference"] == pytest.approx(FIRST.mean())
    assert row["mean"] == pytest.approx(SECOND.mean())
    assert row["t"] == pytest.approx(expected.statistic)
    assert row["df"] == 5
    assert row["p_value"] == pytest.approx(expected.pvalue)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((low, high))
    assert (row["run_id"], row["reference_id"]) == (1, 0)
    assert (row["n_personas"], row["n_traits"], row["status"]) == (6, 2, "low_n")
    # one trait category holds the same traits as all: the test counts once
    assert found["family_size"] == 1
    assert one(found["rows"], trait_category="warmth")["q_value"] == row["p_value"]


def test_difference_of_deltas_is_welch_on_the_gaps():
    table = compute_delta_differences(shared_of(FIRST, SECOND))["group"]
    (row,) = table["rows"]
    expected = stats.ttest_ind(GAPS[3:], GAPS[:3], equal_var=False)
    low, high = expected.confidence_interval()
    assert (row["category"], row["baseline"]) == ("b", "a")
    assert row["difference"] == pytest.approx(GAPS[3:].mean() - GAPS[:3].mean())
    assert row["t"] == pytest.approx(expected.statistic)
    assert row["df"] == pytest.approx(expected.df)
    assert row["p_value"] == pytest.approx(expected.pvalue)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((low, high))
    assert row["delta_reference"] == pytest.approx(FIRST[3:].mean() - FIRST[:3].mean())
    assert row["delta"] == pytest.approx(SECOND[3:].mean() - SECOND[:3].mean())
    assert (row["n_base"], row["n_cat"], row["status"]) == (3, 3, "low_n")


def test_agreement_by_hand():
    (row,) = compute_run_agreement(shared_of(FIRST, SECOND))
    assert row["mean_abs_difference"] == pytest.approx(np.abs(SECOND - FIRST).mean())
    of_personas = stats.pearsonr(FIRST.mean(axis=1), SECOND.mean(axis=1)).statistic
    assert row["persona_correlation"] == pytest.approx(of_personas)
    assert row["trait_correlation"] is None  # two traits
    assert (row["n_cells"], row["n_personas"], row["n_traits"]) == (12, 6, 2)


def test_only_what_all_runs_rated_counts_and_the_rest_is_told():
    first = ratings_of(FIRST, {"group": GROUPS})
    second = ratings_of(SECOND, {"group": GROUPS})
    third = second[second["persona_id"] != 0]  # persona 0 is not in the third run
    second = second[~((second["persona_id"] == 1) & (second["trait_id"] == 1))]
    second = second.assign(trait_id=second["trait_id"].replace({0: 7}))  # another version
    shared = shared_runs({5: first, 3: second, 9: third}, "group")
    assert shared.run_ids == (5, 3, 9)
    # left: trait 1 of personas 2 to 5
    assert shared.n_cells == 4
    assert [cells.trait_ids.tolist() for cells in shared.cells] == [[1]] * 3
    assert [cells.persona_ids.tolist() for cells in shared.cells] == [[2, 3, 4, 5]] * 3
    assert [
        (share["n_personas_dropped"], share["n_traits_dropped"], share["n_cells_dropped"])
        for share in shared.shares
    ] == [(2, 1, 8), (2, 1, 7), (1, 1, 6)]
    row = one(compute_level_differences(shared)["rows"], trait_category=None, run_id=3)
    assert row["difference"] == pytest.approx((SECOND - FIRST)[2:, 1].mean())
    assert row["n_personas"] == 4


def test_each_run_is_compared_with_the_first_and_never_pooled():
    tables = [random_run(seed) for seed in (1, 2, 3)]
    groups = tables[0]["group"]
    frames = [table.assign(group=groups) for table in tables]
    together = shared_runs(dict(zip([1, 2, 3], frames, strict=True)), "group")
    alone = shared_runs({1: frames[0], 3: frames[2]}, "group")
    rows = compute_delta_differences(together)["group"]["rows"]
    assert {row["run_id"] for row in rows} == {2, 3}
    for row in compute_delta_differences(alone)["group"]["rows"]:
        same = one(rows, run_id=3, category=row["category"])
        assert same["difference"] == pytest.approx(row["difference"])
        assert same["p_value"] == pytest.approx(row["p_value"])


def test_q_covers_every_run_attribute_category_and_trait_set():
    tables = [random_run(seed, n_personas=60) for seed in (1, 2, 3)]
    groups = {name: tables[0][name] for name in ("group", "origin")}
    frames = {seed: table.assign(**groups) for seed, table in enumerate(tables)}
    shared = shared_runs(frames, "group", "origin")
    rows = [
        row
        for category in (None, "warmth", "competence")
        for table in compute_delta_differences(shared, trait_category=category).values()
        for row in table["rows"]
    ]
    p_values = [row["p_value"] for row in rows]
    assert len(p_values) == 2 * (2 + 1) * 3  # runs x (groups + origins) x trait sets
    q_values = stats.false_discovery_control(p_values)
    assert [row["q_value"] for row in rows] == pytest.approx(q_values)
    by = stats.false_discovery_control(p_values, method="by")
    assert [row["q_by"] for row in rows] == pytest.approx(by)
    table = compute_delta_differences(shared, attributes=["origin"], alpha=0.4, method="by")
    assert list(table) == ["origin"]
    assert table["origin"]["family_size"] == 18
    assert {row["category"] for row in table["origin"]["rows"]} <= {"north", "south"}
    assert all(row["significant"] is (row["q_by"] < 0.4) for row in table["origin"]["rows"])


def test_levels_of_a_category_keep_the_correction_of_all():
    frames = [random_run(seed) for seed in (1, 2)]
    shared = shared_runs(dict(enumerate(frames)))
    every = compute_level_differences(shared)
    assert every["family_size"] == 3
    (warm,) = compute_level_differences(shared, trait_category="warmth")["rows"]
    assert warm == one(every["rows"], trait_category="warmth")


def test_a_run_does_not_differ_from_itself():
    frame = planted(1)
    shared = shared_runs({1: frame, 2: frame}, "group")
    rows = [
        *compute_level_differences(shared)["rows"],
        *compute_delta_differences(shared)["group"]["rows"],
    ]
    assert {row["difference"] for row in rows} == {0}
    assert {row["status"] for row in rows} == {"zero_variance"}
    # without any noise the tests are exact permutations: nothing is more usual than 0
    assert {row["p_value"] for row in rows} == {row["q_value"] for row in rows} == {1}
    assert {row["ci_low"] for row in rows} == {None}
    assert {row["verdict"] for row in rows} == {"equivalent"}
    (alike,) = compute_run_agreement(shared)
    assert alike["mean_abs_difference"] == 0
    assert alike["persona_correlation"] == pytest.approx(1)
    assert alike["trait_correlation"] == pytest.approx(1)


def test_a_constant_shift_differs_in_level_and_not_in_deltas():
    shared = shared_of(np.minimum(FIRST, 4), np.minimum(FIRST, 4) + 1)
    level = one(compute_level_differences(shared)["rows"], trait_category=None)
    assert (level["difference"], level["status"]) == (pytest.approx(1), "zero_variance")
    assert level["p_value"] == 2 / 2**6  # two of all patterns of six signs
    assert (level["p_tost"], level["verdict"]) == (1, "biased")
    (row,) = compute_delta_differences(shared)["group"]["rows"]
    assert row["difference"] == pytest.approx(0)
    assert (row["status"], row["p_value"]) == ("zero_variance", 1)
    assert row["p_tost"] == 1 / 20  # three of six personas can be drawn in 20 ways


def test_constant_groups_that_differ_are_tested_by_permutation():
    shared = shared_of(FIRST, FIRST - np.repeat([[0], [0], [0], [1], [1], [1]], 2, axis=1) * 0.5)
    (row,) = compute_delta_differences(shared)["group"]["rows"]
    assert (row["difference"], row["status"]) == (pytest.approx(-0.5), "zero_variance")
    assert (row["p_value"], row["p_tost"]) == (2 / 20, 1)


def test_verdicts_follow_the_smallest_effect_of_interest():
    gaps = np.tile([[0.2], [0.3]], (20, 1))
    shared = shared_of(np.full((40, 2), 3.0), 3 + np.tile(gaps, 2), groups=["a"] * 40)
    for sesoi, verdict in ((0.1, "biased"), (0.5, "negligible")):
        found = compute_level_differences(shared, sesoi=sesoi)
        row = one(found["rows"], trait_category=None)
        low, high = (
            stats.ttest_1samp(gaps, end, alternative=side).pvalue[0]
            for end, side in ((-sesoi, "greater"), (sesoi, "less"))
        )
        assert (found["sesoi"], row["verdict"]) == (sesoi, verdict)
        assert row["p_tost"] == pytest.approx(max(low, high))
        assert row["equivalent"] is (verdict == "negligible")


def test_the_draw_of_the_orders_is_no_difference():
    # one rater without noise that answers a point higher where the scale is reversed
    rng = np.random.default_rng(4)
    truth = rng.integers(2, 4, (60, 12)).astype(float)
    groups = {"group": ["a", "b"] * 30}
    drawn = rng.random(truth.shape) < 0.5

    def asked(orders):
        return ratings_of(truth + orders, groups, orders=orders)

    both = asked(~drawn)  # the second order of some pairs
    chosen = pd.Series(rng.random(truth.size) < 0.2)
    dual = pd.concat([asked(drawn), both[chosen]], ignore_index=True)
    for other in (asked(drawn), dual):
        shared = shared_runs({1: dual, 2: other}, "group")
        for row in (
            *compute_level_differences(shared)["rows"],
            *compute_delta_differences(shared)["group"]["rows"],
        ):
            assert (row["difference"], row["verdict"]) == (pytest.approx(0), "equivalent")
    # orders drawn once more, and half of the questions asked in one order only
    for orders in (rng.random(truth.shape) < 0.5, np.zeros(truth.shape, dtype=bool)):
        shared = shared_runs({1: asked(drawn), 2: asked(orders)}, "group")
        (row, *_) = compute_level_differences(shared)["rows"]
        assert (row["difference"], row["same_orders"]) == (pytest.approx(0), True)
    # no question in common: the order of one run against the other, and it is said
    ones = np.ones(truth.shape, dtype=bool)
    shared = shared_runs({1: asked(~ones), 2: asked(ones)}, "group")
    (row, *_) = compute_level_differences(shared)["rows"]
    assert (row["difference"], row["same_orders"]) == (pytest.approx(1), False)


@law
@given(first=small_runs(complete=True), seed=...)
def test_swapping_the_runs_flips_every_sign(first: pd.DataFrame, seed: int):
    rng = np.random.default_rng(abs(seed))
    second = first.assign(rating=rng.integers(1, 6, len(first)).astype(float))
    frames = {1: first, 2: second}
    there = shared_runs(frames, "group")
    back = shared_runs(dict(reversed(frames.items())), "group")
    for compute in (
        lambda shared: compute_level_differences(shared)["rows"],
        lambda shared: compute_delta_differences(shared)["group"]["rows"],
    ):
        for row, flipped in zip(compute(there), compute(back), strict=True):
            assert row["status"] == flipped["status"]
            assert (row["run_id"], row["reference_id"]) == (2, 1)
            assert (flipped["run_id"], flipped["reference_id"]) == (1, 2)
            for name, opposite in (("difference", "difference"), ("ci_low", "ci_high")):
                if row[name] is None:
                    assert flipped[opposite] is None
                else:
                    assert row[name] == pytest.approx(-flipped[opposite], abs=1e-9)
            if row["p_value"] is not None:
                assert flipped["p_value"] == pytest.approx(row["p_value"])


@law
@given(first=small_runs(), seed=...)
def test_names_and_row_order_change_nothing(first: pd.DataFrame, seed: int):
    rng = np.random.default_rng(abs(seed))
    second = first.assign(rating=rng.integers(1, 6, len(first)).astype(float))
    if first["rating"].isna().all():
        return

    def compared(one, other, *ids):
        shared = shared_runs(dict(zip(ids, (one, other), strict=True)), "group")
        return [
            {name: value for name, value in row.items() if not name.endswith("_id")}
            for row in (
                *compute_level_differences(shared)["rows"],
                *compute_delta_differences(shared)["group"]["rows"],
            )
        ]

    def shuffled(frame):
        return frame.iloc[rng.permutation(len(frame))].reset_index(drop=True)

    for row, same in zip(
        compared(first, second, 1, 2),
        compared(shuffled(first), shuffled(second), 9, 4),
        strict=True,
    ):
        assert same == pytest.approx(row, nan_ok=True, abs=1e-9)


def test_the_reference_s_deltas_are_those_of_its_own_trait_set():
    shared = shared_runs({seed: planted(seed, missing_share=0.0) for seed in (1, 2)}, "group")
    alone = compute_deltas(shared.cells[0], "group", baseline="a")["rows"]
    table = compute_delta_differences(shared, baselines={"group": "a"})["group"]
    assert table["baseline"] == "a"
    for row in table["rows"]:
        own = one(alone, category=row["category"])
        assert row["delta_reference"] == pytest.approx(own["delta"])
        assert row["difference"] == pytest.approx(row["delta"] - row["delta_reference"])


def test_what_cannot_be_compared_is_refused():
    frame = planted(1)
    with pytest.raises(InvalidInput, match="2 to 8 runs; 1"):
        shared_runs({1: frame})
    with pytest.raises(InvalidInput, match="2 to 8 runs; 9"):
        shared_runs(dict.fromkeys(range(9), frame))
    for column, match in (("persona_id", "share no persona"), ("trait_id", "share no trait")):
        with pytest.raises(InvalidInput, match=match):
            shared_runs({1: frame, 2: frame.assign(**{column: frame[column] + 1000})})
    halves = [ratings_of(table, {}) for table in ([[1, np.nan]], [[np.nan, 1]])]
    with pytest.raises(InvalidInput, match="No question was rated in all"):
        shared_runs(dict(enumerate(halves)))
    shared = shared_runs({1: frame, 2: frame}, "group")
    with pytest.raises(InvalidInput, match="no attribute 'origin'"):
        compute_delta_differences(shared, attributes=["origin"])
    with pytest.raises(InvalidInput, match="no trait category 'beauty'"):
        compute_level_differences(shared, trait_category="beauty")
    with pytest.raises(InvalidInput, match="no trait category 'beauty'"):
        compute_run_agreement(shared, "beauty")
    with pytest.raises(InvalidInput, match="cannot be a baseline"):
        compute_delta_differences(shared, baselines={"group": "z"})


def test_neutral_traits_alone_give_rows_without_numbers():
    shared = shared_of(FIRST, SECOND, valence=[0, 0])
    (row, *_) = compute_level_differences(shared)["rows"]
    assert (row["status"], row["n_personas"], row["difference"]) == ("no_data", 0, None)
    assert compute_delta_differences(shared)["group"]["rows"] == []
    (alike,) = compute_run_agreement(shared)
    assert (alike["n_cells"], alike["mean_abs_difference"]) == (0, None)


# --- two simulated raters with known differences --------------------------------------------------

N_PAIRS = 40
ACCEPTED = 0.95 - 3 * np.sqrt(0.95 * 0.05 / N_PAIRS)
"""With 40 pairs of runs a true coverage of .95 shows as .847 or more (three standard errors)."""


def second_rater(design):
    model = design.model
    effects = {"group": {"b": -0.1, "c": 0.2}}
    return replace(design, model=replace(model, effects=effects, position_bias=0.0))


def test_intervals_cover_planted_differences():
    design = PlantedDesign(n_personas=60, n_neutral=0)
    other = second_rater(design)
    before, after = design.truth(), other.truth()
    # the same personas in both runs: their groups, and so what they share, come from the seed
    truth = {group: after.delta[group] - before.delta[group] for group in "bc"}
    shares = np.array([design.shares[group] for group in "abc"])
    level = [shares @ [found.group_means[group] for group in "abc"] for found in (before, after)]
    covers, errors = [], []
    for seed in range(N_PAIRS):
        frames = design.simulate(seed), other.simulate(seed)
        assert (
            frames[0]
            .groupby("persona_id")["group"]
            .first()
            .equals(frames[1].groupby("persona_id")["group"].first())
        )
        shared = shared_runs(dict(enumerate(frames)), "group")
        table = compute_delta_differences(shared, baselines={"group": "a"})["group"]
        row = one(compute_level_differences(shared)["rows"], trait_category=None)
        found = {"level": (row, level[1] - level[0])}
        found |= {row["category"]: (row, truth[row["category"]]) for row in table["rows"]}
        covers.append({k: row["ci_low"] <= t <= row["ci_high"] for k, (row, t) in found.items()})
        errors.append({name: row["difference"] - t for name, (row, t) in found.items()})
    assert (pd.DataFrame(covers).mean() >= ACCEPTED).all(), pd.DataFrame(covers).mean()
    bias = pd.DataFrame(errors)
    assert (bias.mean().abs() < 4 * bias.std() / np.sqrt(N_PAIRS)).all(), bias.mean()
