"""What a planned run can find."""

import pytest

from benchlib.application.analysis import detail_panels
from benchlib.application.analysis.power_plan import PowerQuery
from benchlib.domain.errors import InvalidInput, NotFound
from benchlib.domain.stats.power import compute_run_plan
from tests.application.analysis.rated_panels import (
    GROUPS,
    biased,
)
from tests.rated_runs import add_rated_run, people
from tests.samples import get_run


def test_planning_counts_no_counterfactual_as_a_persona(service, store):
    personas = people(20, gender=("f", "m"))
    paired = add_rated_run(
        store,
        biased,
        personas=personas + personas,
        sources={i: (i - 20, "gender") for i in range(20, 40)},
    )
    dataset_id = get_run(store, paired).dataset_id
    plan = service.analysis.get_power_plan(PowerQuery(dataset_id=dataset_id, dual_fraction=0.0))
    assert (plan["n_personas"], plan["n_questions"]) == (40, 160)
    assert plan["attributes"][0]["n_base"] == 10


def test_planning_tells_the_smallest_effect_per_attribute(service, store):
    run_id = add_rated_run(store, biased, personas=people(60, **GROUPS))
    dataset_id = get_run(store, run_id).dataset_id
    plan = service.analysis.get_power_plan(PowerQuery(dataset_id=dataset_id, dual_fraction=0.0))
    assert (plan["n_personas"], plan["n_traits"], plan["n_questions"]) == (60, 4, 240)
    gender, origin = plan["attributes"]
    assert (gender["baseline"], gender["n_base"]) == ("f", 40)
    # f against m, n against e and s; all traits and two trait categories
    assert (plan["n_trait_sets"], plan["n_tests"]) == (3, 9)
    alone = service.analysis.get_power_plan(PowerQuery(dataset_id=dataset_id, n_trait_categories=1))
    assert (alone["n_trait_sets"], alone["n_tests"]) == (1, 3)  # its only category repeats it
    expected = compute_run_plan(40, 20, 4, n_tests=9)
    assert gender["mde_corrected_worst"] == pytest.approx(expected["mde_corrected"])
    assert gender["half_width"] == pytest.approx(expected["half_width"])
    assert gender["mde"] == pytest.approx(expected["mde"])
    assert gender["categories"][0]["power_at_delta"] == pytest.approx(expected["power_at_delta"])
    assert [row["category"] for row in origin["categories"]] == ["e", "s"]  # n is the baseline
    assert plan["sd_source"] == "default"


def test_planning_takes_spreads_from_a_run_or_a_person(service, store, run_id):
    dataset_id = get_run(store, run_id).dataset_id
    parts = service.analysis.get_panel(detail_panels.variance_components, run_id)
    like = service.analysis.get_power_plan(
        PowerQuery(dataset_id=dataset_id, n_traits=30, like_run_id=run_id)
    )
    assert like["sd_source"] == "run"
    cells = parts["n_personas"] * parts["n_traits"] - parts["n_missing"]
    kept = 1 - (parts["n_ratings"] / cells - 1) / 2
    residual = like["sd_persona_trait"] ** 2 + like["sd_residual"] ** 2 * kept
    assert residual == pytest.approx(parts["var_resid"])
    given = service.analysis.get_power_plan(
        PowerQuery(dataset_id=dataset_id, n_traits=30, sd_persona=0.5)
    )
    assert (given["sd_source"], given["sd_persona"], given["sd_residual"]) == ("given", 0.5, 0.8)
    with pytest.raises(NotFound):
        service.analysis.get_power_plan(PowerQuery(dataset_id=99))


def test_planning_needs_a_trait_with_a_valence(service, store):
    run_id = add_rated_run(
        store, lambda *_: 3, personas=people(4, gender=("f", "m")), valences=(0, 0)
    )
    with pytest.raises(InvalidInput, match="No active trait has a valence"):
        service.analysis.get_power_plan(PowerQuery(dataset_id=get_run(store, run_id).dataset_id))


def test_planning_an_attribute_without_categories(service, store):
    run_id = add_rated_run(store, lambda *_: 3, personas=people(4, gender=("Unknown",), one=("a",)))
    plan = service.analysis.get_power_plan(PowerQuery(dataset_id=get_run(store, run_id).dataset_id))
    gender, one = plan["attributes"]
    assert (gender["baseline"], gender["mde"], gender["categories"]) == (None, None, [])
    assert (one["baseline"], one["mde"], one["mde_worst"]) == ("a", None, None)
