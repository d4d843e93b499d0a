import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies
from scipy import stats

from benchlib.domain.analysis.cells import compute_cells
from benchlib.domain.analysis.counterfactual import (
    compute_counterfactuals,
    compute_pair_differences,
    compute_paired_delta,
)
from benchlib.domain.errors import InvalidInput
from tests.domain.frames import law
from tests.domain.oracle import close, load_case

DIFFERENCES = strategies.lists(strategies.integers(-12, 12).map(lambda k: k / 4), max_size=9)


def run_of(ratings, gender):
    """Cells of personas 1.. who rate positive traits 1.. as in the rows of a matrix."""
    ratings = np.asarray(ratings, dtype=float)
    persona, trait = (index.ravel() + 1 for index in np.indices(ratings.shape))
    frame = pd.DataFrame(
        {
            "persona_id": persona,
            "trait_id": trait,
            "case_id": [f"case {t}" for t in trait],
            "label": [f"label {t}" for t in trait],
            "trait_category": "c",
            "valence": np.int8(1),
            "scale_order": "in",
            "rating_raw": ratings.ravel(),
            "gender": pd.Categorical(np.array(gender, dtype=object)[persona - 1]),
        }
    )
    return compute_cells(frame, ["gender"])


def pairs_of(*links, attribute="gender"):
    """Links of (counterfactual, source)."""
    frame = pd.DataFrame(links, columns=["persona_id", "source_persona_id"])
    return frame.assign(changed_attribute=attribute)


# --- one change -----------------------------------------------------------------------------------


@law
@given(DIFFERENCES)
def test_paired_delta_equals_scipy(differences):
    found = compute_paired_delta(differences)
    if len(differences) < 2 or np.ptp(differences) == 0:
        assert found.sample.p_value is None
        return
    test = stats.ttest_1samp(differences, 0)
    assert found.sample.t == pytest.approx(test.statistic)
    assert found.sample.p_value == pytest.approx(test.pvalue)
    interval = test.confidence_interval()
    assert [found.sample.ci_low, found.sample.ci_high] == pytest.approx(list(interval))
    flips = stats.permutation_test(
        (np.array(differences),),
        lambda d, axis: np.abs(d.mean(axis=axis)),
        permutation_type="samples",
        alternative="greater",
        n_resamples=np.inf,
        vectorized=True,
    )
    assert found.p_signflip == pytest.approx(flips.pvalue)
    assert found.exact


@law
@given(DIFFERENCES)
def test_paired_delta_flips_with_its_sign(differences):
    found = compute_paired_delta(differences)
    mirrored = compute_paired_delta([-value for value in differences])
    assert mirrored.p_signflip == found.p_signflip
    if found.sample.mean is not None:
        assert mirrored.sample.mean == pytest.approx(-found.sample.mean)


def test_paired_delta_without_enough_pairs():
    none, one = compute_paired_delta([]), compute_paired_delta([0.5])
    assert (none.sample.status, none.sample.mean, none.p_signflip) == ("no_data", None, None)
    assert (one.sample.status, one.sample.mean, one.sample.ci_low) == ("n_lt_2", 0.5, None)


@pytest.mark.parametrize("n", [4, 100])
def test_paired_delta_of_no_difference_at_all(n):
    found = compute_paired_delta(np.zeros(n))
    assert found.p_signflip == 1
    assert (found.p_wilcoxon, found.dz, found.sample.p_value) == (None, None, None)
    assert found.sample.status == "zero_variance"


def test_paired_delta_of_the_same_difference_everywhere():
    found = compute_paired_delta([0.5] * 4)
    assert found.sample.p_value is None
    assert found.p_signflip == pytest.approx(2 / 16)


def test_sign_flips_of_many_pairs_are_drawn():
    rng = np.random.default_rng(3)
    differences = rng.normal(0.15, 1, 200)
    found = compute_paired_delta(differences, rng, n_flips=5000)
    assert not found.exact
    assert found.n_flips == 5000
    # sd of the Monte Carlo p about .003
    assert found.p_signflip == pytest.approx(found.sample.p_value, abs=0.015)
    assert compute_paired_delta(differences).p_signflip is None


def test_pair_differences_use_traits_rated_on_both_sides():
    source = [[1, 2, np.nan], [1, np.nan, np.nan]]
    changed = [[2, np.nan, 5], [2, 3, 4]]
    # first pair: one of three traits on both sides, too few
    assert np.isnan(compute_pair_differences(source, changed)).tolist() == [True, True]
    assert compute_pair_differences([[1, 2]], [[2, np.nan]]).tolist() == [1]


# --- all changes of a dataset ---------------------------------------------------------------------


def test_counterfactuals_by_hand():
    cells = run_of(
        [[3, 3], [4, 4], [2, 3], [3, 4], [5, 5], [4, 5]],
        ["female", "male", "female", "male", "male", "female"],
    )
    found = compute_counterfactuals(cells, pairs_of((2, 1), (4, 3), (6, 5)))
    forth, back = found["rows"]
    assert (forth["source_category"], forth["category"]) == ("female", "male")
    # differences +1 and +1
    assert (forth["n_pairs"], forth["delta"], forth["status"]) == (2, 1.0, "zero_variance")
    assert forth["mean_source"] == pytest.approx(2.75)
    assert forth["mean_counterfactual"] == pytest.approx(3.75)
    assert (back["category"], back["n_sources"]) == ("female", 1)
    assert back["delta"] == pytest.approx(-0.5)
    assert back["ci_low"] is None
    assert found["family_size"] == 0
    assert found["n_pairs"] == 3


def test_several_counterfactuals_of_one_source_count_once():
    ratings = [[3], [4], [5], [3], [3.0]]
    cells = run_of(ratings, ["a", "b", "b", "a", "b"])
    (row,) = compute_counterfactuals(cells, pairs_of((2, 1), (3, 1), (5, 4)))["rows"]
    # source 1: mean of +1 and +2; source 4: 0
    assert (row["n_pairs"], row["n_sources"]) == (3, 2)
    assert row["delta"] == pytest.approx(0.75)


def test_counterfactuals_of_every_trait():
    cells = run_of([[3, 1], [4, 1], [2, 2], [4, 2]], ["a", "b", "a", "b"])
    first, second = compute_counterfactuals(cells, pairs_of((2, 1), (4, 3)))["by_trait"]
    assert (first["case_id"], first["delta"], first["n_sources"]) == ("case 1", 1.5, 2)
    test = stats.ttest_1samp([1, 2], 0)
    assert first["p_value"] == pytest.approx(test.pvalue)
    assert first["q_value"] == pytest.approx(test.pvalue)  # the other trait has no test
    assert second["status"] == "zero_variance"


def test_counterfactuals_drop_pairs_without_answers():
    cells = run_of([[3, 3], [4, 4]], ["a", "b"])
    found = compute_counterfactuals(cells, pairs_of((2, 1), (2, 99)))
    assert (found["n_pairs"], found["n_dropped"]) == (1, 1)
    empty = compute_counterfactuals(cells, pairs_of())
    assert empty["rows"] == empty["by_trait"] == []


def test_counterfactual_q_values_cover_all_rows():
    rng = np.random.default_rng(1)
    gender = ["abc"[i % 3] for i in range(60)]
    cells = run_of(rng.integers(1, 6, (60, 5)), gender)
    links = [(i + 2, i + 1) for i in range(0, 57, 3)] + [(i + 3, i + 1) for i in range(0, 57, 3)]
    rows = compute_counterfactuals(cells, pairs_of(*links), rng=rng)["rows"]
    assert [row["category"] for row in rows] == ["b", "c"]
    q_values = stats.false_discovery_control([row["p_value"] for row in rows])
    assert [row["q_value"] for row in rows] == pytest.approx(q_values)


def test_counterfactual_input_is_checked():
    cells = run_of([[3, 3], [4, 4]], ["a", "b"])
    with pytest.raises(InvalidInput, match="origin"):
        compute_counterfactuals(cells, pairs_of((2, 1), attribute="origin"))
    with pytest.raises(InvalidInput, match="source_persona_id"):
        compute_counterfactuals(cells, pd.DataFrame({"persona_id": [1]}))


def test_paired_delta_of_the_worked_case():
    case = load_case("counterfactual_paired")
    differences = compute_pair_differences(case.input["source"], case.input["counterfactual"])
    found = compute_paired_delta(differences)
    sample = found.sample
    assert {
        "pair_means": differences.tolist(),
        "n_pairs": sample.n,
        "delta": sample.mean,
        "se": sample.se,
        "df": sample.df,
        "t": sample.t,
        "p": sample.p_value,
        "ci_low": sample.ci_low,
        "ci_high": sample.ci_high,
        "p_signflip_exact": found.p_signflip,
        "p_wilcoxon_pratt": found.p_wilcoxon,
        "dz": found.dz,
    } == close(case.expected, case.tolerance)


def test_counterfactuals_of_the_worked_case():
    case = load_case("counterfactual_paired")
    ratings = np.concatenate([case.input["source"], case.input["counterfactual"]])
    cells = run_of(ratings, ["a"] * 8 + ["b"] * 8)
    (row,) = compute_counterfactuals(cells, pairs_of(*((i + 9, i + 1) for i in range(8))))["rows"]
    assert row["delta"] == case.approx("delta")
    assert row["ci_high"] == case.approx("ci_high")
    assert row["p_signflip"] == case.approx("p_signflip_exact")
    assert row["p_wilcoxon"] == case.approx("p_wilcoxon_pratt")
    assert row["mean_source"] == pytest.approx(np.mean(case.input["source"]))
    assert row["mean_counterfactual"] == pytest.approx(np.mean(case.input["counterfactual"]))
