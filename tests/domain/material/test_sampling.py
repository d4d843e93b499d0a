from collections import Counter
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats.contingency import association

from benchlib.domain.errors import InvalidInput
from benchlib.domain.material.personas import PersonaDraft, age_group
from benchlib.domain.material.sampling import (
    balanced_positions,
    counterfactual_drafts,
    factorial_drafts,
    pool_positions,
    reality_positions,
)
from tests.domain.frames import law


def rng(seed=1):
    return np.random.default_rng(seed)


def frame(**attributes):
    n_rows = len(next(iter(attributes.values())))
    ids = {"persona_id": range(n_rows), "uuid": [f"p{i}" for i in range(n_rows)], "age": 30}
    return pd.DataFrame({**ids, **attributes}).astype(dict.fromkeys(attributes, "category"))


GENDERS = frame(gender=["f"] * 6 + ["m"] * 3 + ["Unknown"] * 2, origin=list("xyxyxyxyxyx"))


def test_a_pool_is_all_or_those_that_fit():
    assert pool_positions(GENDERS).tolist() == list(range(11))
    where = {"gender": ["f", "m"], "origin": ["y"]}
    assert pool_positions(GENDERS, where).tolist() == [1, 3, 5, 7]


def test_balanced_takes_as_many_of_each_known_category():
    chosen = GENDERS.iloc[balanced_positions(GENDERS, "gender", rng())]
    assert chosen["gender"].astype("str").value_counts().to_dict() == {"f": 3, "m": 3}
    again = balanced_positions(GENDERS, "gender", rng())
    assert again.tolist() == chosen["persona_id"].tolist()


def test_balanced_says_what_is_missing():
    with pytest.raises(InvalidInput, match='"m" in gender has 3 personas, fewer than the 4'):
        balanced_positions(GENDERS, "gender", rng(), 4)
    with pytest.raises(InvalidInput, match='no attribute "shoe"; there are gender and origin'):
        balanced_positions(GENDERS, "shoe", rng())


@law
@given(
    st.lists(st.sampled_from("abc"), min_size=3, max_size=60).filter(lambda v: len(set(v)) == 3),
    st.integers(0, 9),
)
def test_balanced_is_balanced(values, seed):
    chosen = balanced_positions(frame(x=values), "x", rng(seed))
    counts = Counter(values[place] for place in chosen)
    assert set(counts.values()) == {min(Counter(values).values())}
    assert len(set(chosen.tolist())) == len(chosen)


def test_reality_meets_the_margins():
    values = rng(5)
    pool = frame(
        gender=values.choice(["f", "m"], 5_000), region=values.choice(["n", "s", "w"], 5_000)
    )
    shares = {"gender": {"f": 0.7, "m": 0.3}, "region": {"n": 0.1, "s": 0.6, "w": 0.3}}
    chosen = pool.iloc[reality_positions(pool, shares, 1_000, rng())]
    assert len(chosen) == chosen["persona_id"].nunique() == 1_000
    for attribute, wanted in shares.items():
        counts = chosen[attribute].value_counts()
        for category, share in wanted.items():
            assert abs(counts[category] - share * 1_000) <= 2


def test_reality_leaves_out_what_is_not_named():
    chosen = reality_positions(GENDERS, {"gender": {"f": 1.0}}, 6, rng())
    assert chosen.tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("shares", "n", "text"),
    [
        ({}, 3, "at least one attribute"),
        ({"gender": {"f": 0.5, "m": 0.4}}, 3, "sum to 0.9; they must sum to 1"),
        ({"gender": {"f": 1.5, "m": -0.5}}, 3, "between 0 and 1"),
        ({"gender": {"f": 0.1, "m": 0.9}}, 10, '9 personas with gender "m" are asked for, and'),
        ({"gender": {"f": 0.5, "d": 0.5}}, 4, "the pool has 0"),
        ({"gender": {"f": 1.0}}, 12, "1 to 11 personas"),
        ({"shoe": {"f": 1.0}}, 3, "no attribute"),
    ],
)
def test_reality_says_what_is_missing(shares, n, text):
    with pytest.raises(InvalidInput, match=text):
        reality_positions(GENDERS, shares, n, rng())


def test_reality_says_when_all_shares_together_cannot_be_met():
    # All f are x, so f 80 % and x 20 % exclude each other.
    pool = frame(gender=["f"] * 50 + ["m"] * 50, origin=["x"] * 50 + ["y"] * 50)
    with pytest.raises(InvalidInput, match="cannot give all shares at once"):
        reality_positions(
            pool, {"gender": {"f": 0.8, "m": 0.2}, "origin": {"x": 0.2, "y": 0.8}}, 40, rng()
        )


def test_a_full_crossing_has_every_combination_once():
    drafts = factorial_drafts({"a": ["1", "2"], "b": ["x", "y", "z"]}, rng())
    assert {tuple(draft.attributes.values()) for draft in drafts} == {
        (a, b) for a in "12" for b in "xyz"
    }
    assert len(drafts) == 6 == len({draft.uuid for draft in drafts})


def test_more_personas_repeat_the_crossing():
    drafts = factorial_drafts({"a": ["1", "2"], "b": ["x", "y"]}, rng(), 10)
    counts = Counter(tuple(draft.attributes.values()) for draft in drafts)
    assert min(counts.values()) == 2
    assert sum(counts.values()) == 10
    assert len({draft.uuid for draft in drafts}) == 10


@law
@given(st.lists(st.integers(2, 6), min_size=1, max_size=5), st.integers(1, 80), st.integers(0, 99))
def test_a_fraction_has_equal_margins(levels, n_personas, seed):
    factors = {f"f{i}": [str(level) for level in range(n)] for i, n in enumerate(levels)}
    drafts = factorial_drafts(factors, rng(seed), n_personas)
    assert len(drafts) == n_personas
    for name, categories in factors.items():
        counts = Counter(draft.attributes[name] for draft in drafts)
        assert max(counts.values()) - min(counts[c] for c in categories) <= max(
            1,
            -(-n_personas // np.prod(levels)),  # repeats of the crossing plus a fraction
        )


def test_a_fraction_is_nearly_orthogonal():
    factors = {f"f{i}": [str(x) for x in range(n)] for i, n in enumerate([2, 3, 4, 5, 6, 10])}
    drafts = factorial_drafts(factors, rng(), 240)
    columns = [[draft.attributes[name] for draft in drafts] for name in factors]
    tables = [pd.crosstab(np.array(a), np.array(b)) for a, b in combinations(columns, 2)]
    assert max(association(table, method="cramer") for table in tables) < 0.1


def test_ages_are_spread_within_their_groups():
    drafts = factorial_drafts({"age_group": ["10-19", "65+"]}, rng(), 40, youngest=18)
    counts = Counter(draft.age for draft in drafts)
    assert counts[18] == counts[19] == 10
    assert all(age_group(draft.age) == draft.attributes["age_group"] for draft in drafts)
    assert len([age for age in counts if age >= 65]) == 20


@pytest.mark.parametrize(
    ("factors", "n", "text"),
    [
        ({}, None, "at least one attribute"),
        ({"a": ["x", "x"]}, None, "each of them once"),
        ({"a": []}, None, "needs 1 to 200"),
        ({"age_group": ["0-9"]}, None, "no age group with ages from 18 on"),
        ({f"f{i}": list("abcdefghij") for i in range(6)}, None, "full crossing has 1,000,000"),
        ({"a": ["x"]}, 0, "1 to 100,000 are allowed"),
    ],
)
def test_factorial_designs_that_cannot_be(factors, n, text):
    with pytest.raises(InvalidInput, match=text):
        factorial_drafts(factors, rng(), n, youngest=18)


def sources(values, **more):
    return [PersonaDraft(f"s{i}", {"x": v, "o": "1"}, **more) for i, v in enumerate(values)]


def test_counterfactuals_change_one_attribute_and_name_their_source():
    everybody = counterfactual_drafts(sources("abcabc"), "x", "abc", rng())
    originals, copies = everybody[:6], everybody[6:]
    assert [d.source_uuid for d in originals] == [None] * 6
    assert [d.source_uuid for d in copies] == [d.uuid for d in originals]
    for source, copy in zip(originals, copies, strict=True):
        assert copy.changed_attribute == "x"
        assert copy.attributes["x"] != source.attributes["x"]
        assert copy.attributes["o"] == "1"
        assert list(copy.attributes) == ["x", "o"]
    # six ordered pairs of three categories, each once
    pairs = {(s.attributes["x"], c.attributes["x"]) for s, c in zip(originals, copies, strict=True)}
    assert len(pairs) == 6
    assert len({draft.uuid for draft in everybody}) == 12


def test_every_other_category_on_request():
    everybody = counterfactual_drafts(sources("a"), "x", "abc", rng(), every=True)
    assert [draft.attributes["x"] for draft in everybody] == ["a", "b", "c"]


def test_a_changed_age_group_changes_the_age():
    source = PersonaDraft("s", {"age_group": "20-29"}, 25)
    _, copy = counterfactual_drafts([source], "age_group", ("20-29", "65+"), rng())
    assert age_group(copy.age) == "65+"


@pytest.mark.parametrize(
    ("values", "categories", "text"),
    [("a", "a", "at least two"), ("", "ab", "at least one source"), ("c", "ab", "none of")],
)
def test_counterfactuals_that_cannot_be(values, categories, text):
    with pytest.raises(InvalidInput, match=text):
        counterfactual_drafts(sources(values), "x", categories, rng())
