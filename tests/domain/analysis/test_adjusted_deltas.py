import json

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from hypothesis import given

from benchlib.domain.analysis.adjusted_deltas import compute_adjusted_deltas
from benchlib.domain.analysis.cells import compute_cells
from benchlib.domain.analysis.deltas import compute_deltas
from benchlib.domain.analysis.persona_scores import compute_persona_scores
from benchlib.domain.errors import InvalidInput
from tests.domain.frames import cells_of, law, random_run, small_runs
from tests.domain.oracle import load_case


def row_of(adjusted, attribute, category):
    return next(
        row
        for row in adjusted["rows"]
        if (row["attribute"], row["category"]) == (attribute, category)
    )


def test_adjusted_deltas_match_the_worked_case():
    case = load_case("adjusted_delta_hc3")
    attributes = {"a": case.input["attr_a"], "b": case.input["attr_b"]}
    cells = cells_of(np.array(case.input["score"])[:, None], attributes)
    adjusted = compute_adjusted_deltas(cells, baselines={"a": "x", "b": "u"})
    for key, attribute, category in (
        ("C(a)[T.y]", "a", "y"),
        ("C(b)[T.v]", "b", "v"),
        ("C(b)[T.w]", "b", "w"),
    ):
        row, expected = row_of(adjusted, attribute, category), case.approx(key)
        assert row["adjusted_delta"] == expected["coef"]
        assert row["se"] == expected["se"]
        assert row["p_value"] == expected["p"]
        assert [row["ci_low"], row["ci_high"]] == expected["ci"]
    assert adjusted["df_resid"] == case.expected["df_resid"]
    assert adjusted["intercept"] == case.approx("Intercept")["coef"]
    assert adjusted["warnings"] == []


def test_many_attributes_agree_with_statsmodels():
    cells = compute_cells(random_run(3, 70, missing=0.1), ["group", "origin"])
    adjusted = compute_adjusted_deltas(cells, baselines={"group": "a", "origin": "south"})
    scores = compute_persona_scores(cells)
    frame = cells.attributes.astype(object).assign(z=scores.z)[scores.enters]
    frame = pd.DataFrame({name: frame[name].to_numpy() for name in frame})
    fit = smf.ols("z ~ C(group, Treatment('a')) + C(origin, Treatment('south'))", frame).fit(
        cov_type="HC3", use_t=True
    )
    for attribute, baseline, category in (
        ("group", "a", "b"),
        ("group", "a", "c"),
        ("origin", "south", "north"),
    ):
        name = f"C({attribute}, Treatment('{baseline}'))[T.{category}]"
        row = row_of(adjusted, attribute, category)
        assert row["adjusted_delta"] == pytest.approx(fit.params[name])
        assert row["se"] == pytest.approx(fit.bse[name])
        assert row["p_value"] == pytest.approx(fit.pvalues[name])
    assert {row["category"] for row in adjusted["rows"]} == {"b", "c", "north"}


def correlated_run(share, n=400):
    """Only `real` matters; `copy` agrees with it for a share of the personas."""
    rng = np.random.default_rng(7)
    real = rng.random(n) < 0.5
    copy = np.where(rng.random(n) < share, real, rng.random(n) < 0.5)
    table = np.clip(3 + 0.6 * real[:, None] + rng.normal(0, 0.6, (n, 4)), 1, 5)
    names = {"real": np.where(real, "yes", "no"), "copy": np.where(copy, "yes", "no")}
    return cells_of(table, names)


def test_a_borrowed_delta_is_found_out():
    cells = correlated_run(0.6)
    baselines = {"real": "no", "copy": "no"}
    adjusted = compute_adjusted_deltas(cells, baselines=baselines)
    borrowed, real = row_of(adjusted, "copy", "yes"), row_of(adjusted, "real", "yes")
    crude = compute_deltas(cells, "copy", baseline="no")["rows"][1]
    assert borrowed["delta"] == pytest.approx(crude["delta"])
    assert borrowed["p_unadjusted"] < 0.001
    assert borrowed["p_value"] > 0.05
    assert borrowed["confounded"] is True
    assert (real["confounded"], real["significant"]) == (False, True)
    assert real["adjusted_delta"] == pytest.approx(0.6, abs=0.1)
    assert real["vif"] == borrowed["vif"] == pytest.approx(1 / (1 - 0.6**2), abs=0.3)
    (warning,) = adjusted["warnings"]
    assert warning.startswith("copy = yes differs by +0.")


def test_attributes_that_hardly_differ_are_warned_about():
    adjusted = compute_adjusted_deltas(correlated_run(0.97), baselines={"real": "no"})
    assert all(row["vif"] >= 5 and row["confounded"] for row in adjusted["rows"])
    assert len(adjusted["warnings"]) == 2


def test_what_others_determine_cannot_be_adjusted():
    adjusted = compute_adjusted_deltas(correlated_run(1.0), baselines={"real": "no", "copy": "no"})
    real, copy = row_of(adjusted, "real", "yes"), row_of(adjusted, "copy", "yes")
    assert (copy["aliased"], copy["adjusted_delta"], copy["p_value"]) == (True, None, None)
    assert copy["delta"] == pytest.approx(real["adjusted_delta"])
    assert real["vif"] == pytest.approx(1)
    assert adjusted["warnings"] == [
        "copy = yes follows from attributes before it and cannot be adjusted."
    ]


def test_who_stands_alone_is_left_out():
    rng = np.random.default_rng(0)
    table = rng.integers(1, 6, (21, 3))
    cells = cells_of(table, {"g": [*"aaaaaaaaaabbbbbbbbbb", "c"]})
    adjusted = compute_adjusted_deltas(cells)
    lonely = row_of(adjusted, "g", "c")
    assert (lonely["status"], lonely["adjusted_delta"], lonely["n_cat"]) == ("n_lt_2", None, 0)
    assert (adjusted["n_personas"], adjusted["n_dropped"]) == (20, 1)
    assert adjusted["warnings"] == [
        "Personas left out because no one else has one of their categories: 1."
    ]
    assert row_of(adjusted, "g", "b")["p_value"] is not None


@pytest.mark.parametrize(
    ("table", "groups", "statuses"),
    [
        ([[1], [2], [3]], "aaa", set()),
        ([[1], [2]], ["Unknown"] * 2, set()),
        ([[np.nan], [np.nan]], "ab", set()),
        ([[1], [2]], "ab", {"n_lt_2"}),
        ([[3], [3], [3], [3]], "aabb", {"zero_variance"}),
        ([[3], [3], [4], [4]], "aabb", {"zero_variance"}),
    ],
)
def test_what_cannot_be_adjusted_is_none(table, groups, statuses):
    adjusted = compute_adjusted_deltas(cells_of(table, {"g": list(groups)}))
    json.dumps(adjusted, allow_nan=False)
    assert {row["status"] for row in adjusted["rows"]} == statuses
    assert all(row["p_value"] is row["q_value"] is None for row in adjusted["rows"])


def test_an_empty_run_has_no_rows():
    cells = compute_cells(random_run(1).iloc[:0], ["group", "origin"])
    adjusted = compute_adjusted_deltas(cells, trait_category="warmth")
    assert (adjusted["rows"], adjusted["n_personas"], adjusted["df_resid"]) == ([], 0, None)


def test_mistakes_are_named():
    cells = compute_cells(random_run(1), ["group"])
    with pytest.raises(InvalidInput, match="no attribute 'age'"):
        compute_adjusted_deltas(cells, attributes=["age"])


@law
@given(small_runs())
def test_whatever_the_run_the_payload_is_sound(frame):
    adjusted = compute_adjusted_deltas(compute_cells(frame, ["group"]))
    json.dumps(adjusted, allow_nan=False)
    for row in adjusted["rows"]:
        if row["p_value"] is not None:
            # a single attribute has nothing to be adjusted for
            assert row["adjusted_delta"] == pytest.approx(row["delta"], abs=1e-9)
            assert row["vif"] == pytest.approx(1)
            assert row["p_value"] <= row["q_value"] + 1e-12
