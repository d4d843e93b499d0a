"""Pool trait deltas into one effect.

Trait deltas of one contrast come from the same personas, so they are correlated. The estimate for a
population of traits takes that into account; the textbook estimators of meta-analysis (DL, PM,
REML) do not and are offered to describe, not to infer.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import scipy

from benchlib.domain.arrays import BoolArray, FloatArray
from benchlib.domain.errors import InvalidInput
from benchlib.domain.stats.effect_size import compute_i2
from benchlib.domain.stats.population_error import compute_population_error
from benchlib.domain.stats.welch import CONFIDENCE, none_if_nan, t_quantile, t_two_sided

MetaMethod = Literal["dl", "pm", "reml"]

META_METHODS: tuple[MetaMethod, ...] = ("dl", "pm", "reml")


@dataclass(frozen=True, slots=True)
class TraitPopulationEffect:
    """Mean delta over the population that the traits are drawn from; None = undefined.

    Attributes:
        k: Traits pooled.
        mean: Unweighted mean of the trait deltas, rating points.
        se: Standard error, from shared personas and from the choice of traits.
        df: Satterthwaite degrees of freedom.
        ci_low: Lower end of the 95 % t interval of the mean.
        ci_high: Upper end.
        p_value: Two-sided p of mean = 0.
        tau2: Variance of the true deltas between traits, squared rating points.
        pi_low: Lower end of the 95 % prediction interval for the delta of a new trait.
        pi_high: Upper end.
        i2: Share of the spread of deltas that is not sampling error, 0..1.
        f_het: F of "all traits have the same delta" (the group x trait interaction).
        df1: Numerator degrees of freedom before the correction.
        df2: Denominator degrees of freedom before the correction.
        epsilon: Greenhouse-Geisser correction factor of both, 0..1.
        p_het: p of f_het with corrected degrees of freedom.
        p_het_uncorrected: p of f_het without the correction.
    """

    k: int
    mean: float | None = None
    se: float | None = None
    df: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    p_value: float | None = None
    tau2: float | None = None
    pi_low: float | None = None
    pi_high: float | None = None
    i2: float | None = None
    f_het: float | None = None
    df1: int | None = None
    df2: int | None = None
    epsilon: float | None = None
    p_het: float | None = None
    p_het_uncorrected: float | None = None


@dataclass(frozen=True, slots=True)
class IndependentEffect:
    """A random-effects mean that takes trait deltas for independent; None = undefined.

    Attributes:
        method: Estimator of tau2.
        k: Effects pooled.
        excluded: Positions of effects left out because their variance is 0 or undefined.
        tau2: Variance between effects.
        mean: Weighted mean.
        se: Its standard error.
        ci_low: Lower end of the 95 % normal interval.
        ci_high: Upper end.
        se_hksj: Standard error after Hartung, Knapp, Sidik and Jonkman.
        ci_low_hksj: Lower end of its t(k - 1) interval.
        ci_high_hksj: Upper end.
        pi_low: Lower end of the 95 % prediction interval, t(k - 2).
        pi_high: Upper end.
        q: Cochran's Q.
        q_p: p of Q.
        i2: Share of the spread that is heterogeneity by this tau2, 0..1, `compute_i2`.
    """

    method: MetaMethod
    k: int
    excluded: tuple[int, ...] = ()
    tau2: float | None = None
    mean: float | None = None
    se: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    se_hksj: float | None = None
    ci_low_hksj: float | None = None
    ci_high_hksj: float | None = None
    pi_low: float | None = None
    pi_high: float | None = None
    q: float | None = None
    q_p: float | None = None
    i2: float | None = None


def covariance_of_means(residuals: FloatArray, rated: BoolArray) -> FloatArray:
    """Estimate how a group's trait means covary, because the same personas rate all traits.

    Args:
        residuals: (n, T) ratings of one group minus the group's trait means; 0 where missing.
        rated: (n, T) where there is a rating.

    Returns:
        (T, T): the covariance of the traits divided by n; with missing ratings each entry comes
        from the personas that rated both traits. 0 where fewer than two did.
    """
    gram = residuals.T @ residuals
    if rated.all():
        n = len(residuals)
        return np.asarray(gram / max(n * (n - 1), 1))
    mask = rated.astype(np.float64)
    both = mask.T @ mask
    n_rated = np.maximum(mask.sum(axis=0), 1)
    scale = np.where(both > 1, both / np.maximum(both - 1, 1), 0.0)
    return np.asarray(gram * scale / np.outer(n_rated, n_rated))


def pool_trait_population(
    deltas: FloatArray,
    cov_base: FloatArray,
    cov_cat: FloatArray,
    n_base: int,
    n_cat: int,
    list_variance: float,
    list_df: float,
) -> TraitPopulationEffect:
    """Pool trait deltas as a sample of traits, knowing that they share personas.

    With V the covariance of the deltas and T traits: tau2 by moments from the spread of the
    deltas around their plain mean; the variance of the mean is that of the list, or 1'V1 / T^2
    if larger, + tau2 / T, see `compute_population_error`. Heterogeneity is the group x trait
    interaction F with the Greenhouse-Geisser correction; the prediction interval is t(T - 2).

    Args:
        deltas: (T,) trait deltas, none missing.
        cov_base: (T, T) covariance of the baseline's trait means, `covariance_of_means`.
        cov_cat: (T, T) the same for the category.
        n_base: Personas in the baseline.
        n_cat: Personas in the category.
        list_variance: Squared standard error of the delta on these very traits; NaN = none.
        list_df: Its degrees of freedom.

    Returns:
        With one trait, the comparison on it; with two, no prediction interval; if nothing varies
        within the groups, the mean alone.
    """
    k = len(deltas)
    if k == 0:
        return TraitPopulationEffect(0)
    mean = float(deltas.mean())
    cov = cov_base + cov_cat
    if min(n_base, n_cat) < 2 or not list_variance > 0:
        return TraitPopulationEffect(k, mean)
    if k == 1:
        return _with_inference(TraitPopulationEffect(1, mean), list_variance, list_df)
    error = compute_population_error(deltas, cov, list_variance, list_df, n_base + n_cat)
    if error is None:
        return TraitPopulationEffect(k, mean)
    spread = float(((deltas - mean) ** 2).sum())
    expected = float(np.trace(cov)) - float(cov.sum()) / k
    f_het, i2, epsilon, p_het, p_uncorrected = None, None, None, None, None
    df1, df2 = k - 1, (n_base + n_cat - 2) * (k - 1)
    if expected > 1e-14:
        f_het = spread / expected
        i2 = max(0.0, 1 - 1 / f_het) if f_het > 0 else 0.0
        epsilon = _greenhouse_geisser(cov)
        p_uncorrected = float(scipy.special.fdtrc(df1, df2, f_het))
        p_het = float(scipy.special.fdtrc(epsilon * df1, epsilon * df2, f_het))
    reach = (
        float(t_quantile(k - 2, CONFIDENCE)) * np.sqrt(error.tau2 + error.variance)
        if k > 2
        else np.nan
    )
    effect = TraitPopulationEffect(
        k=k,
        mean=mean,
        tau2=error.tau2,
        pi_low=none_if_nan(mean - reach),
        pi_high=none_if_nan(mean + reach),
        i2=i2,
        f_het=f_het,
        df1=df1 if f_het is not None else None,
        df2=df2 if f_het is not None else None,
        epsilon=epsilon,
        p_het=p_het,
        p_het_uncorrected=p_uncorrected,
    )
    return _with_inference(effect, error.variance, error.df)


def pool_independent(
    deltas: FloatArray, variances: FloatArray, method: MetaMethod
) -> IndependentEffect:
    """Pool effects as if they were independent: DerSimonian-Laird, Paule-Mandel or REML.

    The spread of trait deltas that share personas understates their common error, so these
    intervals are too short, with the HKSJ correction even more so. For description only.

    Args:
        deltas: (k,) effects; NaN = none.
        variances: (k,) their squared standard errors; 0 or NaN = cannot be weighted.
        method: Estimator of tau2; `reml` by Fisher scoring.

    Returns:
        With one effect, the effect itself; without any, nothing.

    Raises:
        InvalidInput: Unknown method.
    """
    if method not in META_METHODS:
        raise InvalidInput(f"There is no method {method!r}; choose from {', '.join(META_METHODS)}.")
    usable = np.isfinite(deltas) & (variances > 0)
    excluded = tuple(np.flatnonzero(~usable).tolist())
    effect, var = deltas[usable], variances[usable]
    k = len(effect)
    if k == 0:
        return IndependentEffect(method, 0, excluded)
    fixed = 1 / var
    q = float((fixed * (effect - (fixed @ effect) / fixed.sum()) ** 2).sum())
    tau2 = _between_variance(effect, var, method) if k > 1 else None
    weight = 1 / (var + (tau2 or 0.0))
    mean, se = float(weight @ effect / weight.sum()), float(np.sqrt(1 / weight.sum()))
    reach = float(scipy.special.ndtri((1 + CONFIDENCE) / 2)) * se
    se_hksj = reach_hksj = reach_pi = np.nan
    if k > 1:
        se_hksj = float(np.sqrt(weight @ (effect - mean) ** 2 / (k - 1) / weight.sum()))
        reach_hksj = float(t_quantile(k - 1, CONFIDENCE)) * se_hksj
    if k > 2:
        reach_pi = float(t_quantile(k - 2, CONFIDENCE)) * np.sqrt((tau2 or 0.0) + se**2)
    return IndependentEffect(
        method=method,
        k=k,
        excluded=excluded,
        tau2=tau2,
        mean=mean,
        se=se,
        ci_low=mean - reach,
        ci_high=mean + reach,
        se_hksj=none_if_nan(se_hksj),
        ci_low_hksj=none_if_nan(mean - reach_hksj),
        ci_high_hksj=none_if_nan(mean + reach_hksj),
        pi_low=none_if_nan(mean - reach_pi),
        pi_high=none_if_nan(mean + reach_pi),
        q=q if k > 1 else None,
        q_p=float(scipy.special.chdtrc(k - 1, q)) if k > 1 else None,
        i2=None if tau2 is None else compute_i2(tau2, var),
    )


def _with_inference(
    effect: TraitPopulationEffect, variance: float, df: float
) -> TraitPopulationEffect:
    mean, se = effect.mean or 0.0, float(np.sqrt(variance))
    reach = float(t_quantile(df, CONFIDENCE)) * se
    return replace(
        effect,
        se=se,
        df=df,
        ci_low=mean - reach,
        ci_high=mean + reach,
        p_value=float(t_two_sided(mean / se, df)),
    )


def _greenhouse_geisser(cov: FloatArray) -> float:
    """How far a covariance is from the sphericity that F assumes: 1 = not at all."""
    centred = cov - cov.mean(axis=0) - cov.mean(axis=1)[:, None] + cov.mean()
    k = len(cov)
    epsilon = np.trace(centred) ** 2 / ((k - 1) * (centred**2).sum())
    return float(np.clip(epsilon, 1 / (k - 1), 1.0))


def _between_variance(effect: FloatArray, var: FloatArray, method: MetaMethod) -> float:
    if method == "reml":
        return _reml(effect, var)
    # statsmodels' combine_effects gives the same numbers, but divides by zero at the edges
    excess = _generalised_q(effect, var, 0.0) - (len(effect) - 1)
    if excess <= 0:
        return 0.0
    if method == "pm":
        return _paule_mandel(effect, var)
    weight = 1 / var
    return float(excess / (weight.sum() - (weight**2).sum() / weight.sum()))


def _generalised_q(effect: FloatArray, var: FloatArray, tau2: float) -> float:
    weight = 1 / (var + tau2)
    return float(weight @ (effect - weight @ effect / weight.sum()) ** 2)


def _paule_mandel(effect: FloatArray, var: FloatArray) -> float:
    """Solve Q(tau2) = k - 1, given Q(0) > k - 1; Q falls with tau2."""
    target, high = len(effect) - 1, float(effect.var(ddof=1) + var.max())
    while _generalised_q(effect, var, high) > target:
        high *= 2
    root = scipy.optimize.brentq(
        lambda tau2: _generalised_q(effect, var, tau2) - target, 0.0, high, xtol=1e-14
    )
    return float(root)


def _reml(effect: FloatArray, var: FloatArray) -> float:
    """Restricted maximum likelihood by Fisher scoring (Viechtbauer 2005), cut at 0."""
    tau2 = max(0.0, float(effect.var(ddof=1) - var.mean()))
    for _ in range(200):
        weight = 1 / (var + tau2)
        total = weight.sum()
        mean = weight @ effect / total
        square = (weight**2).sum()
        information = square - 2 * (weight**3).sum() / total + (square / total) ** 2
        score = weight**2 @ (effect - mean) ** 2 - total + square / total
        step = float(score / information)
        updated = max(0.0, tau2 + step)
        if abs(updated - tau2) < 1e-12 * (1 + tau2):
            return updated
        tau2 = updated
    return tau2
