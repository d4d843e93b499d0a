"""How well two answers to the same question agree, from tables of counts.

A table is (K, K): rows the answer in one scale order, columns the answer in the other one after
undoing the reversal, so that the diagonal holds the consistent pairs. Several pairs come from one
persona and are not independent, so intervals come from leaving out one persona at a time.
"""

from typing import Final, Literal, TypedDict

import numpy as np
import scipy
from numpy.typing import ArrayLike

from benchlib.domain.arrays import FloatArray, IntArray
from benchlib.domain.stats.welch import CONFIDENCE, none_if_nan, t_quantile
from benchlib.domain.vocabulary import N_POINTS

KappaWeights = Literal["none", "linear", "quadratic"]

KAPPA_WEIGHTS: Final[tuple[KappaWeights, ...]] = ("none", "linear", "quadratic")

_ROUNDING: Final = 1e-12


class Estimate(TypedDict):
    """A number with its 95 % interval; None = undefined."""

    value: float | None
    se: float | None
    ci_low: float | None
    ci_high: float | None


class ChiSquareTest(TypedDict):
    """A test that treats pairs as independent: its p is descriptive only."""

    chi2: float | None
    df: int
    p_value: float | None


class Agreement(TypedDict):
    """Agreement of two answers; intervals from the delete-one-persona jackknife.

    All but the two tests lie in -1..1, 1 = identical answers, 0 = chance level (kappa, alpha)
    or no relation (correlations). They are None where the answers do not vary.
    """

    kappa: dict[KappaWeights, Estimate]
    icc_a1: Estimate
    icc_c1: Estimate
    alpha_ordinal: Estimate
    alpha_interval: Estimate
    pearson: Estimate
    spearman: Estimate
    kendall: Estimate
    bowker: ChiSquareTest
    stuart_maxwell: ChiSquareTest


def compute_agreement(tables: ArrayLike) -> Agreement:
    """Describe the agreement of pairs, with the persona as the unit of replication.

    Args:
        tables: (G, K, K) counts of pairs, one table per persona; personas without a pair are left
            out.

    Returns:
        Every statistic of the pooled table. The interval is value +- t(G-1) * se, cut at +-1; it
        is None below two personas, and if leaving some persona out leaves nothing to compute.
    """
    counts = np.asarray(tables, dtype=np.float64)
    counts = counts[counts.sum(axis=(1, 2)) > 0]
    pooled = counts.sum(axis=0)
    values = compute_table_statistics(pooled)
    left_out = compute_table_statistics(pooled - counts) if len(counts) > 1 else {}

    def estimate(name: str) -> Estimate:
        return _jackknife(float(values[name]), left_out.get(name))

    return {
        "kappa": {weights: estimate(f"kappa_{weights}") for weights in KAPPA_WEIGHTS},
        "icc_a1": estimate("icc_a1"),
        "icc_c1": estimate("icc_c1"),
        "alpha_ordinal": estimate("alpha_ordinal"),
        "alpha_interval": estimate("alpha_interval"),
        "pearson": estimate("pearson"),
        "spearman": estimate("spearman"),
        "kendall": estimate("kendall"),
        "bowker": compute_bowker(pooled),
        "stuart_maxwell": compute_stuart_maxwell(pooled),
    }


def compute_persona_tables(
    personas: IntArray, first: IntArray, second: IntArray, n_points: int = N_POINTS
) -> FloatArray:
    """Count the pairs of each persona.

    Args:
        personas: (n,) persona of each pair, 0..G-1.
        first: (n,) first answer, 1..n_points.
        second: (n,) second answer on the same scale, 1..n_points.
        n_points: Scale length K.

    Returns:
        (G, K, K) counts; G = 0 without pairs.
    """
    n_personas = int(personas.max()) + 1 if len(personas) else 0
    code = (personas * n_points + first - 1) * n_points + second - 1
    counts = np.bincount(code, minlength=n_personas * n_points**2)
    return counts.reshape(n_personas, n_points, n_points).astype(np.float64)


def compute_table_statistics(tables: ArrayLike) -> dict[str, FloatArray]:
    """Compute agreement and correlation for many tables at once.

    Sources: kappa Cohen (1968), weights 1, |i-j|, (i-j)^2 for disagreement; ICC(A,1) and ICC(C,1)
    McGraw & Wong (1996) with two raters; alpha Krippendorff (2011), ordinal and interval metric;
    Pearson; Spearman on midranks; Kendall's tau-b (1945).

    Args:
        tables: (..., K, K) counts.

    Returns:
        `kappa_none`, `kappa_linear`, `kappa_quadratic`, `icc_a1`, `icc_c1`, `alpha_ordinal`,
        `alpha_interval`, `pearson`, `spearman`, `kendall`, each of shape (...); NaN = undefined,
        which is any of them if all answers are the same, and correlations if one side is constant.
    """
    counts = np.asarray(tables, dtype=np.float64)
    rows, columns = counts.sum(axis=-1), counts.sum(axis=-2)
    n = rows.sum(axis=-1)
    points = np.arange(1.0, counts.shape[-1] + 1)
    gap = np.abs(points[:, None] - points[None, :])
    chance = rows[..., :, None] * columns[..., None, :]
    statistics: dict[str, FloatArray] = {}
    for name, weight in (("none", gap > 0), ("linear", gap), ("quadratic", gap**2)):
        observed, expected = _total(counts * weight) * n, _total(chance * weight)
        statistics[f"kappa_{name}"] = 1 - _divide(observed, expected)
    statistics |= _intraclass(counts, rows, columns, n, points)
    for metric in ("ordinal", "interval"):
        statistics[f"alpha_{metric}"] = _alpha(counts, rows + columns, n, gap, metric)
    statistics["pearson"] = _correlation(counts, rows, columns, n, points, points)
    statistics["spearman"] = _correlation(
        counts, rows, columns, n, _midranks(rows), _midranks(columns)
    )
    statistics["kendall"] = _tau_b(counts, rows, columns, n)
    return statistics


def compute_bowker(table: ArrayLike) -> ChiSquareTest:
    """Bowker's test (1948) that disagreements go either way equally often.

    Args:
        table: (K, K) counts.

    Returns:
        Chi-square with one degree of freedom per pair of opposite cells that holds an answer; None
        without any disagreement.
    """
    counts = np.asarray(table, dtype=np.float64)
    upper, lower = np.triu_indices(len(counts), 1)
    above, below = counts[upper, lower], counts[lower, upper]
    filled = above + below > 0
    if not filled.any():
        return {"chi2": None, "df": 0, "p_value": None}
    chi2 = float((np.square(above - below)[filled] / (above + below)[filled]).sum())
    return _chi_square(chi2, int(filled.sum()))


def compute_stuart_maxwell(table: ArrayLike) -> ChiSquareTest:
    """Stuart-Maxwell test (1955, 1970) that both orders use the points equally often.

    Args:
        table: (K, K) counts.

    Returns:
        Chi-square with K - 1 degrees of freedom, fewer where points are unused; None without any
        disagreement.
    """
    counts = np.asarray(table, dtype=np.float64)
    rows, columns = counts.sum(axis=1), counts.sum(axis=0)
    covariance = np.diag(rows + columns) - counts - counts.T
    rank = int(np.linalg.matrix_rank(covariance, hermitian=True)) if counts.any() else 0
    if rank == 0:
        return {"chi2": None, "df": 0, "p_value": None}
    difference = rows - columns
    inverse = np.linalg.pinv(covariance, hermitian=True)
    return _chi_square(float(difference @ inverse @ difference), rank)


def _chi_square(chi2: float, df: int) -> ChiSquareTest:
    return {"chi2": chi2, "df": df, "p_value": float(scipy.stats.chi2.sf(chi2, df))}


def _jackknife(value: float, left_out: FloatArray | None) -> Estimate:
    if left_out is None or np.isnan(value) or np.isnan(left_out).any():
        return {"value": none_if_nan(value), "se": None, "ci_low": None, "ci_high": None}
    n = len(left_out)
    se = float(np.sqrt((n - 1) / n * np.square(left_out - left_out.mean()).sum()))
    if se < _ROUNDING:
        return {"value": value, "se": 0.0, "ci_low": None, "ci_high": None}
    reach = float(t_quantile(n - 1, CONFIDENCE)) * se
    return {
        "value": value,
        "se": se,
        "ci_low": max(-1.0, value - reach),
        "ci_high": min(1.0, value + reach),
    }


def _total(values: FloatArray) -> FloatArray:
    return np.asarray(values.sum(axis=(-2, -1)))


def _divide(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """The quotient, NaN where the denominator vanishes."""
    vanishes = np.abs(denominator) < _ROUNDING
    quotient = numerator / np.where(vanishes, 1.0, denominator)
    return np.asarray(np.where(vanishes, np.nan, quotient))


def _central_sums(
    counts: FloatArray,
    rows: FloatArray,
    columns: FloatArray,
    n: FloatArray,
    x: FloatArray,
    y: FloatArray,
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Mean difference y - x, and the sums of squares and products around the means."""
    safe = np.maximum(n, 1)
    x_mean, y_mean = (rows * x).sum(axis=-1) / safe, (columns * y).sum(axis=-1) / safe
    x_gap = np.asarray(x - x_mean[..., None])
    y_gap = np.asarray(y - y_mean[..., None])
    s_xx = (rows * x_gap**2).sum(axis=-1)
    s_yy = (columns * y_gap**2).sum(axis=-1)
    s_xy = _total(counts * x_gap[..., :, None] * y_gap[..., None, :])
    return y_mean - x_mean, s_xx, s_yy, s_xy


def _intraclass(
    counts: FloatArray, rows: FloatArray, columns: FloatArray, n: FloatArray, points: FloatArray
) -> dict[str, FloatArray]:
    shift, s_xx, s_yy, s_xy = _central_sums(counts, rows, columns, n, points, points)
    df = np.where(n > 1, n - 1, np.nan)
    between = (s_xx + s_yy + 2 * s_xy) / 2 / df
    residual = (s_xx + s_yy - 2 * s_xy) / 2 / df
    raters = n * shift**2 / 2
    absolute = between + residual + 2 / np.maximum(n, 1) * (raters - residual)
    return {
        "icc_a1": _divide(between - residual, absolute),
        "icc_c1": _divide(between - residual, between + residual),
    }


def _alpha(
    counts: FloatArray, values: FloatArray, n: FloatArray, gap: FloatArray, metric: str
) -> FloatArray:
    """Krippendorff's alpha from the counts of all values, both answers of a pair included."""
    if metric == "interval":
        distance = np.asarray(gap**2)
    else:
        upto = np.cumsum(values, axis=-1) - values / 2
        distance = np.square(upto[..., :, None] - upto[..., None, :])
    expected = _total(values[..., :, None] * values[..., None, :] * distance)
    return 1 - _divide((2 * n - 1) * 2 * _total(counts * distance), expected)


def _midranks(margin: FloatArray) -> FloatArray:
    return np.asarray(np.cumsum(margin, axis=-1) - (margin - 1) / 2)


def _correlation(
    counts: FloatArray,
    rows: FloatArray,
    columns: FloatArray,
    n: FloatArray,
    x: FloatArray,
    y: FloatArray,
) -> FloatArray:
    _, s_xx, s_yy, s_xy = _central_sums(counts, rows, columns, n, x, y)
    return _divide(s_xy, np.sqrt(s_xx * s_yy))


def _tau_b(counts: FloatArray, rows: FloatArray, columns: FloatArray, n: FloatArray) -> FloatArray:
    # below[i, j] = pairs with a smaller row and a smaller column; right[i, j] = larger column
    strictly_before = np.cumsum(counts, axis=-2) - counts
    smaller = np.cumsum(strictly_before, axis=-1) - strictly_before
    larger = strictly_before.sum(axis=-1, keepdims=True) - smaller - strictly_before
    score = _total(counts * (smaller - larger))
    pairs = n * (n - 1) / 2
    tied_rows = (rows * (rows - 1) / 2).sum(axis=-1)
    tied_columns = (columns * (columns - 1) / 2).sum(axis=-1)
    return _divide(score, np.sqrt((pairs - tied_rows) * (pairs - tied_columns)))
