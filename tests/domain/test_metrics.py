import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies

from benchlib.domain.errors import RatingOutOfScale
from benchlib.domain.metrics import (
    compute_rating_histogram,
    compute_trait_category_histograms,
    compute_trait_category_summary,
    filter_by_trait_category,
)

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


def test_histogram_counts_every_point():
    histogram = compute_rating_histogram(pd.DataFrame({"rating": [1, 2, 3, 3, 4, 5]}))
    assert histogram == {
        "bins": ["1", "2", "3", "4", "5"],
        "counts": [1, 1, 2, 1, 1],
        "shares": [1 / 6, 1 / 6, 2 / 6, 1 / 6, 1 / 6],
    }


def test_histogram_prefers_the_rating_before_valence_alignment():
    frame = pd.DataFrame({"rating": [5, 5], "rating_pre_valence": [1, 5]})
    assert compute_rating_histogram(frame)["counts"] == [1, 0, 0, 0, 1]


@pytest.mark.parametrize("ratings", [[], [None, None]])
def test_histogram_without_answers_has_bins_but_no_shares(ratings):
    histogram = compute_rating_histogram(pd.DataFrame({"rating": pd.Series(ratings, dtype=float)}))
    assert histogram["bins"] == ["1", "2", "3", "4", "5"]
    assert histogram["counts"] == [0, 0, 0, 0, 0]
    assert histogram["shares"] == [None] * 5


def test_histogram_leaves_unparsed_answers_out():
    frame = pd.DataFrame({"rating": [1.0, np.nan, 5.0, np.nan]})
    assert compute_rating_histogram(frame)["shares"] == [0.5, 0, 0, 0, 0.5]


def test_histogram_reads_nullable_integers():
    frame = pd.DataFrame({"rating": pd.array([1, None, 5], dtype="Int8")})
    assert compute_rating_histogram(frame)["counts"] == [1, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("ratings", "strays"), [([0, 3], [0]), ([7, 6, 6], [6, 7]), ([2.5], [2.5])]
)
def test_histogram_refuses_ratings_off_the_scale(ratings, strays):
    with pytest.raises(RatingOutOfScale) as caught:
        compute_rating_histogram(pd.DataFrame({"rating": ratings}))
    assert caught.value.strays == strays


@given(ANSWERS)
def test_histogram_ignores_row_order(answers):
    frame = pd.DataFrame({"rating": answers})
    assert compute_rating_histogram(frame) == compute_rating_histogram(frame[::-1])


@given(ANSWERS)
def test_histogram_shares_sum_to_one(answers):
    shares = compute_rating_histogram(pd.DataFrame({"rating": answers}))["shares"]
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
    histograms = compute_trait_category_histograms(small_frame())
    assert [row["category"] for row in histograms] == ["competence", "look", "warmth", "Unknown"]
    assert histograms[0]["counts"] == [1, 0, 0, 0, 1]
    assert histograms[2]["shares"] == [0, 0.5, 0, 0.5, 0]


def test_category_histograms_of_nothing_are_none():
    assert compute_trait_category_histograms(small_frame().iloc[:0]) == []


@given(
    strategies.lists(strategies.tuples(strategies.integers(1, 5), strategies.sampled_from("ab")))
)
def test_category_histograms_add_up_to_the_whole(rows):
    frame = pd.DataFrame(
        {
            "rating": np.array([rating for rating, _ in rows], dtype=np.int8),
            "trait_category": pd.Categorical([name for _, name in rows], categories=["a", "b"]),
        }
    )
    parts = [row["counts"] for row in compute_trait_category_histograms(frame)]
    total = np.sum(parts, axis=0) if parts else np.zeros(5)
    assert total.tolist() == compute_rating_histogram(frame)["counts"]


def test_category_summary_by_hand():
    rows = {row["category"]: row for row in compute_trait_category_summary(small_frame())}
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
    rows = {row["category"]: row for row in compute_trait_category_summary(small_frame())}
    assert rows["look"]["count"] == 1
    assert rows["look"]["mean"] is None
    assert rows["look"]["n_aligned"] == 0
    assert rows["look"]["mean_pre_valence"] == 3.0


@given(ANSWERS)
def test_category_summary_equals_pandas(answers):
    frame = pd.DataFrame({"rating": answers})
    (row,) = compute_trait_category_summary(frame)
    assert row["mean"] == pytest.approx(frame["rating"].mean())
    if len(answers) > 1:
        assert row["std"] == pytest.approx(frame["rating"].std(), abs=1e-12)
