"""What a model would have answered: the distribution over the five digits behind an answer."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, TypedDict

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from benchlib.domain.analysis.cells import Cells
from benchlib.domain.analysis.trait_sets import select_trait_set
from benchlib.domain.arrays import FloatArray, IntArray
from benchlib.domain.records import TraitRecord
from benchlib.domain.stats.welch import moments_of, none_if_nan
from benchlib.domain.vocabulary import N_POINTS, Language

LOW_MASS: Final = 0.9
"""Below this probability of answering with a digit at all, a distribution is flagged."""


@dataclass(frozen=True, slots=True, eq=False)
class RatingDistributions:
    """Distributions of n answers over the points 1..K; NaN where no digit has probability.

    Attributes:
        probabilities: (n, K) shares of the points, summing to 1.
        mass: (n,) probability of all digits together before renormalising, 0..1; NaN if unknown.
        expected: (n,) mean, 1..K.
        variance: (n,) variance in squared rating points.
        entropy: (n,) in nats, 0 (certain) .. ln K (indifferent).
        entropy_norm: (n,) entropy / ln K, 0..1.
        mode: (n,) most likely point (ties: the lower one); 0 where undefined.
        p_extreme: (n,) probability of 1 or K.
        is_low_mass: (n,) mass below LOW_MASS.
    """

    probabilities: FloatArray
    mass: FloatArray
    expected: FloatArray
    variance: FloatArray
    entropy: FloatArray
    entropy_norm: FloatArray
    mode: IntArray
    p_extreme: FloatArray
    is_low_mass: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


@dataclass(frozen=True, slots=True, eq=False)
class DistributionSums:
    """What the distributions of G groups of answers add up to; sums can be added to sums.

    Attributes:
        n: (G,) answers with a defined distribution.
        probabilities: (G, K) sum of the shares of each point.
        expected: (G,) mean expected rating; 0 without any.
        spread: (G,) sum of squared deviations from that mean.
        variance: (G,) sum of the variances within answers.
        entropy_norm: (G,) sum.
        mode: (G,) sum of the probabilities of the most likely point.
        n_mass: (G,) answers whose mass is known.
        mass: (G,) sum of the masses.
        n_low_mass: (G,) answers with a mass below LOW_MASS.
    """

    n: FloatArray
    probabilities: FloatArray
    expected: FloatArray
    spread: FloatArray
    variance: FloatArray
    entropy_norm: FloatArray
    mode: FloatArray
    n_mass: FloatArray
    mass: FloatArray
    n_low_mass: FloatArray

    def __add__(self, other: "DistributionSums") -> "DistributionSums":
        """Group by group; spreads as in Chan, Golub & LeVeque (1979)."""
        parts = {
            part.name: getattr(self, part.name) + getattr(other, part.name) for part in fields(self)
        }
        n = np.maximum(parts["n"], 1)
        gap = other.expected - self.expected
        parts["spread"] += np.square(gap) * self.n * other.n / n
        parts["expected"] = (self.expected * self.n + other.expected * other.n) / n
        return DistributionSums(**parts)

    def take(self, groups: ArrayLike) -> "DistributionSums":
        """Some of the groups, by position or mask."""
        return DistributionSums(
            **{part.name: getattr(self, part.name)[groups] for part in fields(self)}
        )

    def together(self) -> "DistributionSums":
        """All groups as one."""
        whole = {
            part.name: getattr(self, part.name).sum(axis=0, keepdims=True) for part in fields(self)
        }
        mean = (self.expected * self.n).sum() / np.maximum(whole["n"], 1)
        whole["spread"] += (np.square(self.expected - mean) * self.n).sum()
        whole["expected"] = mean
        return DistributionSums(**whole)


class DistributionSummary(TypedDict):
    """Means over the answers that have a distribution; None without any.

    `sampling_share` is the part of the variance of single drawn digits that is noise of drawing,
    0..1, and that expected ratings leave out.
    """

    n: int
    probabilities: list[float] | list[None]
    expected: float | None
    variance: float | None
    variance_of_expected: float | None
    sampling_share: float | None
    entropy_norm: float | None
    mass: float | None
    low_mass_share: float | None
    mode_share: float | None


class TraitDistribution(DistributionSummary):
    """Distributions of one trait."""

    case_id: str
    label: str
    trait_category: str


class CategoryDistribution(DistributionSummary):
    """Distributions of one trait category."""

    trait_category: str


class DistributionTables(TypedDict):
    """Distributions together, by trait category (lexicographic) and by trait (in given order)."""

    overall: DistributionSummary
    by_trait_category: list[CategoryDistribution]
    by_trait: list[TraitDistribution]


class Precision(TypedDict):
    """What expected ratings gain over the digits: standard deviations of persona scores.

    `variance_ratio` is digits over expected: 1.3 means that digits would need 1.3 times as many
    personas for the same intervals. None without distributions or without variance.
    """

    n_expected: int
    sd_digits: float | None
    sd_expected: float | None
    variance_ratio: float | None


def compute_rating_distributions(
    logprobs: Sequence[Sequence[float | None]] | FloatArray, reversed_order: ArrayLike = False
) -> RatingDistributions:
    """Turn log-probabilities of the digits into distributions over the points of the scale.

    Args:
        logprobs: (n, K) natural log-probabilities of the digits 1..K; None, NaN or -inf = the
            engine gave none, which counts as probability 0.
        reversed_order: (n,) or one bool: True where the scale was shown in reverse; the result is
            then turned round, so that point K means "very ..." in every row.

    Returns:
        One row per answer. Softmax over the digits that came; `mass` is the sum of their
        exponentials, as they came.
    """
    table = np.array(logprobs, dtype=np.float64)
    table = np.where(np.isnan(table), -np.inf, table).reshape(-1, N_POINTS)
    some = np.isfinite(table).any(axis=1)
    probabilities = np.full(table.shape, np.nan)
    probabilities[some] = scipy.special.softmax(table[some], axis=1)
    return _describe(probabilities, np.exp(table).sum(axis=1), reversed_order)


def describe_distributions(
    probabilities: ArrayLike,
    mass: ArrayLike | None = None,
    reversed_order: ArrayLike = False,
) -> RatingDistributions:
    """Describe stored distributions of raw digits.

    Args:
        probabilities: (n, K) probabilities of the digits 1..K; rows that sum to 0 or hold NaN are
            undefined, others are renormalised.
        mass: (n,) probability of a digit at all; None = unknown.
        reversed_order: As in `compute_rating_distributions`.
    """
    table = np.asarray(probabilities, dtype=np.float64).reshape(-1, N_POINTS)
    total = (table @ np.ones(N_POINTS))[:, None]
    table = table / np.where(total > 0, total, np.nan)
    known = np.full(len(table), np.nan) if mass is None else np.asarray(mass, dtype=np.float64)
    return _describe(table, known, reversed_order)


def compute_distribution_sums(
    distributions: RatingDistributions, groups: IntArray | None = None, n_groups: int = 1
) -> DistributionSums:
    """Add up distributions by group, so that they need not be stored.

    Args:
        distributions: Of any answers; undefined rows are left out.
        groups: (n,) group of each, 0..n_groups-1; None = all of one.
        n_groups: G.
    """
    defined = ~np.isnan(distributions.expected)
    group = np.zeros(len(defined), dtype=np.int64) if groups is None else groups
    shares, expected = distributions.probabilities, distributions.expected
    variance, entropy = distributions.variance, distributions.entropy_norm
    mass = distributions.mass
    if not defined.all():
        group, shares, expected = group[defined], shares[defined], expected[defined]
        variance, entropy, mass = variance[defined], entropy[defined], mass[defined]
    known = ~np.isnan(mass)

    def total(values: NDArray[Any], of: IntArray = group) -> FloatArray:
        summed = np.bincount(of, weights=values, minlength=n_groups)
        return np.asarray(summed, dtype=np.float64)  # without values it counts whole numbers

    n = np.bincount(group, minlength=n_groups)
    mean = total(expected) / np.maximum(n, 1)
    return DistributionSums(
        n=n.astype(np.float64),
        probabilities=np.column_stack([total(share) for share in shares.T]),
        expected=mean,
        spread=total(np.square(expected - mean[group])),
        variance=total(variance),
        entropy_norm=total(entropy),
        mode=total(np.maximum.reduce(list(shares.T))),
        n_mass=total(known.astype(np.float64)),
        mass=total(mass[known], group[known]),
        n_low_mass=total(mass < LOW_MASS),
    )


def compute_distribution_summary(
    distributions: RatingDistributions | DistributionSums,
) -> DistributionSummary:
    """Average distributions.

    Args:
        distributions: Of the answers to average, undefined rows are left out; or their sums,
            whose groups count together.

    Returns:
        Means. Variance of a drawn digit = variance of the expected ratings + mean variance within
        answers. `mode_share` is the mean probability of the most likely point.
    """
    if isinstance(distributions, RatingDistributions):
        distributions = compute_distribution_sums(distributions)
    sums = distributions.together()
    n, n_mass = int(sums.n[0]), int(sums.n_mass[0])
    if n == 0:
        return {
            "n": 0,
            "probabilities": [None] * N_POINTS,
            "expected": None,
            "variance": None,
            "variance_of_expected": None,
            "sampling_share": None,
            "entropy_norm": None,
            "mass": None,
            "low_mass_share": None,
            "mode_share": None,
        }
    within, between = float(sums.variance[0]) / n, float(sums.spread[0]) / n
    return {
        "n": n,
        "probabilities": (sums.probabilities[0] / n).tolist(),
        "expected": float(sums.expected[0]),
        "variance": within + between,
        "variance_of_expected": between,
        "sampling_share": within / (within + between) if within + between > 0 else None,
        "entropy_norm": float(sums.entropy_norm[0]) / n,
        "mass": float(sums.mass[0]) / n_mass if n_mass else None,
        "low_mass_share": float(sums.n_low_mass[0]) / n_mass if n_mass else None,
        "mode_share": float(sums.mode[0]) / n,
    }


def describe_distributions_by_trait(
    sums: DistributionSums, trait_ids: IntArray, asked: Sequence[TraitRecord], language: Language
) -> DistributionTables:
    """Average distributions over all traits, by trait category and by trait.

    Args:
        sums: Sums of the distributions of T traits, a group each.
        trait_ids: (T,) trait of each group.
        asked: The traits to describe, in the order of `by_trait`.
        language: Language of the labels; a trait without an adjective in it shows its case id.
    """

    def summary(chosen: Sequence[TraitRecord]) -> DistributionSummary:
        groups = np.isin(trait_ids, [trait.id for trait in chosen])
        return compute_distribution_summary(sums.take(groups))

    return {
        "overall": summary(asked),
        "by_trait_category": [
            {
                **summary([trait for trait in asked if trait.category == name]),
                "trait_category": name,
            }
            for name in sorted({trait.category for trait in asked})
        ],
        "by_trait": [
            {
                **summary([trait]),
                "case_id": trait.case_id,
                "label": trait.adjective.get(language, trait.case_id),
                "trait_category": trait.category,
            }
            for trait in asked
        ],
    }


def compute_precision(
    from_digits: Cells, from_expected: Cells, trait_category: str | None = None
) -> Precision:
    """Compare the spread of persona scores from digits and from expected ratings.

    Args:
        from_digits: Cells of the run with `use_expected` False.
        from_expected: Cells of the same answers with `use_expected` True.
        trait_category: A trait category, or None for all traits; neutral traits take no part.

    Returns:
        Standard deviations in rating points; None if no answer has a distribution, or for fewer
        than two personas.

    Raises:
        InvalidInput: The run has traits, but none of this category.
    """
    expected = select_trait_set(from_expected, trait_category)
    if expected.cells.n_expected == 0:
        return {"n_expected": 0, "sd_digits": None, "sd_expected": None, "variance_ratio": None}
    digits = moments_of(select_trait_set(from_digits, trait_category).scores.z)
    spread = moments_of(expected.scores.z)
    return {
        "n_expected": expected.cells.n_expected,
        "sd_digits": none_if_nan(digits.sd),
        "sd_expected": none_if_nan(spread.sd),
        "variance_ratio": none_if_nan(digits.var / spread.var) if spread.var > 0 else None,
    }


def _describe(
    probabilities: FloatArray, mass: FloatArray, reversed_order: ArrayLike
) -> RatingDistributions:
    in_reverse = np.broadcast_to(np.asarray(reversed_order, dtype=bool), len(probabilities))
    shares = np.where(in_reverse[:, None], probabilities[:, ::-1], probabilities)
    points = np.arange(1.0, N_POINTS + 1)
    middle = (N_POINTS + 1) / 2  # squares around it are small, so that their difference is exact
    expected = shares @ points
    variance = shares @ np.square(points - middle) - np.square(expected - middle)
    entropy = scipy.special.entr(shares) @ np.ones(N_POINTS)
    mode = np.where(np.isnan(expected), 0, shares.argmax(axis=1) + 1)
    return RatingDistributions(
        probabilities=shares,
        mass=mass,
        expected=expected,
        variance=np.maximum(variance, 0.0),
        entropy=entropy,
        entropy_norm=entropy / np.log(N_POINTS),
        mode=mode,
        p_extreme=shares[:, 0] + shares[:, -1],
        is_low_mass=mass < LOW_MASS,
    )
