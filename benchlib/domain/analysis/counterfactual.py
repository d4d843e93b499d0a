"""Paired comparisons: a persona against itself with one attribute changed.

Whatever is peculiar to a persona cancels within its pair, so pairs detect far smaller effects than
groups do. The source persona is the unit: each gives one number.
"""

from dataclasses import dataclass
from typing import Final, TypedDict

import numpy as np
import pandas as pd
import scipy
from numpy.typing import ArrayLike

from benchlib.domain.analysis.cells import MIN_RATED_SHARE, Cells
from benchlib.domain.analysis.trait_sets import select_trait_set
from benchlib.domain.arrays import FloatArray, IntArray
from benchlib.domain.errors import InvalidInput
from benchlib.domain.stats.one_sample import OneSample, compute_one_sample
from benchlib.domain.stats.permutation import DEFAULT_N_PERM, MAX_ASSIGNMENTS
from benchlib.domain.stats.welch import (
    DEFAULT_ALPHA,
    Status,
    compute_q_values,
    is_significant,
    none_if_nan,
)
from benchlib.domain.vocabulary import UNKNOWN_CATEGORY

PAIR_COLUMNS: Final = ("persona_id", "source_persona_id", "changed_attribute")

_BLOCK_VALUES: Final = 4_000_000
_TIE: Final = 1e-9


@dataclass(frozen=True, slots=True)
class PairedDelta:
    """Mean paired difference with its tests; None = undefined.

    Attributes:
        sample: One-sample t on the differences.
        p_signflip: Two-sided; 1 if all differences are 0, None below two.
        n_flips: Sign patterns behind it: all 2^n, or the draws.
        exact: Whether those were all patterns.
        p_wilcoxon: Wilcoxon's signed-rank test, zeros after Pratt, normal approximation; None if
            all are 0, or below two.
        dz: Mean / standard deviation of the differences; None without variance.
    """

    sample: OneSample
    p_signflip: float | None
    n_flips: int
    exact: bool
    p_wilcoxon: float | None
    dz: float | None


class CounterfactualRow(TypedDict):
    """One change of one attribute; `delta` is counterfactual minus source, in rating points.

    `n_sources` are the independent personas behind it, `n_personas` the same. `n_ratings` are
    those of both sides of the pairs that enter; `n_missing` counts traits of a pair that are not
    rated on one side or both.
    """

    attribute: str
    source_category: str
    category: str
    status: Status
    n_pairs: int
    n_sources: int
    n_personas: int
    n_ratings: int
    n_missing: int
    mean_source: float | None
    mean_counterfactual: float | None
    delta: float | None
    se_delta: float | None
    df: int | None
    t: float | None
    ci_low: float | None
    ci_high: float | None
    p_value: float | None
    p_signflip: float | None
    n_flips: int
    signflip_exact: bool
    p_wilcoxon: float | None
    dz: float | None
    q_value: float | None
    significant: bool | None


class CounterfactualTraitRow(TypedDict):
    """One trait under one change of one attribute; counts as in `CounterfactualRow`."""

    attribute: str
    source_category: str
    category: str
    case_id: str
    label: str
    trait_category: str
    status: Status
    n_sources: int
    n_personas: int
    n_ratings: int
    n_missing: int
    delta: float | None
    se: float | None
    ci_low: float | None
    ci_high: float | None
    p_value: float | None
    q_value: float | None


class Counterfactuals(TypedDict):
    """All changes of a dataset's counterfactual pairs.

    `n_pairs` counts pairs that enter; `n_dropped` those with too few traits rated on both sides.
    """

    n_pairs: int
    n_dropped: int
    alpha: float
    family_size: int
    rows: list[CounterfactualRow]
    by_trait: list[CounterfactualTraitRow]


def compute_paired_delta(
    differences: ArrayLike,
    rng: np.random.Generator | None = None,
    n_flips: int = DEFAULT_N_PERM,
) -> PairedDelta:
    """Test whether paired differences average 0.

    Args:
        differences: (n,) one independent difference per source; NaN values are left out.
        rng: Source of random signs for n too large to try all patterns; None leaves that test out.
        n_flips: Draws.

    Returns:
        Student's t; the sign-flip test on |mean|, exact up to 14 differences, else
        (b + 1) / (B + 1); Wilcoxon's test with Pratt's zeros as a check on robustness.
    """
    values = np.asarray(differences, dtype=np.float64).ravel()
    values = values[~np.isnan(values)]
    sample = compute_one_sample(values)
    p_signflip, flips, exact = _sign_flip(values, rng, n_flips)
    sd = sample.sd
    return PairedDelta(
        sample=sample,
        p_signflip=p_signflip,
        n_flips=flips,
        exact=exact,
        p_wilcoxon=_wilcoxon(values),
        dz=None if not sd or sample.mean is None else sample.mean / sd,
    )


def compute_pair_differences(source: ArrayLike, counterfactual: ArrayLike) -> FloatArray:
    """Average the differences of pairs over the traits that both sides have.

    Args:
        source: (n, T) ratings of the source personas on one scale; NaN = not rated.
        counterfactual: (n, T) ratings of their counterfactuals.

    Returns:
        (n,) counterfactual minus source in rating points; NaN for a pair with fewer than half of
        the traits rated on both sides.
    """
    gap = np.asarray(counterfactual, dtype=np.float64) - np.asarray(source, dtype=np.float64)
    rated = ~np.isnan(gap)
    count = rated.sum(axis=1)
    mean = np.where(rated, gap, 0.0).sum(axis=1) / np.maximum(count, 1)
    enters = (count > 0) & (count >= MIN_RATED_SHARE * gap.shape[1])
    return np.where(enters, mean, np.nan)


def compute_counterfactuals(
    cells: Cells,
    pairs: pd.DataFrame,
    *,
    trait_category: str | None = None,
    rng: np.random.Generator | None = None,
    n_flips: int = DEFAULT_N_PERM,
    alpha: float = DEFAULT_ALPHA,
) -> Counterfactuals:
    """Compare personas with their counterfactuals, for every change of every attribute.

    Args:
        cells: Cells of the run; neutral traits take no part.
        pairs: One row per counterfactual: `persona_id`, `source_persona_id`, `changed_attribute`.
            Pairs with a persona that has no answer are left out.
        trait_category: A trait category, or None for all traits.
        rng: Source of random sign flips; None leaves out those that are not exact.
        n_flips: Draws.
        alpha: Level of `significant`, against `q_value`.

    Returns:
        One row per (attribute, category of the source, category of the counterfactual), in
        lexicographic order. Several counterfactuals of one source under the same change are
        averaged first. q is Benjamini-Hochberg over all rows; over all of `by_trait` there.

    Raises:
        InvalidInput: A column is missing, an attribute that was changed is not in the cells, or
            there is no such trait category.
    """
    absent = sorted(set(PAIR_COLUMNS) - set(pairs.columns))
    if absent:
        raise InvalidInput(f"The counterfactual pairs have no {', '.join(absent)}.")
    cells = select_trait_set(cells, trait_category).cells
    links = _Links.find(cells, pairs)
    used = cells.has_valence & ~np.isnan(cells.trait_means)
    values = cells.centred[:, used]
    gaps = values[links.counterfactual] - values[links.source]
    answers = cells.n_answers[:, used]
    n_ratings = np.where(
        np.isnan(gaps), 0, answers[links.counterfactual] + answers[links.source]
    ).astype(np.int64)
    differences = compute_pair_differences(values[links.source], values[links.counterfactual])
    level = cells.aligned_mean
    rows: list[CounterfactualRow] = []
    by_trait: list[CounterfactualTraitRow] = []
    traits = cells.traits[used]
    for change, members in links.changes().items():
        entering = members[~np.isnan(differences[members])]
        sources = links.source[entering]
        delta = compute_paired_delta(_per_source(differences[entering], sources), rng, n_flips)
        mean_source = None
        if level is not None and len(entering):
            # The mean of the same traits and the same pairs as the difference.
            both = ~np.isnan(gaps[entering])
            own = np.where(both, values[sources], 0.0).sum(axis=1) / both.sum(axis=1)
            mean_source = level + float(_per_source(own, sources).mean())
        rows.append(_row(change, n_ratings[entering], delta, mean_source))
        by_trait += _trait_rows(change, gaps[entering], n_ratings[entering], sources, traits)
    q_values = compute_q_values([row["p_value"] for row in rows])
    for row, q_value in zip(rows, q_values, strict=True):
        row["q_value"] = none_if_nan(q_value)
        row["significant"] = is_significant(row["q_value"], alpha)
    for trait_row, q_value in zip(
        by_trait, compute_q_values([row["p_value"] for row in by_trait]), strict=True
    ):
        trait_row["q_value"] = none_if_nan(q_value)
    n_entering = int((~np.isnan(differences)).sum())
    return {
        "n_pairs": n_entering,
        "n_dropped": len(pairs) - n_entering,
        "alpha": alpha,
        "family_size": int(np.isfinite(q_values).sum()),
        "rows": rows,
        "by_trait": by_trait,
    }


@dataclass(frozen=True, slots=True, eq=False)
class _Links:
    """Pairs as positions in the cells, with what was changed; all (n,)."""

    source: IntArray
    counterfactual: IntArray
    change: list[tuple[str, str, str]]

    @classmethod
    def find(cls, cells: Cells, pairs: pd.DataFrame) -> "_Links":
        persona_at = pd.Index(cells.persona_ids)
        changed = persona_at.get_indexer(pd.Index(pairs["persona_id"]))
        source = persona_at.get_indexer(pd.Index(pairs["source_persona_id"]))
        known = (changed >= 0) & (source >= 0)
        names = pairs["changed_attribute"].astype(str).to_numpy(dtype=object)[known]
        strays = sorted(set(names) - set(map(str, cells.attributes.columns)))
        if strays:
            raise InvalidInput(f"Counterfactuals change {strays}, which the personas do not have.")
        change = [("", "", "")] * len(names)
        for name in sorted(set(names)):
            values = cells.attributes[name].astype(object).to_numpy()
            for place in np.flatnonzero(names == name):
                before, after = values[source[known][place]], values[changed[known][place]]
                change[place] = (str(name), str(before), str(after))
        return cls(source[known].astype(np.int64), changed[known].astype(np.int64), change)

    def changes(self) -> dict[tuple[str, str, str], IntArray]:
        """Pairs of every change, in lexicographic order; unknown categories are not compared."""
        members: dict[tuple[str, str, str], list[int]] = {}
        for place, change in enumerate(self.change):
            if UNKNOWN_CATEGORY not in change[1:]:
                members.setdefault(change, []).append(place)
        return {change: np.array(members[change], dtype=np.int64) for change in sorted(members)}


def _row(
    change: tuple[str, str, str], n_ratings: IntArray, delta: PairedDelta, mean_source: float | None
) -> CounterfactualRow:
    """One row; `n_ratings` is (pairs, T)."""
    sample = delta.sample
    both = mean_source is not None and sample.mean is not None
    return {
        "attribute": change[0],
        "source_category": change[1],
        "category": change[2],
        "status": sample.status,
        "n_pairs": len(n_ratings),
        "n_sources": sample.n,
        "n_personas": sample.n,
        "n_ratings": int(n_ratings.sum()),
        "n_missing": int((n_ratings == 0).sum()),
        "mean_source": mean_source,
        "mean_counterfactual": (mean_source or 0.0) + (sample.mean or 0.0) if both else None,
        "delta": sample.mean,
        "se_delta": sample.se,
        "df": sample.df,
        "t": sample.t,
        "ci_low": sample.ci_low,
        "ci_high": sample.ci_high,
        "p_value": sample.p_value,
        "p_signflip": delta.p_signflip,
        "n_flips": delta.n_flips,
        "signflip_exact": delta.exact,
        "p_wilcoxon": delta.p_wilcoxon,
        "dz": delta.dz,
        "q_value": None,
        "significant": None,
    }


def _trait_rows(
    change: tuple[str, str, str],
    gaps: FloatArray,
    n_ratings: IntArray,
    sources: IntArray,
    traits: pd.DataFrame,
) -> list[CounterfactualTraitRow]:
    rows: list[CounterfactualTraitRow] = []
    for place, trait in enumerate(traits.itertuples(index=False)):
        rated = ~np.isnan(gaps[:, place])
        sample = compute_one_sample(_per_source(gaps[rated, place], sources[rated]))
        rows.append(
            {
                "attribute": change[0],
                "source_category": change[1],
                "category": change[2],
                "case_id": str(trait.case_id),
                "label": str(trait.label),
                "trait_category": str(trait.trait_category),
                "status": sample.status,
                "n_sources": sample.n,
                "n_personas": sample.n,
                "n_ratings": int(n_ratings[:, place].sum()),
                "n_missing": int((~rated).sum()),
                "delta": sample.mean,
                "se": sample.se,
                "ci_low": sample.ci_low,
                "ci_high": sample.ci_high,
                "p_value": sample.p_value,
                "q_value": None,
            }
        )
    return rows


def _per_source(values: FloatArray, sources: IntArray) -> FloatArray:
    """One mean per source."""
    _, codes = np.unique(sources, return_inverse=True)
    return np.bincount(codes, weights=values) / np.maximum(np.bincount(codes), 1)


def _onto(size: int, rows: IntArray, values: FloatArray) -> FloatArray:
    """Values at their rows of a longer array, NaN elsewhere."""
    spread = np.full(size, np.nan)
    spread[rows] = values
    return spread


def _sign_flip(
    values: FloatArray, rng: np.random.Generator | None, n_flips: int
) -> tuple[float | None, int, bool]:
    """p, sign patterns tried, and whether those were all."""
    n = len(values)
    if n < 2:
        return None, 0, False
    limit = abs(values.sum()) * (1 - _TIE)
    n_patterns = 2**n if n < 64 else np.inf
    if n_patterns <= MAX_ASSIGNMENTS:
        bits = np.arange(int(n_patterns))[:, None] >> np.arange(n) & 1
        sums = np.abs((2 * bits - 1) @ values)
        return float((sums >= limit).mean()), int(n_patterns), True
    if np.abs(values).max() < _TIE:
        return 1.0, 0, True
    if rng is None or n_flips < 1:
        return None, 0, False
    hits, block = 0, max(1, _BLOCK_VALUES // n)
    for begin in range(0, n_flips, block):
        heads = rng.integers(0, 2, (min(block, n_flips - begin), n), dtype=np.int8)
        hits += int((np.abs(2 * (heads @ values) - values.sum()) >= limit).sum())
    return (hits + 1) / (n_flips + 1), n_flips, False


def _wilcoxon(values: FloatArray) -> float | None:
    # Differences of means carry rounding noise that would break ties and zeros.
    rounded = np.round(values, 9)
    if len(rounded) < 2 or not rounded.any():
        return None
    return float(scipy.stats.wilcoxon(rounded, zero_method="pratt", method="asymptotic").pvalue)
