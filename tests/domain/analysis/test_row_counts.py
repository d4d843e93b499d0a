"""Every row says how many personas and ratings stand behind it, what lacks, and its status."""

import importlib
import pkgutil
import typing

import numpy as np
import pandas as pd
import pytest

import benchlib.domain
from benchlib.domain.analysis.adjusted_deltas import compute_adjusted_deltas
from benchlib.domain.analysis.answer_grid import AnswerGrid
from benchlib.domain.analysis.cells import compute_cells
from benchlib.domain.analysis.comparison import compute_delta_differences
from benchlib.domain.analysis.counterfactual import compute_counterfactuals
from benchlib.domain.analysis.data_quality import QualityStatus
from benchlib.domain.analysis.deltas import compute_deltas
from benchlib.domain.analysis.forest import ForestOptions, compute_forest
from benchlib.domain.analysis.level_differences import compute_level_differences
from benchlib.domain.analysis.metrics import compute_means_by_attribute
from benchlib.domain.analysis.order_effects import compute_order_effect_metrics
from benchlib.domain.analysis.styles import compute_missing_rates, compute_response_styles
from benchlib.domain.analysis.trait_sets import count_sample
from benchlib.domain.analysis.variance_components import compute_variance_components
from tests.domain.frames import cells_of, shared_runs

FIELDS = ("n_personas", "n_ratings", "n_missing")
LOST = {(4, 2, "in"), (5, 1, "rev")}


def answers(lost=()):
    """Personas 1 to 3 of group a and 4 to 6 of b; trait 1 in both orders, trait 2 in one."""
    asked = [
        (persona, trait, order)
        for persona in range(1, 7)
        for trait, order in ((1, "in"), (1, "rev"), (2, "in"))
    ]
    frame = pd.DataFrame(asked, columns=["persona_id", "trait_id", "scale_order"])
    digits = np.array([1, 4, 2, 3, 3, 5, 2, 5, 1, 4, 1, 3, 5, 2, 4, 2, 2, 1], dtype=float)
    frame["rating_raw"] = [
        np.nan if key in lost else digit for key, digit in zip(asked, digits, strict=True)
    ]
    undone = frame["rating_raw"].where(frame["scale_order"] == "in", 6 - frame["rating_raw"])
    valence = frame["trait_id"].map({1: 1, 2: -1}).astype(np.int8)
    return frame.assign(
        case_id=frame["trait_id"].map("case {}".format),
        label=frame["trait_id"].map("label {}".format),
        trait_category="c",
        valence=valence,
        group=pd.Categorical(np.where(frame["persona_id"] <= 3, "a", "b")),
        rating=undone.where(valence == 1, 6 - undone),
    )


@pytest.fixture(scope="module")
def frame():
    return answers(LOST)


@pytest.fixture(scope="module")
def cells(frame):
    return compute_cells(frame, ["group"])


def counts(row):
    return tuple(row[name] for name in FIELDS)


def row_types():
    for module in pkgutil.walk_packages(benchlib.domain.__path__, "benchlib.domain."):
        names = vars(importlib.import_module(module.name))
        for value in names.values():
            if not typing.is_typeddict(value):
                continue
            status = typing.get_type_hints(value).get("status")
            if status not in (None, QualityStatus):  # the latter is of a run, not of a row
                yield value


def test_whatever_has_a_status_has_its_counts():
    known = set(row_types())
    assert len(known) > 10
    assert {row.__name__ for row in known if set(FIELDS) - set(typing.get_type_hints(row))} == set()


def test_rows_of_groups(frame, cells):
    (of_b,) = (row for row in compute_deltas(cells, "group")["rows"] if row["category"] == "b")
    assert counts(of_b) == (3, 7, 1)
    means = compute_means_by_attribute(cells, "group")
    assert {row["category"]: counts(row) for row in means} == {"a": (3, 9, 0), "b": (3, 7, 1)}
    (adjusted,) = compute_adjusted_deltas(cells)["rows"]
    assert counts(adjusted) == (3, 7, 1)


def test_rows_and_diamond_of_a_forest(cells):
    forest = compute_forest(cells, "group", options=ForestOptions(min_n=1))
    by_trait = {row["case_id"]: counts(row) for row in forest["rows"]}
    assert by_trait == {"case 1": (3, 5, 0), "case 2": (3, 2, 1)}
    assert counts(forest["overall"]) == (3, 7, 1)


def test_variance_components(cells):
    assert counts(compute_variance_components(cells)) == (6, 16, 1)


def test_styles_count_cells_and_missing_counts_questions(frame, cells):
    styles = compute_response_styles(AnswerGrid.from_frame(frame), cells)
    by_style = {row["style"]: counts(row) for row in styles["levels"]}
    # Persona 4 rated no unfavourable trait, so it has no acquiescence.
    assert by_style == {
        "acquiescence": (5, 16, 1),
        "extreme": (6, 16, 1),
        "midpoint": (6, 16, 1),
    }
    rows = [row for row in styles["attributes"]["group"]["rows"] if row["category"] == "b"]
    assert [counts(row) for row in rows] == [(2, 7, 1), (3, 7, 1), (3, 7, 1)]
    missing = compute_missing_rates(AnswerGrid.from_frame(frame), cells)
    assert counts(missing["levels"][0]) == (6, 16, 2)
    by_group = {row["category"]: counts(row) for row in missing["attributes"]["group"]["rows"]}
    assert by_group == {"a": (3, 9, 0), "b": (3, 7, 2)}


def test_order_effects_count_pairs_and_missing_answers(frame):
    order = compute_order_effect_metrics(AnswerGrid.from_frame(frame))
    assert (order["n_pairs"], *counts(order)) == (5, 5, 10, 1)
    (trait,) = order["by_case"]
    assert (trait["case_id"], trait["status"], trait["n"], *counts(trait)) == (
        *("case 1", order["status"]),
        *(5, 5, 10, 1),
    )
    (category,) = order["by_trait_category"]
    assert (category["status"], category["n"], *counts(category)) == (order["status"], 5, 5, 10, 1)


def test_counterfactual_pairs(cells):
    links = pd.DataFrame({"persona_id": [4, 5, 6], "source_persona_id": [1, 2, 3]})
    found = compute_counterfactuals(cells, links.assign(changed_attribute="group"))
    (row,) = found["rows"]
    assert (row["n_pairs"], *counts(row)) == (3, 3, 15, 1)
    by_trait = {row["case_id"]: counts(row) for row in found["by_trait"]}
    assert by_trait == {"case 1": (3, 11, 0), "case 2": (2, 4, 1)}


def test_differences_between_runs(frame):
    shared = shared_runs({1: frame, 2: answers()}, "group")
    level = compute_level_differences(shared)["rows"][0]
    # of the 17 ratings of shared cells one is in an order in which run 1 did not rate its cell
    assert (level["run_id"], *counts(level)) == (2, 6, 16, 1)
    (delta,) = compute_delta_differences(shared)["group"]["rows"]
    assert (delta["category"], *counts(delta)) == ("b", 3, 7, 1)


def test_the_sample_of_a_trait_category_is_counted():
    # persona 0 rated one of two warmth traits, persona 1 none of them, persona 2 both
    table = [[5, np.nan, 1], [np.nan, np.nan, 2], [4, 3, np.nan]]
    cells = cells_of(table, {"group": ["a", "a", "b"]}, trait_categories=["warmth", "warmth", "x"])
    assert count_sample(cells) == {"n": 5, "n_personas": 2}  # half of three traits: two or more
    assert count_sample(cells, "warmth") == {"n": 3, "n_personas": 2}
    assert count_sample(cells, "x") == {"n": 2, "n_personas": 2}
    assert count_sample(cells, neutral=True) == {"n": 0, "n_personas": 0}
