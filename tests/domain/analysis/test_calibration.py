from dataclasses import replace

import numpy as np
import pytest

from benchlib.domain.analysis.calibration import compute_calibration
from benchlib.domain.analysis.trait_sets import (
    GroupContrasts,
    prepare_contrasts,
    select_trait_sets,
)
from tests.domain.frames import cells_of


def unbiased_cells(n=150, n_traits=10, missing=0.0):
    rng = np.random.default_rng(7)
    table = np.clip(np.rint(3 + rng.normal(0, 0.4, (n, 1)) + rng.normal(0, 1, (n, n_traits))), 1, 5)
    table[rng.random(table.shape) < missing] = np.nan
    groups = {
        "origin": np.repeat(["a", "b", "Unknown"], [n // 2, n // 3, n - n // 2 - n // 3]),
        "gender": np.tile(["f", "m"], n // 2),
    }
    return cells_of(table, {name: list(labels) for name, labels in groups.items()})


def rows_of(found):
    return {row["kind"]: row for row in found["rows"]}


def test_placebos_of_an_even_run_are_found_as_often_as_they_should():
    found = compute_calibration(unbiased_cells(), np.random.default_rng(1))
    rows = rows_of(found)
    assert found["n_placebos"] == 200
    assert [row["verdict"] for row in rows.values()] == ["ok"] * 3
    # one category against the baseline, one trait set (its only category repeats it), ten traits
    assert [row["n_tests"] for row in rows.values()] == [200, 2000, 200]
    assert rows["trait_rows"]["share_05"] == pytest.approx(0.05, abs=0.02)
    # no narrower than independent tests would have it
    assert rows["trait_rows"]["limit_05"] >= 0.05 + 4 * (0.05 * 0.95 / 2000) ** 0.5 - 1e-12


@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_a_placebo_is_tested_as_a_real_attribute_would_be(missing):
    cells = unbiased_cells(missing=missing)
    trait_set = select_trait_sets(cells)[0]
    contrasts = prepare_contrasts(cells, ["origin", "gender"], trait_set.scores.enters)
    rng, p_values = np.random.default_rng(4), []
    for name in ("origin", "gender", "origin"):
        grouping = contrasts[name].grouping
        placebo = replace(
            contrasts[name], grouping=replace(grouping, codes=rng.permutation(grouping.codes))
        )
        values = trait_set.cells.centred
        p = placebo.compare(values, placebo.moments(values)).p_value
        p_values += p[np.isfinite(p)].tolist()
    found = rows_of(compute_calibration(cells, np.random.default_rng(4), n_placebos=3))
    assert found["trait_rows"]["n_tests"] == len(p_values) == 30
    assert found["trait_rows"]["share_05"] == np.mean(np.array(p_values) < 0.05)


def let_p_be(monkeypatch, change):
    right = GroupContrasts.compare

    def compare(self, values, moments):
        found = right(self, values, moments)
        return replace(found, p_value=change(found.p_value))

    monkeypatch.setattr(GroupContrasts, "compare", compare)


def test_a_test_that_finds_too_much_is_caught(monkeypatch):
    let_p_be(monkeypatch, lambda p: p / 5)
    rows = rows_of(compute_calibration(unbiased_cells(), np.random.default_rng(1)))
    assert rows["trait_rows"]["verdict"] == rows["deltas"]["verdict"] == "too_many"
    assert rows["attributes"]["verdict"] == "ok"


def test_a_test_that_finds_nothing_is_conservative(monkeypatch):
    let_p_be(monkeypatch, lambda p: p**0.1)
    rows = rows_of(compute_calibration(unbiased_cells(), np.random.default_rng(1)))
    assert rows["trait_rows"]["verdict"] == "conservative"


def test_tests_that_agree_within_an_attribute_are_not_taken_for_many():
    # ten copies of one trait: the spread over placebos is that of one test each
    rng = np.random.default_rng(2)
    table = np.repeat(rng.integers(1, 6, (100, 1)), 10, axis=1)
    cells = cells_of(table, {"gender": ["f", "m"] * 50})
    row = rows_of(compute_calibration(cells, np.random.default_rng(1)))["trait_rows"]
    assert row["n_tests"] == 2000
    share = row["share_05"]
    error = (share * (1 - share) / 199) ** 0.5
    assert row["limit_05"] == pytest.approx(0.05 + 4 * error)


def test_without_groups_nothing_is_tested():
    cells = cells_of([[1, 2], [3, 5], [2, 2]], {"gender": ["f"] * 3})
    for row in compute_calibration(cells, np.random.default_rng(1))["rows"]:
        assert (row["n_tests"], row["share_05"], row["limit_01"]) == (0, None, None)
        assert row["verdict"] == "not_tested"
