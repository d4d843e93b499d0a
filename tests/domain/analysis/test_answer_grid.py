"""The grid of a run's answers gives the numbers that its long frame gives."""

from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies
from numpy.testing import assert_array_equal

from benchlib.domain.analysis.answer_grid import GIVEN_UP, AnswerGrid
from benchlib.domain.analysis.cells import Cells, compute_cells, take_personas
from benchlib.domain.analysis.distributions import (
    compute_distribution_summary,
    compute_distribution_sums,
    describe_distributions,
)
from benchlib.domain.analysis.metrics import (
    compute_order_effect_metrics,
    compute_rating_histogram,
    compute_trait_category_histograms,
    compute_trait_category_summary,
    filter_by_trait_category,
)
from benchlib.domain.analysis.styles import compute_missing_rates, compute_response_styles
from tests.domain.frames import add_alignment, law, random_run, small_runs


def both_orders(frame, seed):
    """Ask some of the questions in the other order, too, and give some answers a distribution."""
    rng = np.random.default_rng(seed)
    again = frame[rng.random(len(frame)) < 0.4]
    order = again["scale_order"].cat.rename_categories({"in": "rev", "rev": "in"})
    again = again.assign(
        scale_order=pd.Categorical(order, ["in", "rev"]),
        rating_raw=rng.integers(1, 6, len(again)).astype(float),
    )
    whole = pd.concat([frame, again], ignore_index=True)
    told = rng.random(len(whole)) < 0.5
    expected = np.where(told, rng.uniform(1, 5, len(whole)), np.nan)
    whole["expected_raw"] = np.where(whole["rating_raw"].isna(), np.nan, expected)
    whole["trait_category"] = whole["trait_category"].astype("category")
    return add_alignment(whole)


def grid_of(frame):
    """The grid of a frame; a row without a rating is a question that was given up."""
    persona, persona_ids = pd.factorize(frame["persona_id"], sort=True)
    trait, trait_ids = pd.factorize(frame["trait_id"], sort=True)
    where = (frame["scale_order"] == "rev").to_numpy(dtype=int), persona, trait
    digits = np.zeros((2, len(persona_ids), len(trait_ids)), dtype=np.int8)
    digits[where] = frame["rating_raw"].fillna(GIVEN_UP).to_numpy(dtype=np.int8)
    expected = np.full(digits.shape, np.nan)
    expected[where] = frame["expected_raw"]
    table = frame.drop_duplicates("trait_id").sort_values("trait_id").reset_index(drop=True)
    columns = ["case_id", "label", "trait_category", "valence"]
    return AnswerGrid(
        np.asarray(persona_ids), np.asarray(trait_ids), table[columns], digits, expected
    )


@pytest.fixture(params=[1, 2, 3])
def frame(request):
    run = random_run(request.param, missing=0.1)
    run.loc[run["trait_id"] == 4, "valence"] = 0
    return both_orders(run, request.param)


def assert_same_cells(first, second):
    for part in fields(Cells):
        one, other = getattr(first, part.name), getattr(second, part.name)
        if isinstance(one, np.ndarray):
            assert one.dtype == other.dtype
            assert_array_equal(one, other)


@pytest.mark.parametrize("use_expected", [True, False])
def test_cells_are_the_same_to_the_last_bit(frame, use_expected):
    of_frame = compute_cells(frame, [], use_expected=use_expected)
    of_grid = compute_cells(grid_of(frame), [], use_expected=use_expected)
    assert_same_cells(of_grid, of_frame)
    assert of_grid.traits["valence"].tolist() == of_frame.traits["valence"].tolist()
    assert (of_grid.n_expected > 0) == use_expected


@law
@given(small_runs(), strategies.integers(0, 99))
def test_cells_of_any_run_are_the_same(run, seed):
    frame = both_orders(run, seed)
    assert_same_cells(compute_cells(grid_of(frame), []), compute_cells(frame, []))


def test_counts_are_the_same(frame):
    grid = grid_of(frame)
    rated = frame[frame["rating_raw"].notna()]
    assert grid.n_answers == len(rated)
    assert grid.n_rated_personas == rated["persona_id"].nunique()
    told = frame[frame["expected_raw"].notna()]
    assert grid.n_expected_personas == told["persona_id"].nunique()
    for compute in (
        compute_rating_histogram,
        compute_trait_category_histograms,
        compute_trait_category_summary,
        compute_order_effect_metrics,
    ):
        assert compute(grid) == compute(frame)


def test_a_trait_category_is_a_part_of_the_grid(frame):
    part = grid_of(frame).take_category("warmth")
    assert part.trait_ids.tolist() == [0, 1, 2]
    rows = filter_by_trait_category(frame, "warmth")
    assert compute_order_effect_metrics(part) == compute_order_effect_metrics(rows)
    assert part.take_category(None) is part
    assert part.take_category("competence").n_answers == 0


def test_styles_are_the_same(frame):
    cells, grid = compute_cells(frame, ["group", "origin"]), grid_of(frame)
    assert compute_response_styles(grid, cells) == compute_response_styles(frame, cells)
    assert compute_missing_rates(grid, cells) == compute_missing_rates(frame, cells)


def test_personas_that_were_not_asked_have_no_missing_rate(frame):
    silent = frame["persona_id"] < 5
    cells, grid = compute_cells(frame, ["group", "origin"]), grid_of(frame)
    grid.digits[:, :5] = 0
    rows = frame[~silent]
    expected = compute_missing_rates(rows, compute_cells(rows, ["group", "origin"]))
    assert compute_missing_rates(grid, cells) == expected
    assert take_personas(cells, np.ones(40, dtype=bool)) is cells


def test_a_grid_without_answers_counts_nothing(frame):
    grid = grid_of(frame)
    empty = AnswerGrid(
        grid.persona_ids, grid.trait_ids, grid.traits, np.zeros_like(grid.digits), None
    )
    assert compute_rating_histogram(empty)["shares"] == [None] * 5
    assert compute_trait_category_histograms(empty) == []
    assert compute_order_effect_metrics(empty)["status"] == "no_data"
    assert (empty.n_rated_personas, empty.n_expected_personas) == (0, 0)
    assert np.isnan(compute_cells(empty, []).centred).all()


@pytest.mark.parametrize("cuts", [[1], [10, 11, 250]])
def test_sums_of_blocks_add_up_to_the_whole(cuts):
    rng = np.random.default_rng(5)
    shares = rng.dirichlet(np.ones(5), 300)
    shares[7] = 0.0  # no distribution
    mass = np.where(rng.random(300) < 0.1, np.nan, rng.uniform(0.8, 1, 300))
    group = rng.integers(0, 3, 300)
    described = describe_distributions(shares, mass)
    whole = compute_distribution_sums(described, group, 4)
    blocks = [
        compute_distribution_sums(describe_distributions(shares[rows], mass[rows]), group[rows], 4)
        for rows in np.split(np.arange(300), cuts)
    ]
    added = blocks[0]
    for block in blocks[1:]:
        added += block
    for part in fields(whole):
        assert getattr(added, part.name) == pytest.approx(getattr(whole, part.name), rel=1e-12)
    assert added.n[3] == 0
    summary = compute_distribution_summary(added)
    of_rows = compute_distribution_summary(described)
    assert summary.keys() == of_rows.keys()
    for name, value in summary.items():
        assert value == pytest.approx(of_rows[name], rel=1e-12)
    # the variance of the expected ratings, by numpy
    expected = described.expected[~np.isnan(described.expected)]
    assert summary["variance_of_expected"] == pytest.approx(expected.var(), rel=1e-12)
    one = compute_distribution_summary(added.take([1]))
    assert one["expected"] == pytest.approx(np.nanmean(described.expected[group == 1]))
