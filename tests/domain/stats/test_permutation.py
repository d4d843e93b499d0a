import numpy as np
import pytest

from benchlib.domain.stats.permutation import compute_max_t_p
from benchlib.domain.stats.welch import compute_welch, moments_of


def test_max_t_is_stricter_than_each_trait_alone():
    rng = np.random.default_rng(6)
    base, cat = rng.normal(size=(25, 8)), rng.normal(size=(20, 8))
    cat[:, 0] += 1.5
    base[:3, 1] = np.nan
    p_max = compute_max_t_p(base, cat, np.random.default_rng(1), 999)
    alone = np.array(
        [
            compute_welch(moments_of(b[~np.isnan(b)]), moments_of(c)).p_value
            for b, c in zip(base.T, cat.T, strict=True)
        ]
    )
    assert (p_max >= alone - 0.02).all()
    assert p_max[0] < 0.05
    assert (p_max[1:] > 0.05).all()
    # one trait: nothing to correct for
    single = compute_max_t_p(base[:, 2:3], cat[:, 2:3], np.random.default_rng(1), 999)
    assert single[0] == pytest.approx(alone[2], abs=0.05)


def test_max_t_leaves_out_traits_without_a_test():
    base, cat = np.array([[3.0, 1.0], [3.0, 2.0]]), np.array([[3.0, 4.0], [3.0, 6.0]])
    p_max = compute_max_t_p(base, cat, np.random.default_rng(1), 99)
    assert np.isnan(p_max[0])
    assert 0 < p_max[1] <= 1
    nothing = compute_max_t_p(base[:, :1], cat[:, :1], np.random.default_rng(1), 99)
    assert np.isnan(nothing).all()
