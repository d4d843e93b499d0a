"""Runs beside each other: against scipy by hand, by laws, and against a planted truth."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from scipy import stats

from benchlib.domain.analysis.cells import compute_cells
from benchlib.domain.analysis.comparison import (
    compute_delta_differences,
    compute_level_differences,
    compute_run_agreement,
)
from benchlib.domain.analysis.deltas import compute_deltas
from benchlib.domain.analysis.shared_runs import compute_shared_runs
from benchlib.domain.errors import InvalidInput
from benchlib.domain.simulation.planted import PlantedDesign
from tests.domain.frames import cells_of, law, random_run, ratings_of, small_runs

GROUPS = ["a", "a", "a", "b", "b", "b"]
FIRST = np.array([[3, 3], [4, 4], [3, 2], [3, 4], [4, 5], [2, 2]])
SECOND = np.array([[3, 3], [4, 5], [2, 2], [4, 4], [5, 5], [4, 3]])
GAPS = (SECOND - FIRST).mean(axis=1)  # 0, .5, -.5, .5, .5, 1.5


def shared_of(*tables, groups=GROUPS, **kept):
    return compute_shared_runs(
        {number: cells_of(table, {"group": groups}, **kept) for number, table in enumerate(tables)}
    )


def planted_cells(seed, design=None, **changes):
    design = replace(design or PlantedDesign(n_personas=40), **changes)
    return compute_cells(design.simulate(seed), ["group"])


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
    assert (row["n_personas"], row["n_traits"], row["status"]) == (6, 2, "ok")
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
    cells = [compute_cells(frame, ["group"]) for frame in (first, second, third)]
    shared = compute_shared_runs(dict(zip([5, 3, 9], cells, strict=True)))
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
    cells = [compute_cells(table.assign(group=groups), ["group"]) for table in tables]
    together = compute_shared_runs(dict(zip([1, 2, 3], cells, strict=True)))
    alone = compute_shared_runs({1: cells[0], 3: cells[2]})
    rows = compute_delta_differences(together)["group"]["rows"]
    assert {row["run_id"] for row in rows} == {2, 3}
    for row in compute_delta_differences(alone)["group"]["rows"]:
        same = one(rows, run_id=3, category=row["category"])
        assert same["difference"] == pytest.approx(row["difference"])
        assert same["p_value"] == pytest.approx(row["p_value"])


def test_q_covers_every_run_attribute_category_and_trait_set():
    tables = [random_run(seed, n_personas=60) for seed in (1, 2, 3)]
    groups = {name: tables[0][name] for name in ("group", "origin")}
    shared = compute_shared_runs(
        {
            seed: compute_cells(table.assign(**groups), ["group", "origin"])
            for seed, table in enumerate(tables)
        }
    )
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
    shared = compute_shared_runs({i: compute_cells(f, []) for i, f in enumerate(frames)})
    every = compute_level_differences(shared)
    assert every["family_size"] == 3
    (warm,) = compute_level_differences(shared, trait_category="warmth")["rows"]
    assert warm == one(every["rows"], trait_category="warmth")


def test_a_run_does_not_differ_from_itself():
    cells = planted_cells(1)
    shared = compute_shared_runs({1: cells, 2: cells})
    rows = [
        *compute_level_differences(shared)["rows"],
        *compute_delta_differences(shared)["group"]["rows"],
    ]
    assert {row["difference"] for row in rows} == {0}
    assert {row["status"] for row in rows} == {"zero_variance"}
    assert {row["p_value"] for row in rows} == {row["q_value"] for row in rows} == {None}
    assert {row["significant"] for row in rows} == {row["ci_low"] for row in rows} == {None}
    (alike,) = compute_run_agreement(shared)
    assert alike["mean_abs_difference"] == 0
    assert alike["persona_correlation"] == pytest.approx(1)
    assert alike["trait_correlation"] == pytest.approx(1)


def test_a_constant_shift_is_a_level_without_a_test_and_no_difference_of_deltas():
    shared = shared_of(np.minimum(FIRST, 4), np.minimum(FIRST, 4) + 1)
    level = one(compute_level_differences(shared)["rows"], trait_category=None)
    assert (level["difference"], level["status"]) == (pytest.approx(1), "zero_variance")
    assert level["p_value"] is None
    (row,) = compute_delta_differences(shared)["group"]["rows"]
    assert row["difference"] == pytest.approx(0)
    assert row["status"] == "zero_variance"


@law
@given(first=small_runs(complete=True), seed=...)
def test_swapping_the_runs_flips_every_sign(first: pd.DataFrame, seed: int):
    rng = np.random.default_rng(abs(seed))
    second = first.assign(rating=rng.integers(1, 6, len(first)).astype(float))
    cells = {1: compute_cells(first, ["group"]), 2: compute_cells(second, ["group"])}
    there = compute_shared_runs(cells)
    back = compute_shared_runs(dict(reversed(cells.items())))
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
        cells = [compute_cells(frame, ["group"]) for frame in (one, other)]
        shared = compute_shared_runs(dict(zip(ids, cells, strict=True)))
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
    cells = {1: planted_cells(1), 2: planted_cells(2, missing_share=0.0)}
    cells[1] = planted_cells(1, missing_share=0.0)
    shared = compute_shared_runs(cells)
    alone = compute_deltas(shared.cells[0], "group", baseline="a")["rows"]
    table = compute_delta_differences(shared, baselines={"group": "a"})["group"]
    assert table["baseline"] == "a"
    for row in table["rows"]:
        own = one(alone, category=row["category"])
        assert row["delta_reference"] == pytest.approx(own["delta"])
        assert row["difference"] == pytest.approx(row["delta"] - row["delta_reference"])


def test_what_cannot_be_compared_is_refused():
    cells = planted_cells(1)
    with pytest.raises(InvalidInput, match="2 to 8 runs; 1"):
        compute_shared_runs({1: cells})
    with pytest.raises(InvalidInput, match="2 to 8 runs; 9"):
        compute_shared_runs(dict.fromkeys(range(9), cells))
    frame = PlantedDesign(n_personas=40).simulate(1)
    for column, match in (("persona_id", "share no persona"), ("trait_id", "share no trait")):
        others = compute_cells(frame.assign(**{column: frame[column] + 1000}), ["group"])
        with pytest.raises(InvalidInput, match=match):
            compute_shared_runs({1: cells, 2: others})
    halves = [compute_cells(ratings_of(t, {}), []) for t in ([[1, np.nan]], [[np.nan, 1]])]
    with pytest.raises(InvalidInput, match="No question was rated in all"):
        compute_shared_runs(dict(enumerate(halves)))
    shared = compute_shared_runs({1: cells, 2: cells})
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
        shared = compute_shared_runs(
            {i: compute_cells(frame, ["group"]) for i, frame in enumerate(frames)}
        )
        table = compute_delta_differences(shared, baselines={"group": "a"})["group"]
        row = one(compute_level_differences(shared)["rows"], trait_category=None)
        found = {"level": (row, level[1] - level[0])}
        found |= {row["category"]: (row, truth[row["category"]]) for row in table["rows"]}
        covers.append({k: row["ci_low"] <= t <= row["ci_high"] for k, (row, t) in found.items()})
        errors.append({name: row["difference"] - t for name, (row, t) in found.items()})
    assert (pd.DataFrame(covers).mean() >= ACCEPTED).all(), pd.DataFrame(covers).mean()
    bias = pd.DataFrame(errors)
    assert (bias.mean().abs() < 4 * bias.std() / np.sqrt(N_PAIRS)).all(), bias.mean()
