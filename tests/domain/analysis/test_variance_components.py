import json

import numpy as np
import pytest

from benchlib.domain.analysis.cells import compute_cells
from benchlib.domain.analysis.variance_components import (
    compute_answer_noise,
    compute_variance_components,
)
from tests.domain.frames import cells_of, random_run
from tests.domain.oracle import load_case


def test_components_match_the_worked_case():
    case = load_case("variance_components")
    found = compute_variance_components(cells_of(case.input["ratings"], {}))
    for name in case.expected:
        assert found[name] == case.approx(name), name
    assert found["status"] == "ok"


def test_within_groups_the_group_effect_is_taken_out():
    rng = np.random.default_rng(1)
    table = np.clip(3 + rng.normal(0, 0.5, (40, 6)), 1, 5)
    shifted = table + np.repeat([-0.5, 0.5], 20)[:, None]
    groups = {"g": ["a"] * 20 + ["b"] * 20}
    plain = compute_variance_components(cells_of(table, groups), "g")
    found = compute_variance_components(cells_of(np.clip(shifted, 1, 5), groups), "g")
    assert found["var_persona_raw"] == pytest.approx(plain["var_persona_raw"], abs=0.01)
    mixed = compute_variance_components(cells_of(np.clip(shifted, 1, 5), groups))
    # the shift of +-1/2 has variance 1/4
    assert mixed["var_persona"] == pytest.approx(0.25 + plain["var_persona_raw"], abs=0.02)


def test_components_recover_what_was_planted():
    rng = np.random.default_rng(5)
    found = []
    for _ in range(60):
        table = 3 + rng.normal(0, 0.3, (50, 1)) + rng.normal(0, 0.4, (50, 8))
        table[rng.random(table.shape) < 0.1] = np.nan
        found.append(compute_variance_components(cells_of(np.clip(table, 1, 5), {})))
    for name, truth in (("var_persona_raw", 0.09), ("var_resid", 0.16)):
        values = [each[name] for each in found]
        assert np.mean(values) == pytest.approx(truth, abs=4 * np.std(values) / np.sqrt(60))


def test_negative_components_are_cut_but_shown():
    # two traits that move against each other
    found = compute_variance_components(cells_of([[1, 5], [5, 1], [2, 4], [4, 2]], {}))
    assert found["var_persona"] == 0
    assert found["var_persona_raw"] < 0
    assert (found["icc_persona"], found["design_effect"]) == (0, 1)


@pytest.mark.parametrize(
    ("table", "valence", "status"),
    [
        ([[1, 2], [2, 3]], [0, 0], "no_data"),
        ([[np.nan], [np.nan]], [1], "no_data"),
        ([[1], [2]], [1], "n_lt_2"),  # one trait cannot tell persona from residual
        ([[1, 2]], [1, 1], "n_lt_2"),
        ([[3, 3], [3, 3]], [1, 1], "zero_variance"),
    ],
)
def test_without_enough_there_is_no_share(table, valence, status):
    found = compute_variance_components(cells_of(table, {}, valence=valence))
    json.dumps(found, allow_nan=False)
    assert (found["status"], found["icc_persona"]) == (status, None)


def test_one_trait_category_at_a_time():
    cells = compute_cells(random_run(2), ["group"])
    assert compute_variance_components(cells, trait_category="warmth")["n_traits"] == 3


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_a_pair_of_orders_is_not_taken_for_one_precise_answer(share):
    # residual as in a run whose answers have noise .8 and persona x trait .4
    kept, n_cells = 1 - share / 2, 2000
    parts = compute_variance_components(cells_of([[1, 2], [3, 5]], {})) | {
        "var_resid": 0.16 + 0.64 * kept,
        "n_personas": 100,
        "n_traits": 20,
        "n_missing": 0,
        "n_ratings": round(n_cells * (1 + share)),
    }
    each = round(100 * share)
    pairs = [{"n": each, "mean_diff": 0.5 * (-1) ** trait} for trait in range(20) if each]
    n_pairs = 20 * each
    square = 2 * 0.64 * (n_pairs - 20) + 0.25 * n_pairs  # within traits, between traits
    sd = (square / (n_pairs - 1)) ** 0.5 if each else None
    found = compute_answer_noise(parts, pairs, n_pairs, sd)
    assert found == pytest.approx((0.16, 0.64) if each else (0, 0.8))


def test_the_noise_of_answers_never_exceeds_the_residual():
    parts = compute_variance_components(cells_of([[1, 2], [3, 5]], {})) | {
        "var_resid": 0.3,
        "n_personas": 50,
        "n_traits": 1,
        "n_missing": 0,
        "n_ratings": 100,
    }
    found = compute_answer_noise(parts, [{"n": 50, "mean_diff": 0.0}], 50, 2.0)
    assert found == pytest.approx((0, 0.6))
    nothing = parts | {"var_resid": None}
    assert compute_answer_noise(nothing, [], 0, None) is None
