"""Questions answered in both scale orders, and means over them with intervals by persona."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchlib.domain.analysis.answer_grid import GIVEN_UP, AnswerGrid
from benchlib.domain.analysis.cells import is_reversed
from benchlib.domain.arrays import BoolArray, FloatArray, IntArray
from benchlib.domain.errors import RatingOutOfScale
from benchlib.domain.stats.welch import CONFIDENCE, t_quantile
from benchlib.domain.vocabulary import N_POINTS, UNKNOWN_TRAIT_CATEGORY


@dataclass(frozen=True, slots=True, eq=False)
class OrderPairs:
    """Answers to the same question in both scale orders; n pairs.

    Attributes:
        personas: (n,) persona of each pair, 0..G-1, only personas with a pair.
        traits: (n,) position of the trait in `table`.
        shown_in: (n,) raw digit in order `in`, 1..5; a mean where the question was asked twice.
        shown_rev: (n,) raw digit in order `rev`.
        n_ratings: (n,) ratings behind the pair, 2 but for duplicates.
        n_missing: (T,) ratings that lack to questions asked in both orders, by trait.
        table: T rows, one per trait: `case_id`, `label`, `trait_category`.
        n_duplicates: Answers beyond the first of a question; they entered through a mean.
    """

    personas: IntArray
    traits: IntArray
    shown_in: FloatArray
    shown_rev: FloatArray
    n_ratings: IntArray
    n_missing: IntArray
    table: pd.DataFrame
    n_duplicates: int

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


def compute_order_pairs(
    frame: pd.DataFrame | AnswerGrid, in_reverse: BoolArray | None = None
) -> OrderPairs:
    """Find the questions that were answered in both scale orders, in time linear in the rows.

    Args:
        frame: Long frame, as for `compute_order_effect_metrics`.
        in_reverse: (rows,) True where the order is `rev`, if already known; not for a grid.

    Returns:
        The pairs, by persona and trait; none if no question was answered in both orders.

    Raises:
        RatingOutOfScale: A raw rating lies outside 1..5.
        InvalidInput: A scale order is neither `in` nor `rev`.
    """
    if isinstance(frame, AnswerGrid):
        return _pairs_of_grid(frame)
    if in_reverse is None:
        in_reverse = is_reversed(frame["scale_order"])
    raw = frame["rating_raw"].to_numpy(dtype=np.float64, na_value=np.nan)
    _check_digits(raw)
    persona, persona_ids = pd.factorize(frame["persona_id"], sort=True)
    trait, trait_ids = pd.factorize(frame["trait_id"], sort=True)
    cell = persona.astype(np.int64) * len(trait_ids) + trait
    n_traits = max(len(trait_ids), 1)
    size = len(persona_ids) * n_traits
    rated = ~np.isnan(raw)
    sums, counts, asked = [], [], []
    for order in (False, True):
        rows = np.flatnonzero(rated & (in_reverse == order))
        sums.append(np.bincount(cell[rows], weights=raw[rows], minlength=size))
        counts.append(np.bincount(cell[rows], minlength=size))
        asked.append(np.bincount(cell[in_reverse == order], minlength=size) > 0)
    paired = np.flatnonzero((counts[0] > 0) & (counts[1] > 0))
    _, personas = np.unique(paired // n_traits, return_inverse=True)
    lacking = (asked[0] & asked[1]) * ((counts[0] == 0).astype(np.int64) + (counts[1] == 0))
    return OrderPairs(
        personas=personas.astype(np.int64),
        traits=paired % n_traits,
        shown_in=sums[0][paired] / counts[0][paired],
        shown_rev=sums[1][paired] / counts[1][paired],
        n_ratings=(counts[0] + counts[1])[paired],
        n_missing=lacking.reshape(-1, n_traits).sum(axis=0),
        table=_trait_table(frame, trait, len(trait_ids)),
        n_duplicates=int(sum(np.maximum(count - 1, 0).sum() for count in counts)),
    )


def _pairs_of_grid(grid: AnswerGrid) -> OrderPairs:
    persona, trait = np.nonzero(grid.rated.all(axis=0))
    _, personas = np.unique(persona, return_inverse=True)
    shown_in, shown_rev = grid.digits[:, persona, trait].astype(np.float64)
    both_asked = (grid.digits != 0).all(axis=0)
    lacking = np.where(both_asked, (grid.digits == GIVEN_UP).sum(axis=0), 0)
    return OrderPairs(
        personas=personas.astype(np.int64),
        traits=trait,
        shown_in=shown_in,
        shown_rev=shown_rev,
        n_ratings=np.full(len(persona), 2, dtype=np.int64),
        n_missing=lacking.sum(axis=0),
        table=grid.traits[["case_id", "label", "trait_category"]],
        n_duplicates=0,
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


def _trait_table(frame: pd.DataFrame, codes: IntArray, size: int) -> pd.DataFrame:
    """First row of every trait; a column that is not there falls back on what is."""
    first = np.empty(size, dtype=np.int64)
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
    rows = frame.iloc[first]

    def texts(name: str, fallback: pd.Series) -> pd.Series:
        if name not in rows:
            return fallback
        return rows[name].astype(object).where(rows[name].notna(), fallback)

    case_id = texts("case_id", rows["trait_id"].astype(str))
    unknown = pd.Series(UNKNOWN_TRAIT_CATEGORY, index=rows.index, dtype=object)
    return pd.DataFrame(
        {
            "case_id": case_id,
            "label": texts("label", case_id),
            "trait_category": texts("trait_category", unknown),
        }
    ).reset_index(drop=True)


def _check_digits(raw: FloatArray) -> None:
    strays = np.unique(raw[(raw < 1) | (raw > N_POINTS)])
    if len(strays):
        raise RatingOutOfScale(strays.tolist(), N_POINTS)
