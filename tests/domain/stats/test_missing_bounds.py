import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchlib.domain.errors import InvalidInput
from benchlib.domain.stats.missing_bounds import compute_manski_bounds, compute_tipping_point
from tests.domain.frames import law

means, shares = st.floats(1, 5), st.floats(0, 1)


def test_bounds_by_hand():
    # base 4 with 10 % missing: 3.6 + .1 to 3.6 + .5; category 3 with 20 %: 2.4 + .2 to 2.4 + 1
    found = compute_manski_bounds(4, 3, 0.1, 0.2)
    assert (found.low, found.high) == pytest.approx((2.6 - 4.1, 3.4 - 3.7))


@law
@given(means, means, shares, shares, means, means)
def test_bounds_hold_whatever_was_not_said(base, cat, u_base, u_cat, unsaid_base, unsaid_cat):
    found = compute_manski_bounds(base, cat, u_base, u_cat)
    true = (1 - u_cat) * cat + u_cat * unsaid_cat - (1 - u_base) * base - u_base * unsaid_base
    assert found.low - 1e-9 <= true <= found.high + 1e-9


def test_nothing_missing_leaves_the_delta():
    found = compute_manski_bounds(4, 3, 0, 0)
    assert (found.low, found.high) == (-1, -1)
    assert compute_tipping_point(-1, (-0.4,), 0, 3) is None
    assert compute_tipping_point(-1, (), 0.2, 3) is None


def test_the_tipping_point_of_a_difference():
    # delta -.5, no longer different at -.2: with a fifth missing they must lie 1.5 above the rest
    found = compute_tipping_point(-0.5, (-0.2,), 0.2, 3)
    assert found.shift == pytest.approx(1.5)
    assert found.reachable
    assert not compute_tipping_point(-0.5, (-0.2,), 0.1, 3).reachable


def test_the_nearer_limit_turns_an_equivalence():
    found = compute_tipping_point(0.02, (-0.06, 0.06), 0.1, 3)
    assert found.shift == pytest.approx(0.4)


def test_impossible_input_is_refused():
    with pytest.raises(InvalidInput, match="off the scale"):
        compute_manski_bounds(0, 3, 0.1, 0.1)
    with pytest.raises(InvalidInput, match=r"0\.\.1"):
        compute_tipping_point(0, (1.0,), 1.1, 3)
