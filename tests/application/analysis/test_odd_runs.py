"""Data quality of runs, and panels of odd data."""

import math

import pytest

from benchlib.application.analysis import answer_panels, detail_panels, group_panels
from benchlib.domain.vocabulary import RunStatus
from tests.application.analysis.rated_panels import (
    GROUPS,
    biased,
    numbers_in,
    panels,
)
from tests.rated_runs import add_rated_run, people

# -- health ------------------------------------------------------------------------------------


def health(service, run_id):
    check = service.analysis.get_panel(answer_panels.data_quality, run_id)
    assert all(item["sentence"].endswith(".") for item in check["items"])
    return check, {item["topic"]: item for item in check["items"]}


def test_a_consistent_run_is_healthy(service, run_id):
    check, items = health(service, run_id)
    assert [item["status"] for item in check["items"]] == ["ok"] * 6
    assert check["status"] == "ok"
    assert items["order_consistency"]["value"] == pytest.approx(1)
    assert "120 pairs" in items["order_consistency"]["sentence"]
    assert items["valid_mass"]["value"] is None


@pytest.mark.parametrize(
    ("reversed_for", "told"),
    [
        (1, "50% of the answers were given in the original order, so asking half each way cancels"),
        # of 60 + 6 answers 91 % in the original order: (2 * 60/66 - 1) * 1 / 2 = .41
        (10, "so it does not cancel: means over all answers are off by 0.41 points"),
    ],
)
def test_a_shift_between_the_orders_is_not_healthy(service, store, reversed_for, told):
    def rate(i, t, order):
        # every second answer is one digit higher than meant: in - (6 - rev) is 0 or 2, 1 on average
        pull = (i // reversed_for + t) % 2
        if order == "in":
            return 2 + t + pull
        return None if i % reversed_for else 4 - t + pull

    run_id = add_rated_run(
        store, rate, personas=people(20, **GROUPS), orders=("in", "rev"), valences=(1, 1, -1)
    )
    _, items = health(service, run_id)
    assert items["order_effect"]["status"] == "warn"
    assert items["order_effect"]["value"] == pytest.approx(1)
    assert told in items["order_effect"]["sentence"]
    assert "more than the smallest effect of interest, 0.1" in items["order_effect"]["sentence"]


def test_a_rater_that_follows_the_digits_is_not(service, store):
    run_id = add_rated_run(
        store,
        lambda i, t, order: 1 + (i + t) % 3,
        personas=people(30, **GROUPS),
        orders=("in", "rev"),
        shares=lambda i, t, order: [0.4, 0.3, 0.3, 0, 0, 0.5],
    )
    check, items = health(service, run_id)
    assert check["status"] == "bad"
    assert items["order_consistency"]["status"] == "bad"
    assert "towards low digits" in items["order_consistency"]["sentence"]
    assert items["valid_mass"]["status"] == "bad"
    assert items["valid_mass"]["value"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("rate", "sentence"),
    [
        (lambda i, t, order: 3, "100% of the answers are 3; 1 of 5 points are used"),
        (lambda i, t, order: 1, "100% of the answers are the digit 1, whatever it means"),
    ],
)
def test_a_constant_rater_is_not(service, store, rate, sentence):
    run_id = add_rated_run(store, rate, personas=people(30, **GROUPS), orders=("in", "rev"))
    _, items = health(service, run_id)
    assert items["scale_use"]["status"] == "bad"
    assert sentence in items["scale_use"]["sentence"]
    assert items["order_consistency"]["status"] in ("warn", "bad")


def test_missing_and_failed_answers_show(service, store):
    run_id = add_rated_run(
        store,
        lambda i, t, order: None if i < 6 else biased(i, t, order),
        personas=people(30, **GROUPS),
        failed=[(i, t) for i in range(6) for t in range(4)],
        status=RunStatus.PARTIAL,
    )
    check, items = health(service, run_id)
    assert items["missing"]["status"] == "bad"
    assert items["missing"]["value"] == pytest.approx(0.2)
    assert "24 of 120" in items["missing"]["sentence"]
    assert items["failures"]["status"] == "warn"  # 24 of 120 attempts: not above a fifth
    assert "24 unusable" in items["failures"]["sentence"]
    assert items["order_consistency"]["status"] == "warn"  # no pairs
    assert check["preliminary"]
    rows = service.get_means(run_id, "gender")["rows"]
    assert {row["category"]: row["n_missing"] for row in rows} == {"f": 16, "m": 8}


def test_a_run_that_is_not_over_lacks_nothing_yet(service, store):
    run_id = add_rated_run(
        store,
        lambda i, t, order: None if i >= 6 else biased(i, t, order),
        personas=people(12, gender=("f", "m")),
        status=RunStatus.RUNNING,
    )
    _, items = health(service, run_id)
    assert items["missing"]["status"] == "ok"
    assert items["missing"]["sentence"].endswith("(50.0%); the run has not ended.")


# -- odd data ----------------------------------------------------------------------------------


def odd_runs(store):
    constant = {"gender": ("f",)}
    many = {"gender": tuple(f"c{i:03d}" for i in range(200))}
    return {
        "one category": add_rated_run(
            store, biased, personas=people(12, **constant), name="one-category"
        ),
        "200 categories": add_rated_run(store, biased, personas=people(400, **many), name="many"),
        "all missing": add_rated_run(
            store,
            lambda *_: None,
            personas=people(6, gender=("f", "m")),
            status=RunStatus.PARTIAL,
            failed=[(i, t) for i in range(6) for t in range(4)],
            name="missing",
        ),
        "never started": add_rated_run(
            store,
            lambda *_: None,
            personas=people(6, gender=("f", "m")),
            status=RunStatus.CANCELLED,
            name="nothing",
        ),
        "one persona": add_rated_run(
            store, biased, personas=people(1, gender=("f",)), orders=("in", "rev"), name="lonely"
        ),
        "only neutral": add_rated_run(
            store, biased, personas=people(12, gender=("f", "m")), valences=(0, 0), name="neutral"
        ),
        "unknown only": add_rated_run(
            store, biased, personas=people(12, gender=("Unknown",)), name="unknown"
        ),
        "always the same": add_rated_run(
            store,
            lambda *_: 3,
            personas=people(12, gender=("f", "m")),
            orders=("in", "rev"),
            name="same",
        ),
    }


@pytest.mark.parametrize(
    "kind",
    [
        *("one category", "200 categories", "all missing", "never started", "one persona"),
        *("only neutral", "unknown only", "always the same"),
    ],
)
def test_odd_data_gives_statuses_and_never_a_crash(service, store, kind):
    run_id = odd_runs(store)[kind]
    for name, compute in panels(service, run_id).items():
        panel = compute()
        assert panel["ok"], name
        assert all(math.isfinite(number) for number in numbers_in(panel)), name
    rows = service.get_deltas(run_id, "gender")["rows"]
    omnibus = service.analysis.get_panel(group_panels.omnibus, run_id)["attributes"][0]
    if kind == "one category":
        assert [(row["tested"], row["delta"]) for row in rows] == [(False, None)]
        assert (omnibus["status"], omnibus["h_stat"]) == ("n_lt_2", None)
        assert service.get_forest(run_id, "gender")["rows"] == []
    elif kind == "200 categories":
        assert len(rows) == 200
        assert {row["status"] for row in rows} <= {
            "low_n",
            "constant_group",
            "zero_variance",
        }  # pairs
        assert (
            len(
                service.analysis.get_panel(group_panels.all_forests, run_id)["data"]["gender"][
                    "rows"
                ]
            )
            == 199 * 4
        )
    elif kind in ("all missing", "never started"):
        assert {row["status"] for row in rows} == {"no_data"}
        assert [row["n_missing"] for row in rows] == [12, 12]
        assert service.get_metrics(run_id)["hist"]["shares"] == [None] * 5
        assert service.analysis.get_panel(answer_panels.data_quality, run_id)["status"] == "bad"
    elif kind == "one persona":
        assert rows[0]["status"] == "n_lt_2"
        assert service.get_order_metrics(run_id)["obe"]["ci_low"] is None
    elif kind == "only neutral":
        assert {row["status"] for row in rows} == {"no_data"}
        neutral = service.get_deltas(run_id, "gender", neutral=True)["rows"]
        assert neutral[1]["delta"] is not None
    elif kind == "unknown only":
        assert [(row["category"], row["tested"]) for row in rows] == [("Unknown", False)]
    else:
        assert {row["status"] for row in rows} == {"zero_variance"}
        assert rows[1]["delta"] == 0
        assert rows[1]["p_value"] is None


def test_personas_without_attributes_have_panels_without_tables(service, store):
    run_id = add_rated_run(store, biased, personas=[{}] * 6)
    assert service.get_metrics(run_id)["attributes"] == {}
    assert service.analysis.get_panel(group_panels.all_deltas, run_id)["data"] == {}
    assert service.analysis.get_panel(group_panels.all_forests, run_id)["data"] == {}
    assert service.analysis.get_panel(group_panels.omnibus, run_id)["attributes"] == []
    assert service.analysis.get_panel(detail_panels.adjusted_deltas, run_id)["rows"] == []
    assert service.analysis.get_panel(detail_panels.styles, run_id)["attributes"] == {}
    assert service.analysis.get_panel(detail_panels.counterfactuals, run_id)["rows"] == []


def test_an_attribute_called_rating_is_an_attribute(service, store):
    run_id = add_rated_run(store, biased, personas=people(12, rating=("f", "m")))
    for name, compute in panels(service, run_id, "rating").items():
        assert compute()["ok"], name
    assert service.get_metrics(run_id)["hist"]["counts"] != [0] * 5
    rows = service.get_deltas(run_id, "rating")["rows"]
    assert [row["category"] for row in rows] == ["f", "m"]
