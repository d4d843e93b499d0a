"""Questions answered in both scale orders, and means over them with intervals by persona."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchlib.domain.analysis.answer_grid import GIVEN_UP, AnswerGrid
from benchlib.domain.arrays import BoolArray, FloatArray, IntArray
from benchlib.domain.stats.welch import CONFIDENCE, t_quantile
from benchlib.domain.vocabulary import N_POINTS


@dataclass(frozen=True, slots=True, eq=False)
class OrderPairs:
    """Answers to the same question in both scale orders; n pairs.

    Attributes:
        personas: (n,) persona of each pair, 0..G-1, only personas with a pair.
        traits: (n,) position of the trait in `table`.
        shown_in: (n,) raw digit in order `in`, 1..5.
        shown_rev: (n,) raw digit in order `rev`.
        n_missing: (T,) ratings missing from questions asked in both orders, by trait.
        table: T rows, one per trait: `case_id`, `label`, `trait_category`.
    """

    personas: IntArray
    traits: IntArray
    shown_in: FloatArray
    shown_rev: FloatArray
    n_missing: IntArray
    table: pd.DataFrame

    @property
    def difference(self) -> FloatArray:
        """(n,) in - (6 - rev), -4..4."""
        return self.shown_in + self.shown_rev - (N_POINTS + 1)

    @property
    def n_personas(self) -> int:
        """Personas with a pair."""
        return int(self.personas.max()) + 1 if len(self.personas) else 0


@dataclass(frozen=True, slots=True)
class ClusterMean:
    """A mean of values that come in clusters, with the interval that respects them.

    Attributes:
        n: Values.
        n_clusters: Clusters with a value.
        mean: None without values.
        se: Cluster-robust standard error of the mean; None below two clusters.
        sd: Standard deviation of single values (ddof 1); None below two values.
        ci_low: Lower end of the 95 % t interval; None below two clusters or without variance.
        ci_high: Upper end.
    """

    n: int
    n_clusters: int
    mean: float | None
    se: float | None
    sd: float | None
    ci_low: float | None
    ci_high: float | None

    def scaled(self, factor: float) -> "ClusterMean":
        """The same for values times a factor above 0."""
        numbers = (self.mean, self.se, self.sd, self.ci_low, self.ci_high)
        mean, se, sd, low, high = (None if x is None else x * factor for x in numbers)
        return ClusterMean(self.n, self.n_clusters, mean, se, sd, low, high)

    def clipped(self, low: float, high: float) -> "ClusterMean":
        """The same with its interval cut at the range the mean can have."""
        if self.ci_low is None or self.ci_high is None:
            return self
        return ClusterMean(
            self.n,
            self.n_clusters,
            self.mean,
            self.se,
            self.sd,
            max(low, self.ci_low),
            min(high, self.ci_high),
        )


def compute_order_pairs(grid: AnswerGrid) -> OrderPairs:
    """Find the questions that were answered in both scale orders.

    Returns:
        The pairs, by persona and trait; none if no question was answered in both orders.
    """
    persona, trait = np.nonzero(grid.rated.all(axis=0))
    _, personas = np.unique(persona, return_inverse=True)
    shown_in, shown_rev = grid.digits[:, persona, trait].astype(np.float64)
    asked_twice = (grid.digits != 0).all(axis=0)
    missing = np.where(asked_twice, (grid.digits == GIVEN_UP).sum(axis=0), 0)
    return OrderPairs(
        personas=personas.astype(np.int64),
        traits=trait,
        shown_in=shown_in,
        shown_rev=shown_rev,
        n_missing=missing.sum(axis=0),
        table=grid.traits[["case_id", "label", "trait_category"]],
    )


def compute_cluster_mean(values: FloatArray | BoolArray, clusters: IntArray) -> ClusterMean:
    """Mean with a cluster-robust t interval (clusters weighted by their number of values).

    As an intercept-only regression with clustered covariance: se^2 = G/(G-1) * sum over clusters
    of (sum of deviations)^2, over n^2; t with G - 1 degrees of freedom (Liang & Zeger 1986).

    Args:
        values: (n,) numbers, none missing.
        clusters: (n,) cluster of each value, 0..G-1, each occurring.

    Returns:
        The mean; what cannot be computed is None.
    """
    n = len(values)
    if n == 0:
        return ClusterMean(0, 0, None, None, None, None, None)
    numbers = np.asarray(values, dtype=np.float64)
    mean = float(numbers.mean())
    sd = float(numbers.std(ddof=1)) if n > 1 else None
    totals = np.bincount(clusters, weights=numbers - mean)
    n_clusters = len(totals)
    if n_clusters < 2:
        return ClusterMean(n, n_clusters, mean, None, sd, None, None)
    se = float(np.sqrt(n_clusters / (n_clusters - 1) * np.square(totals).sum())) / n
    if se <= 0 or (numbers == numbers[0]).all():
        return ClusterMean(n, n_clusters, mean, 0.0, sd, None, None)
    reach = float(t_quantile(n_clusters - 1, CONFIDENCE)) * se
    return ClusterMean(n, n_clusters, mean, se, sd, mean - reach, mean + reach)
