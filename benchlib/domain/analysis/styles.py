"""How a rater answers regardless of content: agreeing, choosing extremes, choosing the midpoint.

Each style is one number per persona; groups are compared on these as deltas are.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal, TypedDict, cast

import numpy as np
from numpy.typing import NDArray

from benchlib.domain.analysis.answer_grid import GIVEN_UP, AnswerGrid
from benchlib.domain.analysis.cells import MIN_RATED_SHARE, Cells, take_personas
from benchlib.domain.analysis.trait_sets import GroupContrasts, correct_together, prepare_contrasts
from benchlib.domain.arrays import BoolArray, FloatArray, IntArray
from benchlib.domain.stats.one_sample import compute_one_sample
from benchlib.domain.stats.two_groups import TwoGroups
from benchlib.domain.stats.welch import (
    DEFAULT_ALPHA,
    Moments,
    Status,
    is_significant,
    none_if_nan,
)
from benchlib.domain.vocabulary import N_POINTS

Style = Literal["acquiescence", "extreme", "midpoint", "missing"]

RESPONSE_STYLES: Final[tuple[Style, ...]] = ("acquiescence", "extreme", "midpoint")


class StyleLevel(TypedDict):
    """Mean over all personas that enter, with its 95 % t interval.

    `n_ratings` and `n_missing` count answers of all personas to the traits that the style reads;
    missing are persona x trait cells without a rating, and questions without one in `missing`.
    """

    style: Style
    n_personas: int
    n_ratings: int
    n_missing: int
    level: float | None
    se: float | None
    ci_low: float | None
    ci_high: float | None
    status: Status


class StyleRow(TypedDict):
    """One category of an attribute; `delta` is category minus baseline, None where untested.

    Counts describe the category, as in `StyleLevel`.
    """

    style: Style
    category: str
    baseline: str | None
    is_baseline: bool
    tested: bool
    status: Status
    n_personas: int
    n_ratings: int
    n_missing: int
    level: float | None
    delta: float | None
    se_delta: float | None
    df: float | None
    ci_low: float | None
    ci_high: float | None
    p_value: float | None
    p_welch: float | None
    p_perm: float | None
    perm_exact: bool
    q_value: float | None
    significant: bool | None


class StyleTable(TypedDict):
    """All categories of one attribute: every style in turn."""

    attribute: str
    baseline: str | None
    rows: list[StyleRow]


class Styles(TypedDict):
    """Levels of the whole run, and the comparison of groups.

    `family_size` is the number of tests that `q_value` is corrected over.
    """

    levels: list[StyleLevel]
    attributes: dict[str, StyleTable]
    alpha: float
    family_size: int


def compute_response_styles(
    grid: AnswerGrid,
    cells: Cells,
    *,
    baselines: Mapping[str, str] | None = None,
    alpha: float = DEFAULT_ALPHA,
) -> Styles:
    """Measure acquiescence, extreme and midpoint responding, and compare groups on them.

    Acquiescence is (mean of positive traits + mean of negative traits) / 2 - 3 on the unaligned
    scale (5 = "very ..."): the pull towards "very" that is left once content cancels. Its level
    depends on the list of traits; differences between groups do not. Extreme responding is the
    share of the digits 1 and 5, midpoint responding that of 3. A persona's value is its mean
    deviation from the trait means plus the grand mean, so that it does not depend on which traits
    were answered.

    Args:
        grid: The answers.
        cells: `compute_cells` of the same answers.
        baselines: The category to compare against, by attribute; default as in deltas.
        alpha: Level of `significant`, against `q_value`.

    Returns:
        Acquiescence in rating points (-2..2), shares 0..1. A persona enters with at least half of
        the traits rated, for acquiescence half of either valence; without traits of both valences
        acquiescence is None. q is Benjamini-Hochberg over styles x attributes x categories.

    Raises:
        InvalidInput: A chosen baseline does not exist.
    """
    extreme = _persona_shares(*_count_hits(grid, (1, N_POINTS)))
    midpoint = _persona_shares(*_count_hits(grid, ((N_POINTS + 1) // 2,)))
    values = np.column_stack([_acquiescence(cells), extreme, midpoint])
    read = [cells.n_answers[:, used] for used in (cells.has_valence, slice(None), slice(None))]
    n_ratings = np.column_stack([part.sum(axis=1) for part in read])
    n_missing = np.column_stack([(part == 0).sum(axis=1) for part in read])
    enters = ~np.isnan(extreme)
    return _compare(
        cells, RESPONSE_STYLES, values, enters, (n_ratings, n_missing), baselines, alpha
    )


def compute_missing_rates(
    grid: AnswerGrid,
    cells: Cells,
    *,
    baselines: Mapping[str, str] | None = None,
    alpha: float = DEFAULT_ALPHA,
) -> Styles:
    """Measure how often a rating is missing or refused, and compare groups.

    Args:
        grid: The answers, including questions that got no rating.
        cells: `compute_cells` of the same answers.
        baselines: The category to compare against, by attribute; default: most personas.
        alpha: Level of `significant`, against `q_value`.

    Returns:
        One style, `missing`: share of a persona's questions without a rating, 0..1. Every persona
        enters. If all shares are equal the status is `zero_variance` and there is no test.

    Raises:
        InvalidInput: A chosen baseline does not exist.
    """
    asked = (grid.digits != 0).sum(axis=(0, 2))
    lost = (grid.digits == GIVEN_UP).sum(axis=(0, 2))
    cells, lost, asked = take_personas(cells, asked > 0), lost[asked > 0], asked[asked > 0]
    shares = (lost / np.maximum(asked, 1))[:, None]
    counts = (asked - lost).astype(np.int64)[:, None], lost.astype(np.int64)[:, None]
    return _compare(cells, ("missing",), shares, asked > 0, counts, baselines, alpha)


def _acquiescence(cells: Cells) -> FloatArray:
    """(P,) in rating points; NaN for a persona that does not enter.

    Cells are aligned, so a pull towards "very" raises the positive and lowers the negative ones.
    """
    valence = cells.traits["valence"].to_numpy(dtype=np.int8)
    halves, levels = [], []
    for sign in (1, -1):
        used = (valence == sign) & ~np.isnan(cells.trait_means)
        if not used.any():
            return np.full(cells.n_personas, np.nan)
        centred = cells.centred[:, used]
        rated = ~np.isnan(centred)
        count = rated.sum(axis=1)
        mean = np.where(rated, centred, 0.0).sum(axis=1) / np.maximum(count, 1)
        halves.append(np.where(count >= MIN_RATED_SHARE * used.sum(), mean, np.nan))
        levels.append(cells.trait_means[used].mean())
    return np.asarray((halves[0] - halves[1] + levels[0] - levels[1]) / 2)


def _count_hits(grid: AnswerGrid, points: tuple[int, ...]) -> tuple[NDArray[Any], NDArray[Any]]:
    """(P, T) answers, and those on one of the points."""
    hits = np.isin(grid.digits, points)
    return grid.rated.sum(axis=0, dtype=np.int8), hits.sum(axis=0, dtype=np.int8)


def _persona_shares(count: NDArray[Any], hit: NDArray[Any]) -> FloatArray:
    """(P,) share of hits among a persona's answers, centred by trait; NaN = does not enter."""
    answered = count > 0
    share = hit / np.maximum(count, 1)
    n_raters = answered.sum(axis=0)
    level = share.sum(axis=0) / np.maximum(n_raters, 1)
    n_traits = answered.sum(axis=1)
    deviation = np.where(answered, share - level, 0.0).sum(axis=1) / np.maximum(n_traits, 1)
    used = n_raters > 0
    if not used.any():
        return np.full(len(count), np.nan)
    enters = n_traits >= MIN_RATED_SHARE * used.sum()
    return np.where(enters, level[used].mean() + deviation, np.nan)


def _compare(
    cells: Cells,
    styles: tuple[Style, ...],
    values: FloatArray,
    enters: BoolArray,
    counts: tuple[IntArray, IntArray],
    baselines: Mapping[str, str] | None,
    alpha: float,
) -> Styles:
    """Compare groups on (P, styles) numbers; `counts` are ratings and missing ones, likewise."""
    names = [str(name) for name in cells.attributes.columns]
    contrasts = prepare_contrasts(cells, names, enters, baselines)
    moments = {name: contrast.moments(values) for name, contrast in contrasts.items()}
    compared = {name: contrasts[name].compare(values, moments[name]) for name in names}
    p_values = {name: comparison.p_value for name, comparison in compared.items()}
    q_values = correct_together(p_values, "bh")
    return {
        "levels": [
            _level(style, values[:, i], *(int(count[:, i].sum()) for count in counts))
            for i, style in enumerate(styles)
        ],
        "attributes": {
            name: _table(
                contrasts[name],
                styles,
                moments[name],
                compared[name],
                counts,
                q_values[name],
                alpha,
            )
            for name in names
        },
        "alpha": alpha,
        "family_size": sum(int(np.isfinite(p).sum()) for p in p_values.values()),
    }


def _level(style: Style, values: FloatArray, n_ratings: int, n_missing: int) -> StyleLevel:
    sample = compute_one_sample(values)
    return {
        "style": style,
        "n_personas": sample.n,
        "n_ratings": n_ratings,
        "n_missing": n_missing,
        "level": sample.mean,
        "se": sample.se,
        "ci_low": sample.ci_low,
        "ci_high": sample.ci_high,
        "status": sample.status,
    }


def _table(
    contrast: GroupContrasts,
    styles: tuple[Style, ...],
    moments: Moments,
    compared: TwoGroups,
    counts: tuple[IntArray, IntArray],
    q_values: FloatArray,
    alpha: float,
) -> StyleTable:
    grouping, targets = contrast.grouping, set(contrast.targets)
    rows: list[StyleRow] = []
    for column, style in enumerate(styles):
        own, test = moments.column(column), compared.column(column)
        n_ratings, n_missing = (
            np.bincount(grouping.codes, weights=count[:, column], minlength=len(own.n))
            for count in counts
        )
        for i, category in enumerate(grouping.categories):
            tested = i in targets
            q_value = none_if_nan(q_values[i, column])
            delta, se, df, low, high, p_value, p_welch, p_perm = (
                none_if_nan(numbers[i]) if tested else None
                for numbers in (
                    test.delta,
                    test.se,
                    test.df,
                    test.ci_low,
                    test.ci_high,
                    test.p_value,
                    test.p_welch,
                    test.p_perm,
                )
            )
            rows.append(
                {
                    "style": style,
                    "category": category,
                    "baseline": contrast.baseline,
                    "is_baseline": i == contrast.base,
                    "tested": tested,
                    "status": cast(Status, str(test.status[i])),
                    "n_personas": int(own.n[i]),
                    "n_ratings": int(n_ratings[i]),
                    "n_missing": int(n_missing[i]),
                    "level": none_if_nan(own.mean[i]),
                    "delta": delta,
                    "se_delta": se,
                    "df": df,
                    "ci_low": low,
                    "ci_high": high,
                    "p_value": p_value,
                    "p_welch": p_welch,
                    "p_perm": p_perm,
                    "perm_exact": bool(test.perm_exact[i]),
                    "q_value": q_value,
                    "significant": is_significant(q_value, alpha),
                }
            )
    return {"attribute": grouping.attribute, "baseline": contrast.baseline, "rows": rows}
