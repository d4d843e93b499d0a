from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, strategies
from scipy import stats

from benchlib.domain.analysis.cells import compute_cells
from benchlib.domain.analysis.persona_scores import compute_grouping, compute_persona_scores
from benchlib.domain.errors import InvalidInput
from benchlib.domain.simulation.planted import PlantedDesign
from benchlib.domain.simulation.response_model import PlantedModel
from tests.domain.frames import law

WOMAN = {"gender": "female", "religion": "none"}


def ask(model, personas, traits, orders=(False, True)):
    """Answers of every persona to every trait in the given orders, shape (P, T, orders)."""
    who, what, place = (index.ravel() for index in np.indices((len(personas), len(traits), 2)))
    keep = place < len(orders)
    in_reverse = np.array(orders)[place[keep]]
    return model.rate(personas, traits, who[keep], what[keep], in_reverse)


def test_an_answer_depends_on_nothing_but_its_names():
    model = PlantedModel(seed=3)
    personas = [model.persona(f"uuid-{i}", WOMAN) for i in range(5)]
    traits = [model.trait(f"trait-{i}", "warmth", (-1, 0, 1)[i % 3]) for i in range(7)]
    together = ask(model, personas, traits)
    n = 0
    for persona in personas:
        for trait in traits:
            for in_reverse in (False, True):
                again = PlantedModel(seed=3)
                alone = again.rate([persona], [trait], [0], [0], [in_reverse])
                assert alone.rating_raw[0] == together.rating_raw[n]
                assert alone.latent[0] == pytest.approx(together.latent[n], abs=1e-12)
                n += 1


def test_answers_stay_the_same_between_versions():
    # Golden: what this model answered when it was written. Any change here makes stored simulated
    # runs impossible to repeat or resume.
    model = PlantedModel(effects={"gender": {"female": 0.25}})
    personas = [model.persona(name, WOMAN) for name in ("a", "b")]
    traits = [model.trait(f"t{i}", "warmth", 1) for i in range(10)]
    answers = ask(model, personas, traits)
    assert "".join(map(str, answers.rating_raw)) == "4251343352315233444152515454515251323441"


@law
@given(
    strategies.integers(0, 2**31),
    strategies.text(min_size=1),
    strategies.text(min_size=1),
    strategies.sampled_from([-1, 0, 1]),
    strategies.booleans(),
)
def test_probabilities_are_those_of_a_rounded_normal(seed, key, case_id, valence, in_reverse):
    model = PlantedModel(seed=seed)
    answer = model.rate(
        [model.persona(key, WOMAN)],
        [model.trait(case_id, "warmth", valence)],
        [0],
        [0],
        [in_reverse],
    )
    assert answer.probabilities.sum() == pytest.approx(1, abs=1e-12)
    assert 1 <= answer.rating_raw[0] <= 5
    noise = stats.norm(answer.latent[0], 0.8)
    expected = np.diff([0, *noise.cdf([1.5, 2.5, 3.5, 4.5]), 1])
    assert answer.probabilities[0] == pytest.approx(expected, abs=1e-12)
    assert answer.expected_raw[0] == pytest.approx(expected @ [1, 2, 3, 4, 5])


def test_digits_follow_their_probabilities():
    model = PlantedModel(persona_sd=0, spread_log_sd=0)
    personas = [model.persona(str(i), {}) for i in range(4000)]
    answers = ask(model, personas, [model.trait("t", "c", 1)], orders=(False,))
    observed = np.bincount(answers.rating_raw, minlength=6)[1:]
    assert stats.chisquare(observed, 4000 * answers.probabilities[0]).pvalue > 1e-3


def test_offsets_and_levels_have_the_planted_spread():
    model = PlantedModel(persona_sd=0.4, trait_sd=0.6, spread_log_mean=0.15, spread_log_sd=0.2)
    personas = [model.persona(str(i), {}) for i in range(2000)]
    assert stats.kstest([p.offset / 0.4 for p in personas], "norm").pvalue > 1e-3
    logs = [(np.log(p.spread) - 0.15) / 0.2 for p in personas]
    assert stats.kstest(logs, "norm").pvalue > 1e-3
    assert abs(stats.pearsonr([p.offset for p in personas], logs).statistic) < 0.1
    levels = [model.trait(str(i), "c", 1).level / 0.6 for i in range(2000)]
    assert stats.kstest(levels, "norm").pvalue > 1e-3


def test_effects_shift_the_latent_by_valence():
    model = PlantedModel(
        effects={"gender": {"female": 0.25}}, slope_sd=0, spread_log_mean=0, spread_log_sd=0
    )
    traits = [model.trait(f"t{v}", "c", v) for v in (1, -1, 0)]
    woman, other = (model.persona("same", {"gender": g}) for g in ("female", "a stranger"))
    shift = ask(model, [woman], traits).latent - ask(model, [other], traits).latent
    # in, rev for the positive, the negative, the neutral trait
    assert shift == pytest.approx([0.25, -0.25, -0.25, 0.25, 0, 0])


def test_a_gain_scales_the_effects_of_a_trait_category():
    model = PlantedModel(
        effects={"gender": {"female": 0.2}},
        trait_category_gain={"warmth": 2.0},
        slope_sd=0,
        spread_log_mean=0,
        spread_log_sd=0,
    )
    persona, other = model.persona("x", {"gender": "female"}), model.persona("x", {})
    trait = [model.trait("t", "warmth", 1)]
    shift = ask(model, [persona], trait).latent - ask(model, [other], trait).latent
    assert shift == pytest.approx([0.4, -0.4])


def test_slopes_differ_by_trait_and_category_but_not_by_persona():
    model = PlantedModel(effects={"g": {"b": 0.1, "c": 0.1}}, persona_sd=0, spread_log_sd=0)
    traits = [model.trait(str(i), "c", 1) for i in range(3)]
    personas = [model.persona(str(i), {"g": g}) for i, g in enumerate("bbc")]
    latent = ask(model, personas, traits, orders=(False,)).latent.reshape(3, 3)
    assert latent[0] == pytest.approx(latent[1])
    assert (abs(latent[0] - latent[2]) > 1e-6).all()


def test_no_question_no_answer():
    model = PlantedModel()
    answers = model.rate([], [], [], [], [])
    assert answers.probabilities.shape == (0, 5)
    assert answers.rating_raw.size == 0


@pytest.mark.parametrize("wrong", [{"persona_sd": -1}, {"position_bias": float("nan")}])
def test_parameters_are_checked(wrong):
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        PlantedModel(**wrong)


def test_effects_are_found_whatever_the_case():
    effects = {"gender": {"female": 0.25}}
    assert PlantedModel(effects=effects).persona("x", {"gender": "Female"}).effect == 0.25
    with pytest.raises(InvalidInput, match="lower case"):
        PlantedModel(effects={"gender": {"Female": 0.25}})


def test_designs_are_checked():
    with pytest.raises(InvalidInput, match="sum to 1"):
        PlantedDesign(shares={"a": 0.5})
    with pytest.raises(InvalidInput, match="fraction"):
        PlantedDesign(dual_fraction=1.5)


def test_a_simulated_run_has_the_planned_shape():
    design = PlantedDesign(n_personas=100)
    frame = design.simulate(1)
    assert frame["persona_id"].nunique() == 100
    assert frame.drop_duplicates("persona_id")["group"].value_counts().to_dict() == {
        "a": 40,
        "b": 35,
        "c": 25,
    }
    keys = frame[["persona_id", "trait_id", "scale_order"]]
    assert not keys.duplicated().any()
    # 3000 cells, 1.3 questions each, 3 % lost
    assert len(frame) == pytest.approx(3000 * 1.3 * 0.97, rel=0.03)
    before = frame["rating_raw"].where(frame["scale_order"] == "in", 6 - frame["rating_raw"])
    assert (frame["rating_pre_valence"] == before).all()
    assert (frame["rating"] == before.where(frame["valence"] != -1, 6 - before)).all()


def test_a_simulated_run_repeats_with_its_seed():
    design = PlantedDesign(n_personas=20)
    assert design.simulate(5).equals(design.simulate(5))
    assert not design.simulate(5).equals(design.simulate(6))


def test_missing_answers_may_stay_as_rows():
    design = PlantedDesign(n_personas=50, missing_share=0.2)
    frame = design.simulate(1, keep_missing=True, with_expected=True)
    lost = frame["rating"].isna()
    assert lost.mean() == pytest.approx(0.2, abs=0.05)
    for name in ("rating_raw", "rating_pre_valence", "expected_raw"):
        assert lost.equals(frame[name].isna())
    assert (~lost).sum() == len(design.simulate(1))


def test_truth_is_what_a_huge_run_measures():
    design = PlantedDesign(
        n_personas=40_000, n_positive=2, n_negative=2, n_neutral=1, shares={"a": 0.5, "c": 0.5}
    )
    truth = design.truth()
    frame = design.simulate(11)
    cells = compute_cells(frame, ["group"])
    scores = compute_persona_scores(cells)
    grouping = compute_grouping(cells, "group")
    base, cat = (scores.z[grouping.members(g)] for g in "ac")
    se = np.hypot(np.nanstd(base), np.nanstd(cat)) / np.sqrt(20_000)
    assert np.nanmean(cat) - np.nanmean(base) == pytest.approx(truth.delta["c"], abs=4 * se)
    # Four answers of 16,000 personas each: shares within four standard errors of about .005.
    for group in "ac":
        answers = frame.loc[frame["group"] == group, "rating_raw"]
        assert answers.isin([1, 5]).mean() == pytest.approx(truth.extreme_share[group], abs=0.01)
        assert (answers == 3).mean() == pytest.approx(truth.midpoint_share[group], abs=0.01)
    wide = frame.pivot(index=["persona_id", "trait_id"], columns="scale_order", values="rating_raw")
    gap = (wide["in"] - (6 - wide["rev"])).dropna()
    assert gap.mean() == pytest.approx(truth.order_mean_diff, abs=0.03)
    assert gap.abs().mean() == pytest.approx(truth.order_mae, abs=0.02)
    assert (gap == 0).mean() == pytest.approx(truth.order_exact, abs=0.01)
    assert (gap.abs() <= 1).mean() == pytest.approx(truth.order_within1, abs=0.01)


def test_truth_agrees_with_itself():
    truth = PlantedDesign().truth()
    for group in "bc":
        assert np.mean(truth.trait_delta[group]) == pytest.approx(truth.delta[group])
        gap = truth.group_means[group] - truth.group_means["a"]
        assert gap == pytest.approx(truth.delta[group])
        assert np.sign(truth.cliffs_delta[group]) == np.sign(truth.delta[group])
    assert truth.order_exact < truth.order_within1
    assert truth.acquiescence["c"] - truth.acquiescence["a"] > 0


def test_truth_without_effects_is_zero():
    model = replace(PlantedDesign().model, effects={}, acquiescence_effects={})
    truth = PlantedDesign(model).truth()
    assert truth.delta == pytest.approx({"b": 0, "c": 0}, abs=1e-12)
    assert truth.cliffs_delta == pytest.approx({"b": 0, "c": 0}, abs=1e-12)
    assert truth.acquiescence["c"] == pytest.approx(truth.acquiescence["a"], abs=1e-12)


def test_a_truth_known_by_hand():
    # No spread between personas, no noise: everyone answers 3 + content, rounded.
    silent = {"persona_sd": 0, "trait_sd": 0, "slope_sd": 0, "spread_log_mean": 0}
    model = PlantedModel(
        effects={"group": {"b": 1.0}},
        position_bias=0,
        acquiescence=0,
        spread_log_sd=0,
        residual_sd=0,
        **silent,
    )
    design = PlantedDesign(model=model, shares={"a": 0.5, "b": 0.5}, n_neutral=0)
    truth = design.truth()
    assert truth.group_means == pytest.approx({"a": 3, "b": 4})
    assert truth.cliffs_delta == pytest.approx({"b": 1})
    assert (truth.order_exact, truth.kappa_quadratic) == pytest.approx((1, 1))
    assert replace(design, n_personas=4).simulate(0)["rating"].isin([3, 4]).all()
