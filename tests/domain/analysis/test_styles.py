import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

from benchlib.domain.analysis.answer_grid import AnswerGrid
from benchlib.domain.analysis.cells import compute_cells
from benchlib.domain.analysis.distributions import (
    compute_distribution_summary,
    compute_rating_distributions,
    describe_distributions,
)
from benchlib.domain.analysis.styles import compute_missing_rates, compute_response_styles
from benchlib.domain.errors import InvalidInput
from benchlib.domain.simulation.planted import PlantedDesign
from benchlib.domain.simulation.response_model import PlantedModel
from tests.domain.oracle import close, load_case


def long_frame(rows):
    """Rows of (persona, group, trait, valence, scale order, raw rating)."""
    frame = pd.DataFrame(
        rows, columns=["persona_id", "group", "trait_id", "valence", "scale_order", "rating_raw"]
    )
    raw = frame["rating_raw"].astype(float)
    before = raw.where(frame["scale_order"] == "in", 6 - raw)
    return frame.assign(
        rating_raw=raw,
        case_id=frame["trait_id"].astype(str),
        label=frame["trait_id"].astype(str),
        trait_category=pd.Categorical(["c"] * len(frame)),
        group=frame["group"].astype("category"),
        rating=before.where(frame["valence"] != -1, 6 - before),
    )


def styles_of(frame, **options):
    return compute_response_styles(
        AnswerGrid.from_frame(frame), compute_cells(frame, ["group"]), **options
    )


def level(styles, style):
    return next(row for row in styles["levels"] if row["style"] == style)


def row(styles, style, category):
    rows = styles["attributes"]["group"]["rows"]
    return next(row for row in rows if (row["style"], row["category"]) == (style, category))


def test_styles_by_hand():
    # As asked (5 = "very"): a1 pos 5, neg 4; a2 pos 4, neg 3; b1 pos 3, neg 2; b2 pos 4, neg 1
    frame = long_frame(
        [
            (1, "a", 1, 1, "in", 5),
            (1, "a", 2, -1, "in", 4),
            (2, "a", 1, 1, "in", 4),
            (2, "a", 2, -1, "in", 3),
            (3, "b", 1, 1, "in", 3),
            (3, "b", 2, -1, "in", 2),
            (4, "b", 1, 1, "in", 4),
            (4, "b", 2, -1, "in", 1),
        ]
    )
    styles = styles_of(frame)
    # acquiescence (5+4)/2-3 = 1.5, .5, -.5, -.5
    assert level(styles, "acquiescence")["level"] == pytest.approx(0.25)
    assert row(styles, "acquiescence", "a")["level"] == pytest.approx(1.0)
    assert row(styles, "acquiescence", "b")["delta"] == pytest.approx(-1.5)
    # extreme 1/2, 0, 0, 1/2; midpoint 0, 1/2, 1/2, 0
    assert level(styles, "extreme")["level"] == pytest.approx(0.25)
    assert row(styles, "extreme", "b")["delta"] == pytest.approx(0.0)
    assert level(styles, "midpoint")["level"] == pytest.approx(0.25)
    # two against two: of 6 assignments 2 are as far apart
    assert row(styles, "acquiescence", "b")["p_value"] == pytest.approx(2 / 6)
    assert row(styles, "acquiescence", "b")["perm_exact"] is True


def test_style_deltas_equal_welch_on_persona_values_in_a_balanced_run():
    frame = PlantedDesign(n_personas=150, dual_fraction=0, missing_share=0).simulate(2)
    styles = styles_of(frame)
    extreme = frame["rating_raw"].isin([1, 5]).groupby(frame["persona_id"]).mean()
    group = frame.groupby("persona_id")["group"].first()
    test = stats.ttest_ind(extreme[group == "b"], extreme[group == "a"], equal_var=False)
    found = row(styles, "extreme", "b")
    # centring takes nothing away: every persona rates every trait
    assert found["p_value"] == pytest.approx(test.pvalue)
    assert found["level"] == pytest.approx(extreme[group == "b"].mean())
    assert [found["ci_low"], found["ci_high"]] == pytest.approx(test.confidence_interval())


def test_acquiescence_ignores_the_scale_order():
    # everybody answers "quite" (4 of 5), whatever is asked
    rows = [
        (persona, "a", trait, valence, order, 4 if order == "in" else 2)
        for persona in range(4)
        for trait, valence in ((1, 1), (2, -1))
        for order in ("in", "rev")
    ]
    found = level(styles_of(long_frame(rows)), "acquiescence")
    assert found["level"] == pytest.approx(1.0)
    assert found["ci_low"] is None
    assert found["status"] == "zero_variance"


@pytest.mark.parametrize("valence", [1, -1, 0])
def test_acquiescence_needs_traits_of_both_valences(valence):
    styles = styles_of(long_frame([(p, "ab"[p % 2], 1, valence, "in", p + 1) for p in range(4)]))
    assert level(styles, "acquiescence")["level"] is None
    assert level(styles, "acquiescence")["status"] == "no_data"
    assert row(styles, "acquiescence", "b")["p_value"] is None
    assert level(styles, "extreme")["level"] == pytest.approx(0.25)


def test_styles_leave_out_personas_with_few_ratings():
    frame = PlantedDesign(n_personas=20, missing_share=0).simulate(1)
    sparse = frame[(frame["persona_id"] != 3) | (frame["trait_id"] <= 10)]
    assert level(styles_of(frame), "extreme")["n_personas"] == 20
    assert level(styles_of(sparse), "extreme")["n_personas"] == 19


def test_style_tests_are_corrected_as_one_family():
    styles = styles_of(PlantedDesign(n_personas=90).simulate(4), alpha=0.2)
    rows = [r for r in styles["attributes"]["group"]["rows"] if r["tested"]]
    assert styles["family_size"] == len(rows) == 6
    q_values = stats.false_discovery_control([r["p_value"] for r in rows])
    assert [r["q_value"] for r in rows] == pytest.approx(q_values)
    assert [r["significant"] for r in rows] == [q < 0.2 for q in q_values]


def test_styles_compare_with_the_wanted_baseline():
    frame = PlantedDesign(n_personas=30).simulate(4)
    other = styles_of(frame, baselines={"group": "b"})
    assert other["attributes"]["group"]["baseline"] == "b"
    flipped = row(other, "extreme", "a")["delta"]
    assert flipped == pytest.approx(-row(styles_of(frame), "extreme", "b")["delta"])
    with pytest.raises(InvalidInput):
        styles_of(frame, baselines={"group": "nobody"})


def test_styles_of_nothing():
    frame = PlantedDesign(n_personas=3).simulate(1).iloc[:0]
    styles = styles_of(frame)
    assert [r["level"] for r in styles["levels"]] == [None, None, None]
    assert styles["family_size"] == 0


def test_a_rater_that_always_says_3():
    quiet = PlantedModel(
        effects={}, persona_sd=0, trait_sd=0, position_bias=0, acquiescence=0, residual_sd=0
    )
    styles = styles_of(PlantedDesign(model=quiet, n_personas=30).simulate(1))
    assert level(styles, "midpoint")["level"] == 1
    assert level(styles, "extreme")["level"] == 0
    assert level(styles, "acquiescence")["level"] == 0
    assert {r["status"] for r in styles["attributes"]["group"]["rows"]} == {"zero_variance"}
    assert styles["family_size"] == 0


# --- missing ratings ------------------------------------------------------------------------------


def missing_of(frame):
    return compute_missing_rates(AnswerGrid.from_frame(frame), compute_cells(frame, ["group"]))


def test_missing_rates_by_hand():
    rows = [(p, "ab"[p % 2], t, 1, "in", 3.0) for p in range(6) for t in range(4)]
    frame = long_frame(rows)
    # persona 1 (b) loses two of four answers, persona 0 (a) one
    lost = frame.index[(frame["persona_id"] == 1) & (frame["trait_id"] < 2)].tolist()
    lost += frame.index[(frame["persona_id"] == 0) & (frame["trait_id"] == 0)].tolist()
    frame.loc[lost, ["rating", "rating_raw"]] = np.nan
    found = missing_of(frame)
    assert level(found, "missing")["level"] == pytest.approx(3 / 24)
    # Variances of a, .25 0 0, and b, .5 0 0, are 1/48 and 4/48, pooled 2.5/48; a is floored at
    # (4 x 2.5 + 2 x 1)/6 = 2/48. se2 = (2 + 4)/(3 x 48), df = (2 + 4)^2 / ((2^2 + 4^2)/2) = 3.6
    p_value = 2 * stats.t.sf(0.25 / 3 / (6 / 144) ** 0.5, 3.6)
    assert row(found, "missing", "b")["delta"] == pytest.approx(0.25 / 3)
    assert row(found, "missing", "b")["p_value"] == pytest.approx(p_value)


def test_nothing_missing_is_no_test():
    found = missing_of(PlantedDesign(n_personas=12, missing_share=0).simulate(1))
    assert level(found, "missing")["level"] == 0
    assert row(found, "missing", "b")["status"] == "zero_variance"
    assert row(found, "missing", "b")["p_value"] is None


def test_personas_without_any_rating_count_as_missing():
    frame = long_frame(
        [(p, "a", t, 1, "in", np.nan if p == 0 else 3.0) for p in range(4) for t in (1, 2)]
    )
    assert level(missing_of(frame), "missing")["level"] == 0.25


# --- distributions --------------------------------------------------------------------------------


def test_distribution_of_a_certain_answer():
    found = compute_rating_distributions([[None, None, 0.0, None, None]])
    assert found.probabilities.tolist() == [[0, 0, 1, 0, 0]]
    assert (found.expected[0], found.variance[0], found.entropy[0]) == (3, 0, 0)
    assert (found.mass[0], found.mode[0]) == (1, 3)
    assert not found.is_low_mass[0]


def test_distribution_of_an_indifferent_answer():
    found = compute_rating_distributions([[np.log(0.16)] * 5])
    assert found.probabilities[0] == pytest.approx([0.2] * 5)
    assert (found.expected[0], found.variance[0]) == pytest.approx((3, 2))
    assert found.entropy_norm[0] == pytest.approx(1)
    assert found.mass[0] == pytest.approx(0.8)
    assert found.is_low_mass[0]


def test_distribution_on_the_reversed_scale_is_turned_round():
    logprobs = np.log([[0.5, 0.2, 0.1, 0.1, 0.1]] * 2)
    found = compute_rating_distributions(logprobs, [False, True])
    assert found.probabilities[1] == pytest.approx(found.probabilities[0][::-1])
    assert found.expected[0] + found.expected[1] == pytest.approx(6)
    assert found.mode.tolist() == [1, 5]
    assert found.entropy[0] == pytest.approx(found.entropy[1])


def test_distribution_without_any_digit_is_undefined():
    found = compute_rating_distributions([[None] * 5, [float("-inf")] * 5])
    assert np.isnan(found.expected).all()
    assert found.mode.tolist() == [0, 0]
    assert found.mass.tolist() == [0, 0]
    assert compute_distribution_summary(found)["expected"] is None


def test_stored_distributions_are_renormalised():
    found = describe_distributions([[0.2, 0.2, 0.1, 0, 0], [0] * 5], mass=[0.5, 0.0])
    assert found.probabilities[0] == pytest.approx([0.4, 0.4, 0.2, 0, 0])
    assert found.p_extreme[0] == pytest.approx(0.4)
    assert np.isnan(found.expected[1])


def test_distribution_summary_splits_the_variance_of_drawn_digits():
    found = describe_distributions([[1, 0, 0, 0, 0], [0, 0, 0, 0.5, 0.5]], mass=[0.95, 0.8])
    summary = compute_distribution_summary(found)
    # expected 1 and 4.5, variances 0 and .25: between 1.75^2 = 3.0625, within .125
    assert summary["variance_of_expected"] == pytest.approx(3.0625)
    assert summary["variance"] == pytest.approx(3.1875)
    assert summary["sampling_share"] == pytest.approx(0.125 / 3.1875)
    assert summary["low_mass_share"] == 0.5
    assert summary["mode_share"] == pytest.approx(0.75)
    assert summary["probabilities"] == pytest.approx([0.5, 0, 0, 0.25, 0.25])


def test_distribution_summary_of_nothing():
    summary = compute_distribution_summary(describe_distributions(np.empty((0, 5))))
    assert summary["n"] == 0
    assert summary["probabilities"] == [None] * 5


def test_distributions_equal_softmax():
    logprobs = np.random.default_rng(0).normal(-3, 2, (50, 5))
    found = compute_rating_distributions(logprobs)
    assert found.probabilities == pytest.approx(special.softmax(logprobs, axis=1))
    assert found.entropy == pytest.approx(stats.entropy(found.probabilities, axis=1))


def test_distribution_of_the_worked_case():
    case = load_case("rating_distribution")
    in_reverse = case.input["scale_order"] == "rev"
    found = compute_rating_distributions([case.input["logprobs"]], in_reverse)
    assert {
        "prob": found.probabilities[0].tolist(),
        "digit_mass": found.mass[0],
        "expected": found.expected[0],
        "variance": found.variance[0],
        "entropy_nats": found.entropy[0],
        "entropy_norm": found.entropy_norm[0],
        "mode": found.mode[0],
        "p_extreme": found.p_extreme[0],
    } == close(case.expected, case.tolerance)
