"""The grid of a run's answers: how it is laid out from rows, and what is counted on it."""

from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse.csgraph import connected_components

from benchlib.domain.analysis.answer_grid import GIVEN_UP, AnswerGrid
from benchlib.domain.analysis.cells import compute_cells, take_personas
from benchlib.domain.analysis.distributions import (
    compute_distribution_summary,
    compute_distribution_sums,
    describe_distributions,
)
from benchlib.domain.analysis.metrics import (
    compute_rating_histogram,
    compute_trait_category_histograms,
    compute_trait_category_summary,
    filter_by_trait_category,
)
from benchlib.domain.analysis.order_effects import compute_order_effect_metrics
from benchlib.domain.analysis.styles import compute_missing_rates
from benchlib.domain.errors import InvalidInput, RatingOutOfScale
from tests.domain.frames import (
    add_alignment,
    grid_of_answers,
    law,
    long_frame,
    random_run,
    small_runs,
)


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


@pytest.fixture(params=[1, 2, 3])
def frame(request):
    run = random_run(request.param, missing=0.1)
    run.loc[run["trait_id"] == 4, "valence"] = 0
    return both_orders(run, request.param)


def fit_columns(frame, values):
    """Level of trait and order in each row: least squares with a dummy per persona and column.

    Of all solutions, the one in which the personas that hang together have the mean effect 0.
    """
    sides = frame["valence"] != 0
    level = pd.Series(np.nan, index=frame.index)
    for _, part in frame.groupby(sides):
        persona = pd.get_dummies(part["persona_id"]).to_numpy(dtype=float)
        names = part["trait_id"].astype(str) + part["scale_order"].astype(str)
        column = pd.get_dummies(names).to_numpy(dtype=float)
        n_answers = part.groupby(["persona_id", "trait_id"])["trait_id"].transform("size")
        root = np.sqrt(1 / n_answers.to_numpy())[:, None]
        design = np.hstack([persona, column])
        y = values[part.index].to_numpy()
        links = design.T @ design > 0
        _, component = connected_components(links)
        pins = np.stack([component == i for i in range(component.max() + 1)]).astype(float)
        pins[:, persona.shape[1] :] = 0.0
        rows = np.vstack([design * root, pins])
        found = np.linalg.lstsq(rows, np.append(y * root[:, 0], np.zeros(len(pins))), rcond=None)[0]
        level[part.index] = column @ found[persona.shape[1] :]
    return level


def plain_cells(frame, *, use_expected):
    """The reduction of `compute_cells` row by row: fit, subtract, average the orders."""
    rated = frame[frame["rating"].notna()].reset_index(drop=True)
    values = rated["rating"]
    if use_expected:
        expected = add_alignment(rated.assign(rating_raw=rated["expected_raw"]))["rating"]
        values = expected.fillna(values)
    level = fit_columns(rated, values)
    centred = values - level
    pairs = [rated["persona_id"], rated["trait_id"]]
    table = pd.DataFrame({"centred": centred, "digit": rated["rating"], "value": values})
    by_order = level.groupby([rated["trait_id"], rated["scale_order"]], observed=True).first()
    return table.groupby(pairs).agg(
        centred=("centred", "mean"),
        half_points=("digit", lambda digits: 2 * digits.mean()),
        n=("value", "size"),
    ), by_order.groupby("trait_id").mean()


@law
@given(small_runs(), strategies.integers(0, 99), strategies.booleans())
def test_cells_equal_a_plain_reduction_of_the_rows(run, seed, use_expected):
    frame = both_orders(run, seed)
    cells = compute_cells(frame, ["group"], use_expected=use_expected)
    of_grid = compute_cells(AnswerGrid.from_frame(frame), [], use_expected=use_expected)
    assert_array_equal(cells.centred, of_grid.centred)
    plain, levels = plain_cells(frame, use_expected=use_expected)
    table = pd.MultiIndex.from_product([cells.persona_ids, cells.trait_ids])
    plain = plain.reindex(table)
    for found, column in (
        (cells.centred, plain["centred"]),
        (cells.half_points, plain["half_points"].fillna(0)),
        (cells.n_answers, plain["n"].fillna(0)),
    ):
        assert_allclose(found.ravel(), column.to_numpy(), atol=1e-9)
    assert_allclose(cells.trait_means, levels.reindex(cells.trait_ids).to_numpy(), atol=1e-9)


def test_counts_are_those_of_the_rows(frame):
    grid = AnswerGrid.from_frame(frame)
    rated = frame[frame["rating_raw"].notna()]
    assert grid.n_answers == len(rated)
    assert grid.n_rated_personas == rated["persona_id"].nunique()
    told = frame[frame["expected_raw"].notna()]
    assert grid.n_expected_personas == told["persona_id"].nunique()
    counts = rated["rating_pre_valence"].value_counts().reindex(range(1, 6), fill_value=0)
    assert compute_rating_histogram(grid)["counts"] == counts.tolist()
    for row in compute_trait_category_summary(grid):
        rows = filter_by_trait_category(rated, row["category"])
        assert row["count"] == len(rows)
        assert row["mean_pre_valence"] == pytest.approx(rows["rating_pre_valence"].mean())
        aligned = rows.loc[rows["valence"] != 0, "rating"]
        assert (row["n_aligned"], row["std"]) == (len(aligned), pytest.approx(aligned.std()))
    order = compute_order_effect_metrics(grid)
    raw = rated.pivot(index=["persona_id", "trait_id"], columns="scale_order", values="rating_raw")
    gap = (raw["in"] - (6 - raw["rev"])).dropna()
    assert (order["n_pairs"], order["n_ratings"]) == (len(gap), 2 * len(gap))
    assert order["obe"]["mean_diff"] == pytest.approx(gap.mean())
    assert order["rma"]["exact_rate"] == pytest.approx((gap == 0).mean())


def test_a_trait_category_is_a_part_of_the_grid(frame):
    part = AnswerGrid.from_frame(frame).take_category("warmth")
    assert part.trait_ids.tolist() == [0, 1, 2]
    rows = filter_by_trait_category(frame, "warmth")
    expected = AnswerGrid.from_frame(rows)
    assert compute_order_effect_metrics(part) == compute_order_effect_metrics(expected)
    assert part.take_category(None) is part
    assert part.take_category("competence").n_answers == 0


def test_personas_that_were_not_asked_have_no_missing_rate(frame):
    silent = frame["persona_id"] < 5
    cells, grid = compute_cells(frame, ["group", "origin"]), AnswerGrid.from_frame(frame)
    grid.digits[:, :5] = 0
    rows = frame[~silent]
    asked = AnswerGrid.from_frame(rows)
    expected = compute_missing_rates(asked, compute_cells(rows, ["group", "origin"]))
    assert compute_missing_rates(grid, cells) == expected
    assert take_personas(cells, np.ones(40, dtype=bool)) is cells


def test_a_fraction_is_an_expected_rating_of_the_nearest_digit():
    frame = long_frame([(0, 0, "in", 3.7, 1), (1, 0, "rev", 2, 1), (2, 0, "in", 4.2, 1)])
    frame["expected_raw"] = [np.nan, np.nan, 4.4]
    grid = AnswerGrid.from_frame(frame)
    assert grid.digits[:, :, 0].tolist() == [[4, 0, 4], [0, 2, 0]]
    assert_array_equal(grid.expected[:, :, 0], [[3.7, np.nan, 4.4], [np.nan] * 3])


def test_whole_numbers_need_no_expected_ratings():
    frame = long_frame([(7, 3, "in", None, 1), (5, 3, "rev", 2, 1)])
    grid = AnswerGrid.from_frame(frame.astype({"rating_raw": "Int8"}))
    assert grid.expected is None
    assert grid.persona_ids.tolist() == [5, 7]
    assert grid.digits[:, :, 0].tolist() == [[0, GIVEN_UP], [2, 0]]


@pytest.mark.parametrize(
    ("ratings", "strays"), [([0, 3], [0]), ([7, 6, 6], [6, 7]), ([5.5], [5.5])]
)
def test_ratings_off_the_scale_are_refused(ratings, strays):
    with pytest.raises(RatingOutOfScale) as caught:
        grid_of_answers(ratings)
    assert caught.value.strays == strays


def test_impossible_rows_are_refused():
    frame = long_frame([(0, 0, "in", 1, 1), (0, 0, "in", 2, 1)])
    with pytest.raises(InvalidInput, match="occurs twice"):
        AnswerGrid.from_frame(frame)
    with pytest.raises(InvalidInput, match="neither 'in' nor 'rev'"):
        AnswerGrid.from_frame(frame.assign(scale_order="up"))
    with pytest.raises(InvalidInput, match="have no label, valence"):
        AnswerGrid.from_frame(frame.drop(columns=["valence", "label"]))


def test_a_grid_without_answers_counts_nothing(frame):
    grid = AnswerGrid.from_frame(frame)
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
