"""How sure the mean delta over a population of traits is."""

from dataclasses import dataclass

import numpy as np

from benchlib.domain.arrays import FloatArray


@dataclass(frozen=True, slots=True)
class PopulationError:
    """Error of the mean over traits that stand for more of their kind.

    Attributes:
        variance: Squared standard error, never below that of the list of traits.
        df: Satterthwaite degrees of freedom; where tau2 is 0, those of the list.
        tau2: Variance of the true deltas between traits, >= 0.
    """

    variance: float
    df: float
    tau2: float


def compute_population_error(
    deltas: FloatArray, cov: FloatArray, list_variance: float, list_df: float, n_personas: int
) -> PopulationError | None:
    """Combine the error from personas with that from the choice of traits.

    The squared error is a difference of mean squares: A + B - C with A = SS / ((T - 1) T), the
    spread of the deltas, on T - 1 df; B, the squared error of the list, on its Welch df; and
    C = s2 / T, the part of A that is persona noise, on (n - 2)(T - 1) df, where
    s2 = (tr V - 1'V1 / T) / (T - 1). Each counts in Satterthwaite's df; leaving C out and
    taking tau2 / T for a mean square with T - 1 df makes intervals too short. Close to
    Kenward-Roger in balanced data.

    Args:
        deltas: (T,) trait deltas, none missing, T >= 2.
        cov: (T, T) their covariance from shared personas; from incomplete data it need not be
            positive definite.
        list_variance: Squared standard error of the delta on these very traits.
        list_df: Its degrees of freedom.
        n_personas: Personas in both groups, above 2.

    Returns:
        None below two traits, or without an error of the list.
    """
    k = len(deltas)
    if k < 2 or n_personas <= 2 or not list_variance > 0:
        return None
    total = float(cov.sum())
    spread = float(((deltas - deltas.mean()) ** 2).sum()) / ((k - 1) * k)
    noise = max(0.0, (float(np.trace(cov)) - total / k) / ((k - 1) * k))
    shared = max(list_variance, total / k**2)
    if spread <= noise:
        return PopulationError(shared, list_df, 0.0)
    variance = shared + spread - noise
    parts = spread**2 / (k - 1) + shared**2 / list_df + noise**2 / ((n_personas - 2) * (k - 1))
    df = min(variance**2 / parts, max(list_df, float(k - 1)))
    return PopulationError(variance, df, (spread - noise) * k)
