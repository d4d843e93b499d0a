import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchlib.domain.asking.work_plan import CompletedKeys, count_items, pack_key, work_plan
from benchlib.domain.records import PersonaRecord, TraitRecord
from benchlib.domain.vocabulary import SCALE_ORDERS


def make_personas(n, first_id=1):
    return [PersonaRecord(first_id + i, f"persona-{i}", {}) for i in range(n)]


def make_traits(n):
    return [
        TraitRecord(i + 1, f"trait-{i}", {"en": "kind"}, {"en": "?"}, "warmth", 1) for i in range(n)
    ]


def keys(personas, traits, *, completed=None, scale_mode="random50", dual_fraction=0.0, seed=7):
    plan = work_plan(
        personas,
        traits,
        scale_mode=scale_mode,
        dual_fraction=dual_fraction,
        seed=seed,
        completed=completed or CompletedKeys.none(),
    )
    return [(i.persona.id, i.trait.id, i.scale_order) for i in plan]


def test_every_pair_is_asked_once_grouped_by_persona():
    asked = keys(make_personas(3), make_traits(2), scale_mode="in")
    assert asked == [(p, t, "in") for p in (1, 2, 3) for t in (1, 2)]


def test_rev_shows_only_the_reversed_scale():
    assert {k[2] for k in keys(make_personas(4), make_traits(4), scale_mode="rev")} == {"rev"}


def test_random50_splits_the_pairs_in_half_and_does_not_depend_on_the_order_of_work():
    personas, traits = make_personas(200), make_traits(30)
    asked = keys(personas, traits)
    share_in = np.mean([k[2] == "in" for k in asked])
    # 6,000 fair coins: three standard deviations are 3 * 0.5 / sqrt(6000) = 0.019
    assert abs(share_in - 0.5) < 0.02
    assert sorted(keys(personas[::-1], traits[::-1])) == sorted(asked)
    assert sorted(keys(personas, traits, seed=8)) != sorted(asked)


def test_random50_is_balanced_within_each_trait_and_persona():
    asked = keys(make_personas(400), make_traits(25))
    for axis, n in ((1, 400), (0, 25)):
        by = {}
        for key in asked:
            by.setdefault(key[axis], []).append(key[2] == "in")
        worst = max(abs(np.mean(v) - 0.5) for v in by.values())
        assert worst < 4.5 * 0.5 / np.sqrt(n)


@pytest.mark.parametrize("scale_mode", ["in", "rev", "random50"])
@pytest.mark.parametrize(
    ("fraction", "n_dual"), [(0, 0), (0.2, 24), (0.33, 40), (0.5, 60), (1, 120)]
)
def test_the_dual_quota_is_exact(fraction, n_dual, scale_mode):
    # 12 personas x 10 traits = 120 pairs; floor(0.33 * 120 + 0.5) = 40
    asked = keys(make_personas(12), make_traits(10), dual_fraction=fraction, scale_mode=scale_mode)
    assert len(asked) == len(set(asked)) == 120 + n_dual == count_items(12, 10, fraction)
    both = {k[:2] for k in asked if k[2] == "in"} & {k[:2] for k in asked if k[2] == "rev"}
    assert len(both) == n_dual


def test_dual_pairs_are_spread_evenly_over_personas():
    asked = keys(make_personas(50), make_traits(10), dual_fraction=0.25)
    per_persona = np.bincount([k[0] for k in asked])[1:] - 10
    assert set(per_persona) == {2, 3}  # 2.5 each


@given(st.integers(1, 8), st.integers(1, 6), st.floats(0, 1), st.randoms(use_true_random=False))
def test_what_is_completed_is_left_out_and_nothing_else(n_personas, n_traits, fraction, rng):
    personas, traits = make_personas(n_personas, first_id=5), make_traits(n_traits)
    full = keys(personas, traits, dual_fraction=fraction)
    done = [k for k in full if rng.random() < 0.5]
    packed = np.array(sorted(pack_key(p, t, SCALE_ORDERS.index(o)) for p, t, o in done), np.int64)
    rest = keys(personas, traits, dual_fraction=fraction, completed=CompletedKeys(packed))
    assert rest == [k for k in full if k not in set(done)]


def test_a_plan_is_streamed():
    def endless():
        yield from make_personas(1)
        raise AssertionError("the plan read ahead")

    plan = work_plan(
        endless(),
        make_traits(2),
        scale_mode="in",
        dual_fraction=0,
        seed=0,
        completed=CompletedKeys.none(),
    )
    assert [next(plan).trait.id, next(plan).trait.id] == [1, 2]


def test_without_traits_or_personas_there_is_nothing_to_ask():
    assert keys([], make_traits(3)) == []
    assert keys(make_personas(3), []) == []
