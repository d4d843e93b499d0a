import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies

from benchlib.domain.analysis.answer_grid import AnswerGrid
from benchlib.domain.analysis.cells import compute_cells
from benchlib.domain.analysis.deltas import compute_deltas
from benchlib.domain.analysis.metrics import (
    compute_all_means,
    compute_means_by_attribute,
    compute_rating_histogram,
    compute_trait_category_histograms,
    compute_trait_category_summary,
    filter_by_trait_category,
    summarise_rating_by,
)
from benchlib.domain.errors import InvalidInput
from tests.domain.frames import grid_of_answers, law, ratings_of, small_runs
from tests.domain.frames import long_frame as answer_frame

ANSWERS = strategies.lists(strategies.integers(1, 5), min_size=1)


def small_frame():
    return pd.DataFrame(
        {
            "trait_category": pd.Categorical(
                ["warmth", "warmth", "competence", None, "competence", "look"],
                categories=["competence", "look", "unused", "warmth"],
            ),
            "valence": np.array([1, -1, 1, 1, -1, 0], dtype=np.int8),
            "rating_pre_valence": np.array([4, 2, 5, 1, 1, 3], dtype=np.int8),
            "rating": np.array([4, 4, 5, 1, 5, 3], dtype=np.int8),
        }
    )


def small_grid():
    return grid_of_answers(
        [4, 2, 5, 1, 1, 3],
        ["warmth", "warmth", "competence", None, "competence", "look"],
        [1, -1, 1, 1, -1, 0],
    )


def test_histogram_counts_every_point():
    assert compute_rating_histogram(grid_of_answers([1, 2, 3, 3, 4, 5])) == {
        "bins": ["1", "2", "3", "4", "5"],
        "counts": [1, 1, 2, 1, 1],
        "shares": [1 / 6, 1 / 6, 2 / 6, 1 / 6, 1 / 6],
    }


def test_histogram_counts_ratings_before_valence_alignment():
    grid = grid_of_answers([1, 5], valence=[-1, 1])
    assert compute_rating_histogram(grid)["counts"] == [1, 0, 0, 0, 1]


def test_histogram_undoes_the_scale_order():
    grid = AnswerGrid.from_frame(answer_frame([(0, 0, "in", 5, 1), (0, 0, "rev", 2, 1)]))
    assert compute_rating_histogram(grid)["counts"] == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("ratings", [[], [None, None]])
def test_histogram_without_answers_has_bins_but_no_shares(ratings):
    histogram = compute_rating_histogram(grid_of_answers(ratings))
    assert histogram["bins"] == ["1", "2", "3", "4", "5"]
    assert histogram["counts"] == [0, 0, 0, 0, 0]
    assert histogram["shares"] == [None] * 5


def test_histogram_leaves_questions_without_a_rating_out():
    grid = grid_of_answers([1.0, None, 5.0, None])
    assert compute_rating_histogram(grid)["shares"] == [0.5, 0, 0, 0, 0.5]


@law
@given(ANSWERS)
def test_histogram_shares_sum_to_one(answers):
    shares = compute_rating_histogram(grid_of_answers(answers))["shares"]
    assert sum(shares) == pytest.approx(1)


def test_filter_keeps_one_category():
    assert filter_by_trait_category(small_frame(), "warmth").index.tolist() == [0, 1]


@pytest.mark.parametrize("everything", [None, "", "all"])
def test_filter_off_keeps_all_rows(everything):
    assert len(filter_by_trait_category(small_frame(), everything)) == 6


def test_filter_finds_traits_without_a_category():
    assert filter_by_trait_category(small_frame(), "Unknown").index.tolist() == [3]
    bare = pd.DataFrame({"rating": [1, 2]})
    assert len(filter_by_trait_category(bare, "Unknown")) == 2
    assert filter_by_trait_category(bare, "warmth").empty


def test_filter_for_an_absent_category_keeps_the_columns():
    kept = filter_by_trait_category(small_frame(), "no such")
    assert kept.empty
    assert list(kept.columns) == list(small_frame().columns)


def test_category_histograms_sort_by_name_with_the_unknown_last():
    histograms = compute_trait_category_histograms(small_grid())
    assert [row["category"] for row in histograms] == ["competence", "look", "warmth", "Unknown"]
    assert histograms[0]["counts"] == [1, 0, 0, 0, 1]
    assert histograms[2]["shares"] == [0, 0.5, 0, 0.5, 0]


def test_category_histograms_of_nothing_are_none():
    assert compute_trait_category_histograms(grid_of_answers([None])) == []


@law
@given(
    strategies.lists(strategies.tuples(strategies.integers(1, 5), strategies.sampled_from("ab")))
)
def test_category_histograms_add_up_to_the_whole(rows):
    grid = grid_of_answers([rating for rating, _ in rows], [name for _, name in rows])
    parts = [row["counts"] for row in compute_trait_category_histograms(grid)]
    total = np.sum(parts, axis=0) if parts else np.zeros(5)
    assert total.tolist() == compute_rating_histogram(grid)["counts"]


def test_category_summary_by_hand():
    rows = {row["category"]: row for row in compute_trait_category_summary(small_grid())}
    # warmth as asked 4 and 2: mean 3, sd sqrt(2); aligned 4 and 6-2=4: mean 4, sd 0
    assert rows["warmth"] == {
        "category": "warmth",
        "count": 2,
        "mean": 4.0,
        "std": 0.0,
        "n_aligned": 2,
        "mean_pre_valence": 3.0,
        "std_pre_valence": pytest.approx(2**0.5),
    }
    assert rows["Unknown"]["std"] is None


def test_category_summary_never_aligns_neutral_traits():
    rows = {row["category"]: row for row in compute_trait_category_summary(small_grid())}
    assert rows["look"]["count"] == 1
    assert rows["look"]["mean"] is None
    assert rows["look"]["n_aligned"] == 0
    assert rows["look"]["mean_pre_valence"] == 3.0


@law
@given(ANSWERS)
def test_category_summary_equals_pandas(answers):
    (row,) = compute_trait_category_summary(grid_of_answers(answers))
    ratings = pd.Series(answers)
    assert row["mean"] == pytest.approx(ratings.mean())
    if len(answers) > 1:
        assert row["std"] == pytest.approx(ratings.std(), abs=1e-12)


def rated_cells(rows):
    """Cells of rows of (persona, gender, trait, valence, scale order, raw rating)."""
    frame = pd.DataFrame(
        rows, columns=["persona_id", "gender", "trait_id", "valence", "scale_order", "rating_raw"]
    )
    frame = frame.assign(
        case_id=frame["trait_id"].astype(str),
        label=frame["trait_id"].astype(str),
        trait_category="c",
        gender=frame["gender"].astype("category"),
    )
    return compute_cells(frame, ["gender"])


TWO_BY_TWO = (
    # aligned: women 5 and 4, men 2 and 3 on trait 1; women 4 and 3, men 3 and 2 on trait 2
    (1, "female", 1, 1, "in", 5),
    (1, "female", 2, -1, "in", 2),
    (2, "female", 1, 1, "rev", 2),
    (2, "female", 2, -1, "in", 3),
    (3, "male", 1, 1, "in", 2),
    (3, "male", 2, -1, "in", 3),
    (4, "male", 1, 1, "rev", 3),
    (4, "male", 2, -1, "in", 4),
)


def test_means_by_hand():
    rows = compute_means_by_attribute(rated_cells(TWO_BY_TWO), "gender")
    # Levels: trait 1 a in order "in", b in "rev", trait 2 c. Persona means 4.5, 3.5, 2.5, 2.5 give
    # z = 4.5 - (a + c)/2, 3.5 - (b + c)/2, 2.5 - (a + c)/2, 2.5 - (b + c)/2. Column a: 5 - z1 + 2 -
    # z3 = 2a, so a = c; column b: 4 - z2 + 3 - z4 = 2b, so b = c + 1; sum z = 0: a = c = 3, b = 4.
    # z = 1.5, 0, -.5, -1. Trait 1 has the level (3 + 4)/2, the grand mean is (3.5 + 3)/2 = 3.25;
    # women 3.25 + .75 = 4, men 3.25 - .75 = 2.5
    female, male = rows
    assert female["category"] == "female"
    assert female["count"] == 4
    assert female["n_personas"] == 2
    assert female["mean"] == pytest.approx(4.0)
    assert female["mean_ratings"] == pytest.approx(4.0)
    # se = |1.5 - 0| / 2 = .75, t(1) = 12.7062
    assert female["se"] == pytest.approx(0.75)
    assert female["ci_high"] == pytest.approx(4 + 12.706204736 * 0.75)
    assert female["status"] == "low_n"
    assert male["mean"] == pytest.approx(2.5)
    assert male["ci_low"] == pytest.approx(2.5 - 12.706204736 * 0.25)
    assert male["status"] == "low_n"


def test_means_do_not_compare_personas_by_the_traits_they_happened_to_see():
    # Everyone rates trait 1 with 5 and trait 2 with 1; men saw trait 2 more often.
    seen = {1: (1, 2), 2: (1,), 3: (1, 2), 4: (2,)}
    gender = {1: "female", 2: "female", 3: "male", 4: "male"}
    cells = rated_cells(
        [
            (persona, gender[persona], trait, 1, "in", 5 if trait == 1 else 1)
            for persona, traits in seen.items()
            for trait in traits
        ]
    )
    female, male = compute_means_by_attribute(cells, "gender")
    assert female["mean"] == male["mean"] == pytest.approx(3.0)
    assert female["mean_ratings"] == pytest.approx(11 / 3)
    assert male["mean_ratings"] == pytest.approx(7 / 3)


def test_means_leave_neutral_traits_out():
    neutral = [(p, "female" if p < 3 else "male", 3, 0, "in", 5) for p in range(1, 5)]
    with_neutral = compute_means_by_attribute(rated_cells([*TWO_BY_TWO, *neutral]), "gender")
    assert with_neutral == compute_means_by_attribute(rated_cells(TWO_BY_TWO), "gender")


def test_means_of_one_trait_category():
    frame = ratings_of(
        [[5, 1], [1, 5]], {"g": ["a", "b"]}, trait_categories=["warmth", "competence"]
    )
    cells = compute_cells(frame, ["g"])
    warmth = compute_means_by_attribute(cells, "g", trait_category="warmth")
    assert [row["mean"] for row in warmth] == [5, 1]
    assert compute_all_means(cells, "warmth") == {"g": warmth}
    with pytest.raises(InvalidInput, match="choose from: competence, warmth"):
        compute_means_by_attribute(cells, "g", trait_category="look")


def test_means_of_neutral_traits_only_are_undefined():
    (row,) = compute_means_by_attribute(rated_cells([(1, "x", 3, 0, "in", 5)]), "gender")
    assert (row["mean"], row["n_personas"], row["status"]) == (None, 0, "no_data")


def test_means_without_answers():
    assert compute_means_by_attribute(rated_cells([]), "gender") == []


def test_means_keep_the_largest_categories_and_show_the_unknown_last():
    rows = [(p, g, 1, 1, "in", 3) for p, g in enumerate(["b", None, None, None, "a", "c", "c"])]
    means = compute_means_by_attribute(rated_cells(rows), "gender")
    assert [row["category"] for row in means] == ["c", "a", "b", "Unknown"]
    top = compute_means_by_attribute(rated_cells(rows), "gender", top_n=2)
    assert top == means[:2]


def test_means_of_an_unknown_attribute_are_refused():
    with pytest.raises(InvalidInput, match="shoe_size"):
        compute_means_by_attribute(rated_cells(TWO_BY_TWO), "shoe_size")


def test_summary_names_the_largest_category_as_baseline():
    summary = summarise_rating_by(rated_cells(TWO_BY_TWO), "gender")
    assert summary["baseline"] == "female"  # 2 : 2, the name decides
    assert summary["categories"] == compute_means_by_attribute(rated_cells(TWO_BY_TWO), "gender")
    assert summarise_rating_by(rated_cells(TWO_BY_TWO), "gender", "male")["baseline"] == "male"
    assert summarise_rating_by(rated_cells([]), "gender")["baseline"] is None
    with pytest.raises(InvalidInput):
        summarise_rating_by(rated_cells(TWO_BY_TWO), "gender", "robot")


@law
@given(small_runs())
def test_means_are_those_the_deltas_compare(frame):
    cells = compute_cells(frame, ["group"])
    means = {row["category"]: row for row in compute_means_by_attribute(cells, "group")}
    for row in compute_deltas(cells, "group")["rows"]:
        mean = means[row["category"]]
        assert mean["mean"] == (None if row["mean"] is None else pytest.approx(row["mean"]))
        assert mean["n_personas"] == row["n_personas"]
        assert mean["count"] == row["count"]
