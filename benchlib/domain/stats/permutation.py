"""A strict correction of many traits: personas permuted between groups, the largest |t| counted."""

from typing import Final

import numpy as np

from benchlib.domain.arrays import FloatArray
from benchlib.domain.stats.welch import compute_moments, compute_welch

DEFAULT_N_PERM: Final = 2_000
MAX_ASSIGNMENTS: Final = 20_000
"""Up to this many assignments (signs, in pairs) all of them are enumerated."""

_BLOCK_VALUES = 6_000_000
_TIE = 1e-9


def compute_max_t_p(
    base: FloatArray,
    cat: FloatArray,
    rng: np.random.Generator,
    n_perm: int = DEFAULT_N_PERM,
) -> FloatArray:
    """Permute personas over two groups and compare every trait with the largest |t| of all traits.

    Controls the probability of any false flag among the traits (Westfall & Young, single step).
    All traits of a persona move together, so their correlation is respected.

    Args:
        base: (n, T) cells of the baseline's personas; NaN = missing.
        cat: (m, T) cells of the category's personas.
        rng: Source of the draws.
        n_perm: Number of draws B.

    Returns:
        (T,) adjusted p, (b + 1) / (B + 1); NaN for a trait without a Welch test.
    """
    cells = np.concatenate([base, cat])
    codes = np.repeat([0, 1], [len(base), len(cat)])
    moments = compute_moments(cells, codes, 2)
    observed = compute_welch(moments.at(0), moments.at(1)).t ** 2
    tested = np.isfinite(observed)
    p_values = np.full(observed.shape, np.nan)
    if not tested.any():
        return p_values
    cells, observed = cells[:, tested], observed[tested]
    rated = (~np.isnan(cells)).astype(np.float64)
    values = np.where(rated > 0, cells - np.nanmean(cells, axis=0), 0.0)
    squares = values**2
    n_all, sum_all, square_all = rated.sum(axis=0), values.sum(axis=0), squares.sum(axis=0)
    n_rows = max(1, min(n_perm, 200, _BLOCK_VALUES // len(cells)))
    block = np.tile(codes.astype(np.float64), (n_rows, 1))
    hits = np.zeros(len(observed), dtype=np.int64)
    for begin in range(0, n_perm, n_rows):
        rows = block[: min(n_rows, n_perm - begin)]
        rng.permuted(rows, axis=1, out=rows)
        n, total, square = rows @ rated, rows @ values, rows @ squares
        gap, part = _gap_and_part(n, total, square)
        other_gap, other_part = _gap_and_part(n_all - n, sum_all - total, square_all - square)
        with np.errstate(divide="ignore", invalid="ignore"):
            t_square = (gap - other_gap) ** 2 / (part + other_part)
        largest = np.nan_to_num(t_square, nan=0.0, posinf=np.inf).max(axis=1)
        hits += (largest[:, None] >= observed * (1 - _TIE)).sum(axis=0)
    p_values[tested] = (hits + 1) / (n_perm + 1)
    return p_values


def _gap_and_part(
    n: FloatArray, total: FloatArray, square: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Mean and squared standard error of groups from their sums; NaN below two values."""
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = total / n
        part = np.maximum(square / n - mean**2, 0) / np.where(n > 1, n - 1, np.nan)
    return mean, part
