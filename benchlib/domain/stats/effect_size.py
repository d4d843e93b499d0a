"""Intervals of standardised differences, and the share of spread that is heterogeneity."""

from dataclasses import dataclass

import numpy as np
import scipy

from benchlib.domain.arrays import FloatArray
from benchlib.domain.stats.welch import CONFIDENCE, Moments, compute_hedges_g

_HALVINGS = 80


@dataclass(frozen=True, slots=True, eq=False)
class StandardisedInterval:
    """Hedges' g with its exact 95 % interval under normal scores; NaN = undefined."""

    g: FloatArray
    ci_low: FloatArray
    ci_high: FloatArray


def compute_hedges_g_interval(base: Moments, cat: Moments) -> StandardisedInterval:
    """Give Hedges' g the interval of the noncentral t distribution.

    The t of equal variances is noncentral with df = n + m - 2; the noncentralities under which it
    lies at the 2.5 and 97.5 % points, times sqrt(1/n + 1/m) and the small-sample factor of
    `compute_hedges_g`, are the ends (Steiger & Fouladi 1997; R's effectsize::hedges_g). Unlike
    the normal interval it is right for few personas and for large g.

    Args:
        base: Moments of the baselines.
        cat: Moments of the categories, broadcastable against `base`.

    Returns:
        NaN below two personas in a group or if both groups are constant.
    """
    g = compute_hedges_g(base, cat).g
    df = np.asarray(base.n + cat.n - 2, dtype=np.float64)
    valid = np.isfinite(g)
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.where(valid, 1 - 3 / (4 * df - 1), np.nan)
        unit = np.sqrt(1 / base.n + 1 / cat.n)
        t = np.where(valid, g / factor / unit, np.nan)
    df = np.where(valid, df, np.nan)
    tail = (1 - CONFIDENCE) / 2
    low, high = (noncentrality_of_t(level, df, t) for level in (1 - tail, tail))
    return StandardisedInterval(g=g, ci_low=low * unit * factor, ci_high=high * unit * factor)


def noncentrality_of_t(level: float, df: FloatArray, t: FloatArray) -> FloatArray:
    """The noncentrality with which Student's t falls below `t` with probability `level`.

    Returns:
        NaN where df or t is.
    """
    # The noncentral t lies around its noncentrality with an sd of about sqrt(1 + nc^2 / (2 df))
    reach = 10 + 10 * np.sqrt(1 + t**2 / np.minimum(df, 1e9)) + np.abs(t) / np.sqrt(df)
    low, high = t - reach, t + reach
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        below = scipy.special.nctdtr(df, middle, t)
        below = np.where(np.isnan(below), middle < t, below)  # out in the tails
        rises = below > level  # falls as the noncentrality grows
        low, high = np.where(rises, middle, low), np.where(rises, high, middle)
    return np.asarray(np.where(np.isnan(t), np.nan, (low + high) / 2))


def compute_i2(tau2: float, variances: FloatArray) -> float | None:
    """Share of the spread of independent effects that is heterogeneity, as metafor gives it.

    I2 = tau2 / (tau2 + s2) with the typical variance s2 = (k - 1) sum w / ((sum w)^2 - sum w^2),
    w = 1 / v (Higgins & Thompson 2002). For DerSimonian-Laird the same as 1 - (k - 1) / Q; for
    other estimators of tau2 only this belongs to the tau2 shown.

    Args:
        tau2: Variance between effects, >= 0.
        variances: (k,) squared standard errors, all > 0.

    Returns:
        0..1; None below two effects.
    """
    k = len(variances)
    if k < 2:
        return None
    weight = 1 / variances
    typical = (k - 1) * weight.sum() / (weight.sum() ** 2 - (weight**2).sum())
    return float(tau2 / (tau2 + typical))
