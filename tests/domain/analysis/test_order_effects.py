import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given, strategies
from scipy import stats

from benchlib.domain.analysis.answer_grid import AnswerGrid
from benchlib.domain.analysis.order_effects import compute_order_effect_metrics
from benchlib.domain.analysis.order_pairs import compute_cluster_mean, compute_order_pairs
from benchlib.domain.simulation.planted import PlantedDesign
from benchlib.domain.simulation.response_model import PlantedModel
from tests.domain.frames import law, long_frame
from tests.domain.oracle import close, load_case
from tests.domain.pairs import PAIRS, QUIET, numbers_in


def pair_frame(pairs):
    """A long frame of (persona, trait, raw in, raw rev)."""
    rows = [
        row
        for persona, trait, first, second in pairs
        for row in ((persona, trait, "in", first), (persona, trait, "rev", second))
    ]
    frame = pd.DataFrame(rows, columns=["persona_id", "trait_id", "scale_order", "rating_raw"])
    return frame.assign(
        case_id=frame["trait_id"].map("trait {}".format),
        label=frame["trait_id"].map("label {}".format),
        trait_category=pd.Categorical(["even" if t % 2 == 0 else "odd" for t in frame["trait_id"]]),
        valence=1,
    )


def order_metrics(frame):
    return compute_order_effect_metrics(AnswerGrid.from_frame(frame))


@law
@given(
    strategies.lists(
        strategies.tuples(strategies.integers(0, 4), strategies.integers(-4, 4)), min_size=3
    )
)
def test_cluster_mean_equals_a_clustered_regression(rows):
    _, clusters = np.unique([cluster for cluster, _ in rows], return_inverse=True)
    values = np.array([float(value) for _, value in rows])
    found = compute_cluster_mean(values, clusters)
    assert found.mean == pytest.approx(values.mean())
    if clusters.max() < 1:
        assert found.se is None
        return
    model = sm.OLS(values, np.ones(len(values)))
    fit = model.fit(cov_type="cluster", cov_kwds={"groups": clusters}, use_t=True)
    assert found.se == pytest.approx(fit.bse[0], abs=1e-9)
    if found.ci_low is not None:
        assert [found.ci_low, found.ci_high] == pytest.approx(fit.conf_int()[0], abs=1e-6)


def test_two_way_interval_equals_statsmodels():
    frame = PlantedDesign(n_personas=40).simulate(3)
    pairs = compute_order_pairs(AnswerGrid.from_frame(frame))
    gap = pairs.difference
    fit = sm.OLS(gap, np.ones(len(gap))).fit(
        cov_type="cluster",
        cov_kwds={"groups": np.column_stack([pairs.personas, pairs.traits])},
        use_t=True,
    )
    found = order_metrics(frame)["obe"]
    width = found["two_way_ci_high"] - found["two_way_ci_low"]
    assert width == pytest.approx(2 * stats.t.ppf(0.975, 29) * fit.bse[0], rel=1e-6)


def test_order_panel_by_hand():
    frame = pair_frame([(0, 0, 4, 2), (0, 1, 5, 5), (1, 0, 3, 4), (1, 1, 1, 5)])
    # differences in - (6 - rev): 0, 4, 1, 0; by persona 4 and 1
    found = order_metrics(frame)
    assert found["n_pairs"] == 4
    assert found["n_personas"] == 2
    assert found["rma"]["exact_rate"] == 0.5
    assert found["rma"]["mae"] == 1.25
    assert found["rma"]["cliffs_delta"] == 0.5
    assert found["test_retest"]["within1_rate"] == 0.75
    assert found["test_retest"]["mean_abs_diff"] == 1.25
    assert found["obe"]["mean_diff"] == 1.25
    assert found["obe"]["position_shift"] == 0.625
    # persona sums of deviations: 4 - 2.5 and 1 - 2.5; se = sqrt(2 * (1.5^2 + 1.5^2)) / 4 = .75
    assert found["obe"]["se"] == pytest.approx(0.75)
    assert found["obe"]["ci_high"] == pytest.approx(1.25 + 12.7062047 * 0.75)
    # answers of the pairs: 4 4, 5 1, 3 2, 1 1
    assert found["usage"]["eei"] == 4 / 8
    assert found["usage"]["mni"] == 1 / 8
    assert found["usage"]["sv"] == pytest.approx(np.var([4, 4, 5, 1, 3, 2, 1, 1], ddof=1))
    assert found["digits"]["counts_in"] == [1, 0, 1, 1, 1]
    assert found["digits"]["counts_rev"] == [0, 1, 0, 1, 2]
    assert found["status"] == "low_n"


def test_order_panel_counts_pairs_by_both_answers():
    frame = pair_frame([(0, 0, 4, 2), (0, 1, 5, 5), (1, 0, 3, 4), (1, 1, 1, 5), (2, 0, 4, 2)])
    # in x (6 - rev): 4 4, 5 1, 3 2, 1 1, 4 4
    assert order_metrics(frame)["table"] == [
        [1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
        [0, 1, 0, 0, 0],
        [0, 0, 0, 2, 0],
        [1, 0, 0, 0, 0],
    ]
    assert order_metrics(frame.iloc[:0])["table"] == [[0] * 5] * 5


def test_order_panel_by_trait_reads_consistency_not_raw_distance():
    frame = pair_frame([(0, 0, 1, 5), (1, 0, 1, 5), (0, 1, 5, 5), (1, 1, 5, 5)])
    rows = {row["case_id"]: row for row in order_metrics(frame)["by_case"]}
    assert rows["trait 0"]["abs_diff"] == 0  # 1 and 5 on the reversed scale say the same
    assert rows["trait 0"]["rma"] == 1
    assert rows["trait 1"]["abs_diff"] == 4
    assert rows["trait 1"]["mean_in"] == rows["trait 1"]["mean_rev"] == 5
    assert rows["trait 1"]["label"] == "label 1"
    assert rows["trait 1"]["ci_low"] is None  # two equal differences


def test_order_panel_by_trait_category():
    frame = pair_frame([(0, 0, 1, 5), (1, 2, 4, 3), (0, 1, 5, 5)])
    even, odd = order_metrics(frame)["by_trait_category"]
    assert (even["trait_category"], even["n"], even["abs_diff"]) == ("even", 2, 0.5)
    assert (odd["trait_category"], odd["n"], odd["abs_diff"]) == ("odd", 1, 4)
    assert odd["ci_low"] is None


def test_order_panel_puts_traits_without_a_category_last():
    frame = pair_frame([(0, 0, 1, 5), (0, 1, 5, 5)])
    frame["trait_category"] = pd.Categorical([None, None, "x", "x"])
    rows = order_metrics(frame)["by_trait_category"]
    assert [row["trait_category"] for row in rows] == ["x", "Unknown"]


@pytest.mark.parametrize(
    "rows", [[], [(0, 0, "in", 3.0, 1)], [(0, 0, "in", 3.0, 1), (0, 0, "rev", None, 1)]]
)
def test_order_panel_without_pairs_is_undefined_but_complete(rows):
    found = order_metrics(long_frame(rows))
    complete = order_metrics(pair_frame([(0, 0, 1, 5)]))
    assert found.keys() == complete.keys()
    assert found["status"] == "no_data"
    assert found["n_pairs"] == 0
    assert found["by_case"] == found["by_trait_category"] == []
    assert numbers_in(found) == []


def test_order_panel_of_one_persona_has_no_intervals():
    found = order_metrics(pair_frame([(0, 0, 4, 2), (0, 1, 5, 5)]))
    assert found["status"] == "n_lt_2"
    assert found["obe"]["mean_diff"] == 2
    assert found["obe"]["ci_low"] is None
    assert found["obe"]["two_way_ci_low"] is None
    assert found["agreement"]["kappa"]["none"]["ci_low"] is None


@law
@given(PAIRS)
def test_order_panel_never_holds_a_number_that_is_none(pairs):
    found = order_metrics(pair_frame(pairs))
    assert np.isfinite(numbers_in(found)).all()


@law
@given(PAIRS)
def test_consistent_pairs_agree_exactly(pairs):
    consistent = [(persona, trait, first, 6 - first) for persona, trait, first, _ in pairs]
    found = order_metrics(pair_frame(consistent))
    assert found["rma"]["exact_rate"] == (1 if pairs else None)
    assert found["agreement"]["kappa"]["quadratic"]["value"] in (None, pytest.approx(1))


@law
@given(PAIRS)
def test_order_panel_ignores_row_order(pairs):
    frame = pair_frame(pairs)
    found = order_metrics(frame)
    backwards = order_metrics(frame[::-1])
    assert numbers_in(backwards) == pytest.approx(numbers_in(found), abs=1e-12)


def order_panel_of(**habits):
    design = PlantedDesign(model=PlantedModel(**(QUIET | habits)), n_personas=30)
    return order_metrics(design.simulate(1))


def test_a_rater_that_always_says_3_is_consistent_but_says_nothing():
    found = order_panel_of()
    assert found["rma"]["exact_rate"] == 1
    assert found["agreement"]["kappa"]["quadratic"]["value"] is None
    assert found["correlation"]["kendall"] is None
    assert found["obe"]["ci_low"] is None
    assert found["status"] == "zero_variance"


def test_a_rater_that_always_picks_the_first_option_is_never_consistent():
    found = order_panel_of(position_bias=-100)
    assert found["rma"]["exact_rate"] == 0
    assert found["rma"]["mae"] == 4
    assert found["obe"]["position_shift"] == -2
    assert found["agreement"]["kappa"]["quadratic"]["value"] == 0


def test_a_consistent_rater_agrees_perfectly():
    found = order_panel_of(persona_sd=0.8, trait_sd=0.8)
    assert found["rma"]["exact_rate"] == 1
    assert found["agreement"]["kappa"]["quadratic"]["value"] == pytest.approx(1)
    assert found["obe"]["mean_diff"] == 0


def test_order_panel_of_the_worked_case():
    case = load_case("order_effect")
    personas = {name: i for i, name in enumerate(sorted({p for p, *_ in case.input["pairs"]}))}
    frame = pair_frame(
        [(personas[p], int(t[1:]), first, second) for p, t, first, second in case.input["pairs"]]
    )
    found = order_metrics(frame)
    flat = {
        "n_pairs": found["n_pairs"],
        "n_personas": found["n_personas"],
        "exact": found["rma"]["exact_rate"],
        "within1": found["test_retest"]["within1_rate"],
        "mae": found["rma"]["mae"],
        "mean_diff": found["obe"]["mean_diff"],
        "sd_diff": found["obe"]["sd"],
        "se_cluster": found["obe"]["se"],
        "ci_low": found["obe"]["ci_low"],
        "ci_high": found["obe"]["ci_high"],
        "position_shift": found["obe"]["position_shift"],
        "loa_low": found["obe"]["loa_low"],
        "loa_high": found["obe"]["loa_high"],
    }
    gap = compute_order_pairs(AnswerGrid.from_frame(frame)).difference
    flat["se_iid"] = compute_cluster_mean(gap, np.arange(len(gap))).se
    assert flat == close(case.expected, case.tolerance)
