import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchlib.domain.analysis.cells import (
    align_valence,
    compute_cells,
    reverse_scale,
    select_traits,
    take_traits,
)
from benchlib.domain.analysis.persona_scores import (
    choose_baseline,
    compute_grouping,
    compute_persona_scores,
)
from benchlib.domain.errors import InvalidInput, RatingOutOfScale
from tests.domain.frames import (
    add_alignment,
    cells_of,
    law,
    long_frame,
    random_run,
    ratings_of,
    small_runs,
)
from tests.domain.oracle import load_case


def test_reversed_answers_are_mirrored():
    mirrored = reverse_scale([1, 2, 4.5, np.nan], [True, False, True, True])
    np.testing.assert_array_equal(mirrored, [5, 2, 1.5, np.nan])


def test_only_unfavourable_traits_are_turned():
    np.testing.assert_array_equal(align_valence([2, 2, 2], [1, -1, 0]), [2, 4, 2])


def test_scores_match_the_worked_case():
    case = load_case("persona_scores")
    rows = [
        (int(persona[1:]), int(trait[1:]), order, rating, valence)
        for persona, trait, order, rating, valence in case.input["rows"]
    ]
    frame = long_frame(rows)
    frame["group"] = frame["persona_id"].map(lambda i: case.input["group"][f"p{i}"])
    aligned = [None if np.isnan(rating) else rating for rating in frame["rating"]]
    assert aligned == case.expected["aligned"]

    cells = compute_cells(frame, ["group"])
    scores = compute_persona_scores(cells)
    names = [f"p{i}" for i in cells.persona_ids]
    # The worked scores are those of centring by trait and order, which drops what columns with one
    # rater say; the additive fit is known by its normal equations: what is left of the ratings sums
    # to 0 over each persona and over each trait and order, a pair counting half and half.
    old = centre(frame[frame["valence"] != 0]).groupby("persona_id").mean()
    assert dict(zip(names, old, strict=True)) == case.approx("persona_score_centred")
    rated = frame[(frame["valence"] != 0) & frame["rating"].notna()]
    persona, trait = rated["persona_id"], rated["trait_id"]
    weight = 1 / rated.groupby(["persona_id", "trait_id"])["rating"].transform("size")
    column = [trait, rated["scale_order"]]
    left = rated["rating"] - pd.Series(scores.z)[persona].to_numpy()
    level = (weight * left).groupby(column, observed=True).transform("sum") / weight.groupby(
        column, observed=True
    ).transform("sum")
    assert (weight * (left - level)).groupby(persona).sum().to_numpy() == pytest.approx(np.zeros(6))
    assert scores.z.sum() == pytest.approx(0)
    assert dict(zip(names, scores.n_traits, strict=True)) == case.expected["n_traits"]
    members = compute_grouping(cells, "group")
    means = [old[members.members(name)].mean() for name in ("a", "b")]
    assert means[1] - means[0] == pytest.approx(case.expected["delta"]["b"], abs=1e-6)


def test_a_pair_of_both_orders_counts_once():
    # 4 as shown and 6 - 3 = 3 in reverse: the cell is their mean 3.5
    frame = long_frame([(0, 0, "in", 4, 1), (0, 0, "rev", 3, 1), (1, 0, "in", 2, 1)])
    cells = compute_cells(frame, [])
    assert cells.half_points.tolist() == [[7], [4]]
    assert cells.n_answers.tolist() == [[2], [1]]
    # Order in: 4 and 2 around the level 3, so +1 and -1. Order rev has persona 0 alone, whose 3
    # takes the level 3 - 1 = 2 from its effect: +1 again, and the mean of both is 1
    assert cells.centred == pytest.approx(np.array([[1.0], [-1.0]]))
    assert cells.aligned_mean == pytest.approx((3 + 2) / 2)  # both orders count alike
    assert (cells.n_ratings, cells.n_missing) == (3, 0)


def test_expected_ratings_replace_digits_where_they_exist():
    frame = long_frame([(0, 0, "rev", 2, -1), (1, 0, "rev", 4, -1), (2, 0, "rev", 5, -1)])
    frame["expected_raw"] = [2.4, np.nan, 4.6]
    cells = compute_cells(frame, [])
    # rev and valence -1 cancel, so aligned = raw: 2.4, 4, 4.6 with mean 11 / 3
    assert cells.centred[:, 0] == pytest.approx(np.array([2.4, 4, 4.6]) - 11 / 3)
    assert cells.n_expected == 2
    assert cells.half_points[:, 0].tolist() == [4, 8, 10]
    digits = compute_cells(frame, [], use_expected=False)
    assert digits.centred[:, 0] == pytest.approx(np.array([2, 4, 5]) - 11 / 3)
    assert digits.n_expected == 0


def test_a_distribution_without_a_digit_is_no_answer():
    frame = long_frame([(0, 0, "in", None, 1), (1, 0, "in", 4, 1)])
    frame["expected_raw"] = [3.0, 3.5]
    cells = compute_cells(frame, [])
    assert np.isnan(cells.centred[0, 0])
    assert (cells.n_ratings, cells.n_missing, cells.n_expected) == (1, 1, 1)


def test_ratings_off_the_scale_are_refused():
    with pytest.raises(RatingOutOfScale, match=r"6\.0"):
        compute_cells(long_frame([(0, 0, "in", 6, 1)]), [])
    frame = long_frame([(0, 0, "in", 5, 1)]).assign(expected_raw=5.5)
    with pytest.raises(RatingOutOfScale, match=r"5\.5"):
        compute_cells(frame, [])


def test_missing_columns_are_named():
    with pytest.raises(InvalidInput, match="gender"):
        compute_cells(long_frame([(0, 0, "in", 5, 1)]), ["gender"])


def test_an_unknown_scale_order_is_refused():
    frame = ratings_of([[3.0]], {})
    frame["scale_order"] = "sideways"
    with pytest.raises(InvalidInput, match="scale order"):
        compute_cells(frame, [])


def test_nothing_answered_gives_empty_cells():
    nothing = compute_cells(random_run(1).iloc[:0], ["group"])
    assert (nothing.n_personas, nothing.n_traits, nothing.aligned_mean) == (0, 0, None)
    scores = compute_persona_scores(nothing)
    assert len(scores.z) == 0
    grouping = compute_grouping(nothing, "group")
    assert grouping.categories == ()
    assert choose_baseline(grouping, scores.enters) is None


def test_a_value_that_is_not_given_is_unknown():
    frame = ratings_of([[3], [4], [5]], {"group": ["a", None, "b"]})
    grouping = compute_grouping(compute_cells(frame, ["group"]), "group")
    assert grouping.categories == ("a", "b", "Unknown")
    assert grouping.tested == ("a", "b")
    assert grouping.codes.tolist() == [0, 2, 1]


def test_categories_without_a_persona_are_left_out():
    frame = ratings_of([[3], [4]], {"group": ["a", "b"]})
    frame["group"] = frame["group"].cat.add_categories(["ghost"])
    assert compute_grouping(compute_cells(frame, ["group"]), "group").categories == ("a", "b")


def test_neutral_traits_stay_apart():
    cells = cells_of([[1, 5], [3, 1]], {}, valence=[1, 0])
    assert compute_persona_scores(cells).z.tolist() == [-1, 1]
    assert compute_persona_scores(cells, neutral=True).z.tolist() == [2, -2]
    assert select_traits(cells).trait_ids.tolist() == [0]
    assert select_traits(cells, neutral=True).trait_ids.tolist() == [1]
    assert cells.aligned_mean == 2
    only_neutral = take_traits(cells, np.array([False, True]))
    assert only_neutral.aligned_mean is None
    assert not compute_persona_scores(only_neutral).enters.any()


def test_half_of_the_traits_must_be_rated():
    nan = np.nan
    cells = cells_of(
        [[1, 2, 3, 4, nan], [1, nan, nan, 4, nan], [2, nan, nan, nan, nan], [nan] * 5], {}
    )
    scores = compute_persona_scores(cells)
    # nobody rated the fifth trait, so two of four suffice
    assert scores.enters.tolist() == [True, True, False, False]
    assert scores.n_dropped == 2
    assert np.isnan(scores.z[2:]).all()
    assert scores.n_traits.tolist() == [4, 2, 1, 0]


def test_a_trait_with_one_rater_says_nothing():
    nan = np.nan
    cells = cells_of([[5, 1], [1, nan], [3, nan]], {})
    # First trait: 5, 1, 3 around 3. The second has a level of its own, 1 - 2 = -1, so that its
    # rating repeats the first persona's effect of 2; centring would have averaged in a 0.
    assert compute_persona_scores(cells).z == pytest.approx([2, -2, 0])


def centre(frame):
    """(P, T) cells as they were before the additive fit: by the mean of trait and order."""
    rated = frame[frame["rating"].notna()]
    mean = rated.groupby(["trait_id", "scale_order"], observed=True)["rating"].transform("mean")
    return (rated["rating"] - mean).groupby([rated["persona_id"], rated["trait_id"]]).mean()


@pytest.mark.parametrize("orders", ["in", "rev", "both"])
@law
@given(st.integers(0, 10_000))
def test_complete_balanced_runs_keep_the_numbers_of_centring(orders, seed):
    rng = np.random.default_rng(seed)
    table = rng.integers(1, 6, (12, 5))
    frames = [
        ratings_of(table if order == "in" else rng.integers(1, 6, (12, 5)), {}, orders=turned)
        for order, turned in (("in", np.zeros((12, 5))), ("rev", np.ones((12, 5))))
        if orders in (order, "both")
    ]
    frame = pd.concat(frames, ignore_index=True)
    cells, old = compute_cells(frame, []), centre(frame).unstack()
    assert cells.centred == pytest.approx(old.to_numpy(), abs=1e-9)
    scores = compute_persona_scores(cells)
    assert scores.z == pytest.approx(old.mean(axis=1).to_numpy(), abs=1e-9)
    assert cells.trait_means == pytest.approx(frame.groupby("trait_id")["rating"].mean().to_numpy())


def test_few_personas_in_random_orders_keep_their_whole_delta():
    # The second two rate 1 higher; the reversed order adds 1.5. Centring by trait and order gave
    # 0.71 of the delta: a column that only one group was asked says "no difference".
    rng = np.random.default_rng(2)
    reverse = rng.random((4, 24)) < 0.5
    table = 1.0 + np.array([0, 0, 1, 1])[:, None] + 1.5 * reverse
    z = compute_persona_scores(compute_cells(ratings_of(table, {}, orders=reverse), [])).z
    assert z == pytest.approx([-0.5, -0.5, 0.5, 0.5])


def test_a_category_of_one_trait_uses_the_orders_of_the_run():
    # Personas 0 and 1 were asked trait 0 in one order, 2 and 3 in the other; trait 1 links them
    rows = [(p, 0, "in" if p < 2 else "rev", r, 1) for p, r in enumerate((2, 4, 3, 1))]
    rows += [(p, 1, "in", 3, 1) for p in range(4)]
    cells = compute_cells(long_frame(rows), [])
    alone = take_traits(cells, np.array([True, False]))
    scores = compute_persona_scores(alone)
    # aligned ratings 2 4 | 3 5; trait 1 says 3 of everybody
    assert scores.component.tolist() == scores.stratum.tolist() == [0] * 4
    assert scores.z == pytest.approx([-1, 1, -1, 1])


def test_orders_of_a_run_of_one_trait_are_strata():
    rows = [(p, 0, "in" if p < 2 else "rev", r, 1) for p, r in enumerate((2, 4, 3, 1))]
    scores = compute_persona_scores(compute_cells(long_frame(rows), []))
    # nothing tells how far the orders are apart: as in randomised halves, by the mean of each
    assert scores.component.tolist() == [0] * 4
    assert scores.stratum.tolist() == [0, 0, 1, 1]
    assert scores.z == pytest.approx([-1, 1, -1, 1])


def test_traits_are_selected_by_category_and_raters():
    cells = cells_of(
        [[1, 2, np.nan], [3, 4, 5]], {}, trait_categories=["warmth", "competence", "warmth"]
    )
    assert select_traits(cells, "warmth").trait_ids.tolist() == [0, 2]
    assert select_traits(cells, "warmth", min_raters=2).trait_ids.tolist() == [0]
    assert select_traits(cells, "nothing").n_traits == 0
    assert select_traits(cells) is cells


def test_a_trait_without_a_category_is_unknown():
    frame = ratings_of([[1, 2], [3, 4]], {}, trait_categories=["warmth", None])
    assert list(compute_cells(frame, []).traits["trait_category"]) == ["warmth", "Unknown"]


def test_the_largest_category_is_the_baseline_and_ties_go_by_name():
    cells = cells_of(np.full((5, 1), 3.0), {"g": ["b", "b", "a", "a", "Unknown"]})
    grouping = compute_grouping(cells, "g")
    everyone = np.ones(5, dtype=bool)
    assert choose_baseline(grouping, everyone) == "a"
    assert choose_baseline(grouping, np.array([True, True, True, False, True])) == "b"
    assert choose_baseline(grouping, everyone, "b") == "b"
    with pytest.raises(InvalidInput, match="choose from: a, b"):
        choose_baseline(grouping, everyone, "Unknown")
    with pytest.raises(InvalidInput, match="no attribute 'age'"):
        compute_grouping(cells, "age")


def test_unknown_is_never_the_baseline():
    cells = cells_of([[3.0]], {"g": ["Unknown"]})
    assert choose_baseline(compute_grouping(cells, "g"), np.array([True])) is None


@law
@given(small_runs())
def test_row_order_changes_nothing(frame):
    cells = compute_cells(frame, ["group"])
    shuffled = compute_cells(frame.iloc[::-1], ["group"])
    np.testing.assert_allclose(cells.centred, shuffled.centred, atol=1e-12)
    np.testing.assert_array_equal(cells.half_points, shuffled.half_points)
    pd.testing.assert_frame_equal(cells.attributes, shuffled.attributes)
    pd.testing.assert_frame_equal(cells.traits, shuffled.traits)


@law
@given(small_runs(), st.integers(1, 1000))
def test_persona_ids_are_only_names(frame, step):
    cells = compute_cells(frame, ["group"])
    renamed = frame.assign(persona_id=7 - step * frame["persona_id"])
    other = compute_cells(renamed, ["group"])
    np.testing.assert_allclose(cells.centred, other.centred[::-1], atol=1e-12)


@law
@given(st.lists(st.lists(st.integers(2, 4), min_size=3, max_size=3), min_size=2, max_size=8))
def test_a_constant_order_bias_drops_out(table):
    # every answer one point higher on the reversed scale, whoever is asked
    orders = np.random.default_rng(0).random((len(table), 3)) < 0.5
    frame = ratings_of(table, {}, orders=orders)
    pushed = frame.assign(rating_raw=frame["rating_raw"] + orders.ravel())
    plain, biased = (
        compute_persona_scores(compute_cells(add_alignment(each), [])).z for each in (frame, pushed)
    )
    np.testing.assert_allclose(plain, biased, atol=1e-12)


@law
@given(small_runs(complete=True))
def test_scores_sum_to_zero_in_complete_data(frame):
    assert compute_persona_scores(compute_cells(frame, [])).z.sum() == pytest.approx(0, abs=1e-9)


@law
@given(small_runs())
def test_the_argument_is_left_alone(frame):
    before = frame.copy(deep=True)
    compute_cells(frame, ["group"])
    pd.testing.assert_frame_equal(frame, before)
