import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchlib.domain.errors import InvalidInput
from benchlib.domain.stats.additive_fit import (
    compute_additive_fit,
    compute_order_fit,
    find_comparable,
)
from tests.domain.frames import law


def random_design(rng, n_personas, n_traits, share=0.8, dual=0.2):
    """Levels and where they are rated: random orders, some pairs, some missing."""
    reverse = rng.random((n_personas, n_traits)) < 0.5
    rated = np.stack([~reverse, reverse]) | (rng.random((n_personas, n_traits)) < dual)
    rated &= rng.random((n_personas, n_traits)) < share
    return rng.integers(1, 6, (2, n_personas, n_traits)).astype(float), rated


def fit_levels(levels, rated):
    """The fit, and (P, T) cells: rating minus column effect, averaged over the orders present."""
    weights = rated / np.maximum(rated.sum(axis=0), 1)
    weighted = np.where(rated, weights * np.nan_to_num(levels), 0.0)
    n_traits = rated.any(axis=0).sum(axis=1)
    mean = weighted.sum(axis=(0, 2)) / np.maximum(n_traits, 1)
    orders = (rated[0] + 2 * rated[1]).astype(np.uint8)
    fit = compute_order_fit(mean, weighted.sum(axis=1), orders)
    columns = np.nan_to_num(fit.column).reshape(2, 1, -1)
    cells = (weighted - weights * columns).sum(axis=0)
    return fit, np.where(rated.any(axis=0), cells, np.nan)


def test_complete_data_give_row_and_column_means():
    # rows 1 3 5 / 2 4 9: row means 3 and 5, column means 1.5, 3.5, 7
    values = np.array([[1.0, 3, 5], [2, 4, 9]])
    fit = compute_additive_fit(values, np.ones((2, 3)))
    assert fit.persona == pytest.approx([-1, 1])
    assert fit.column == pytest.approx([1.5, 3.5, 7])
    assert fit.n_components == 1


@pytest.mark.parametrize("shape", [(12, 5), (4, 15)])
def test_effects_are_the_least_squares_solution(shape):
    # Both sides of the elimination against a general solver with one dummy per persona and column
    rng = np.random.default_rng(5)
    values, weights = rng.normal(3, 1, shape), rng.choice([0, 0.5, 1], shape, p=[0.3, 0.3, 0.4])
    fit = compute_additive_fit(values, weights)
    at = np.nonzero(weights)
    dummies = np.hstack([np.eye(shape[0])[at[0]], np.eye(shape[1])[at[1]]])
    root = np.sqrt(weights[at])
    solution, *_ = np.linalg.lstsq(dummies * root[:, None], values[at] * root, rcond=None)
    persona, column = solution[: shape[0]], solution[shape[0] :]
    assert fit.n_components == 1
    assert fit.persona == pytest.approx(persona - persona.mean(), abs=1e-10)
    assert fit.column == pytest.approx(column + persona.mean(), abs=1e-10)


def test_a_chain_of_single_links_is_solved_exactly():
    # Persona i rated columns i and i + 1 only, without noise: sweeps would crawl along the chain
    n = 300
    truth, level = np.linspace(-1, 1, n), np.sin(np.arange(n + 1.0))
    weights = np.eye(n, n + 1) + np.eye(n, n + 1, 1)
    fit = compute_additive_fit(truth[:, None] + level, weights)
    assert fit.n_components == 1
    assert np.abs(fit.persona - truth).max() < 1e-8


def test_components_hang_together_through_shared_columns():
    weights = np.array([[1.0, 1, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]])
    values = np.where(weights > 0, [[1], [2], [4], [np.nan]], np.nan)
    fit = compute_additive_fit(values, weights)
    assert fit.persona_component.tolist() == [0, 0, 1, -1]
    assert fit.column_component.tolist() == [0, 0, 1, -1, -1]
    assert fit.alone.tolist() == [False, False, True, False]
    assert fit.persona == pytest.approx([-0.5, 0.5, 0, np.nan], nan_ok=True)
    assert fit.column == pytest.approx([1.5, 1.5, 4, np.nan, np.nan], nan_ok=True)


def test_nothing_rated_gives_no_effects():
    fit = compute_additive_fit(np.full((2, 3), np.nan), np.zeros((2, 3)))
    assert np.isnan(fit.persona).all()
    assert np.isnan(fit.column).all()
    assert fit.n_components == 0
    assert compute_additive_fit(np.zeros((0, 3)), np.zeros((0, 3))).n_components == 0


def test_random_orders_do_not_shrink_the_delta_of_few_personas():
    # Two against two, delta 1, orders 1.5 apart, no noise. Centring by (trait, order) would give
    # a column that only one group was asked a difference of 0.
    rng = np.random.default_rng(2)
    reverse = rng.random((4, 24)) < 0.5
    rated = np.stack([~reverse, reverse])
    group = np.array([0, 0, 1, 1.0])
    levels = np.stack([np.zeros((4, 24)), np.full((4, 24), 1.5)]) + group[:, None] + 2
    fit, _ = fit_levels(levels, rated)
    assert fit.persona == pytest.approx([-0.5, -0.5, 0.5, 0.5])


def test_ratings_missing_by_group_do_not_shrink_the_delta():
    # The second group rates 1 higher; half of the traits are lacking in 9 of its 10 personas.
    n_traits, group = 8, np.repeat([0.0, 1.0], 10)
    rated = np.ones((2, 20, n_traits), dtype=bool)
    rated[:, 11:, :4] = False
    levels = np.broadcast_to(group[:, None] + np.arange(n_traits) / 4, (2, 20, n_traits))
    fit, cells = fit_levels(levels, rated)
    assert fit.persona[10:].mean() - fit.persona[:10].mean() == pytest.approx(1)
    assert np.isnan(cells[11:, :4]).all()


@law
@given(st.integers(0, 10_000))
def test_a_score_is_the_mean_of_the_cells(seed):
    rng = np.random.default_rng(seed)
    levels, rated = random_design(rng, 6, 5)
    fit, cells = fit_levels(levels, rated)
    answered = rated.any(axis=0)
    n_traits = answered.sum(axis=1)
    seen = n_traits > 0
    mean = np.where(answered, cells, 0).sum(axis=1)[seen] / n_traits[seen]
    assert mean == pytest.approx(fit.persona[seen], abs=1e-9)
    assert np.isnan(fit.persona[~seen]).all()


@law
@given(st.integers(0, 10_000), st.floats(-1, 1), st.floats(-1, 1))
def test_trait_levels_and_order_bias_drop_out(seed, trait_shift, order_bias):
    rng = np.random.default_rng(seed)
    levels, rated = random_design(rng, 8, 6, share=0.9)
    shifted = levels + np.array([0, order_bias])[:, None, None] + trait_shift * np.arange(6)
    plain, _ = fit_levels(levels, rated)
    moved, _ = fit_levels(shifted, rated)
    assert moved.persona == pytest.approx(plain.persona, abs=1e-9, nan_ok=True)


def test_groups_without_a_shared_trait_are_not_comparable():
    # Groups 0 and 1 rated traits 0-1 and 2-3; group 2 rated traits 1 and 2; group 3 nothing
    rated = np.zeros((7, 4), dtype=bool)
    rated[:2, :2], rated[2:4, 2:] = True, True
    codes = np.array([0, 0, 1, 1, -1, -1, 3])
    fit = compute_additive_fit(np.ones((7, 4)), rated.astype(float))
    apart = find_comparable(fit.persona_component, codes, 4, 0)
    assert apart.tolist() == [True, False, False, False]
    # a third group that rated traits of both links them, although they still share none
    rated[4:6, 1:3] = True
    codes = np.array([0, 0, 1, 1, 2, 2, 3])
    fit = compute_additive_fit(np.ones((7, 4)), rated.astype(float))
    linked = find_comparable(fit.persona_component, codes, 4, 0)
    assert linked.tolist() == [True, True, True, False]
    assert not find_comparable(fit.persona_component, codes, 4, -1).any()


def test_bad_input_is_refused():
    ones = np.ones((2, 2))
    with pytest.raises(InvalidInput, match="same"):
        compute_additive_fit(ones, np.ones((2, 3)))
    with pytest.raises(InvalidInput, match="negative"):
        compute_additive_fit(ones, -ones)
    with pytest.raises(InvalidInput, match="not a number"):
        compute_additive_fit(ones * np.nan, ones)
