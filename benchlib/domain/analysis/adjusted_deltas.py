"""Adjusted deltas: what is left of a delta when the other attributes are held fixed.

Attributes are correlated (age and marital status, religion and origin), so an attribute without an
effect of its own shows the delta of one that has. Regressing the persona scores on all attributes
at once separates them, as far as the personas allow.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypedDict, cast

import numpy as np

from benchlib.domain.analysis.cells import Cells
from benchlib.domain.analysis.trait_sets import (
    GroupContrasts,
    TraitSet,
    prepare_contrasts,
    select_trait_set,
)
from benchlib.domain.arrays import BoolArray, FloatArray
from benchlib.domain.stats.welch import (
    DEFAULT_ALPHA,
    ZERO_VARIANCE,
    Status,
    compute_moments,
    compute_q_values,
    compute_welch,
    is_significant,
    none_if_nan,
)

HIGH_VIF: Final = 5.0
"""From this variance inflation on, a category can hardly be separated from other attributes."""

_ALIASED = 1e-9
_FULL_LEVERAGE = 1 - 1e-9


class AdjustedRow(TypedDict):
    """One category against the baseline, adjusted for all other attributes; None = undefined.

    `delta` and `p_unadjusted` are of the same personas without adjustment. `vif` is the factor by
    which the other attributes inflate the variance of `adjusted_delta` (1 = not at all). `aliased`
    = fully determined by attributes named before it. `confounded` = the unadjusted delta is in
    doubt, see `compute_adjusted_deltas`. Counts describe the category's personas in the
    regression; `n_missing` are their traits without a rating.
    """

    attribute: str
    category: str
    baseline: str
    status: Status
    n_personas: int
    n_ratings: int
    n_missing: int
    n_base: int
    n_cat: int
    delta: float | None
    p_unadjusted: float | None
    adjusted_delta: float | None
    se: float | None
    df: float | None
    t: float | None
    ci_low: float | None
    ci_high: float | None
    p_value: float | None
    q_value: float | None
    significant: bool | None
    vif: float | None
    aliased: bool
    confounded: bool


class AdjustedDeltas(TypedDict):
    """All attributes in one regression on one trait set.

    `n` counts the ratings of these traits. `n_personas` entered the regression, `n_dropped` did
    not: too few traits rated, or nobody shares their combination of categories. `warnings` are
    sentences for the user.
    """

    n: int
    trait_category: str | None
    n_personas: int
    n_dropped: int
    df_resid: int | None
    r_squared: float | None
    intercept: float | None
    alpha: float
    rows: list[AdjustedRow]
    warnings: list[str]


def compute_adjusted_deltas(
    cells: Cells,
    *,
    attributes: Sequence[str] | None = None,
    baselines: Mapping[str, str] | None = None,
    trait_category: str | None = None,
    neutral: bool = False,
    alpha: float = DEFAULT_ALPHA,
) -> AdjustedDeltas:
    """Regress the persona scores on all attributes (OLS, treatment coding, HC3 errors, t tests).

    A category that the attributes before it determine is `aliased` and left out; personas with
    leverage 1, who alone determine a coefficient, are dropped, as HC3 is undefined for them.
    `Unknown` keeps its personas in the regression but has no row.

    A row is `confounded` if its delta is significant unadjusted but, adjusted for the other
    attributes, neither significant nor half as large; if its VIF reaches `HIGH_VIF`; or if it is
    aliased.

    Args:
        cells: Cells of the run.
        attributes: Attributes to put into the regression, in this order; None = all.
        baselines: The category to compare against, by attribute.
        trait_category: A trait category, or None for all traits.
        neutral: True for the neutral traits, on the unaligned scale.
        alpha: Level of `significant`, against `q_value`.

    Returns:
        One row per tested category. `q_value` (Benjamini-Hochberg) is corrected over the rows of
        this table. `intercept` is the mean rating of a persona with all baselines.

    Raises:
        InvalidInput: There is no such attribute, baseline or trait category.
    """
    overall = select_trait_set(cells, neutral=neutral)
    trait_set = select_trait_set(cells, trait_category, neutral=neutral)
    names = [str(name) for name in cells.attributes.columns] if attributes is None else attributes
    contrasts = prepare_contrasts(cells, names, overall.scores.enters, baselines)
    design = _Design.build(contrasts, trait_set.scores.enters)
    fit = _fit(design, contrasts, trait_set.scores.z)
    rows = [
        row
        for contrast in contrasts.values()
        for row in _rows(trait_set, contrast, design, fit, alpha)
    ]
    q_values = compute_q_values([row["p_value"] for row in rows])
    for row, q in zip(rows, q_values, strict=True):
        row["q_value"] = none_if_nan(q)
        row["significant"] = is_significant(row["q_value"], alpha)
    return {
        "n": trait_set.cells.n_ratings,
        "trait_category": trait_category,
        "n_personas": int(design.used.sum()),
        "n_dropped": int((~design.used).sum()),
        "df_resid": fit.df_resid,
        "r_squared": fit.r_squared,
        "intercept": None if fit.intercept is None else trait_set.grand_mean + fit.intercept,
        "alpha": alpha,
        "rows": rows,
        "warnings": _warnings(rows, design, trait_set),
    }


@dataclass(frozen=True, slots=True, eq=False)
class _Design:
    """The regression's design.

    Attributes:
        used: (P,) personas in the regression.
        keys: (attribute, category) of each column after the intercept.
        matrix: (n, 1 + columns) intercept and indicators; n = used personas.
        aliased: Columns that were left out because others determine them.
    """

    used: BoolArray
    keys: list[tuple[str, str]]
    matrix: FloatArray
    aliased: frozenset[tuple[str, str]]

    @classmethod
    def build(cls, contrasts: Mapping[str, GroupContrasts], enters: BoolArray) -> "_Design":
        """Lay out the indicators, leaving out what cannot be estimated."""
        used = enters.copy()
        while True:
            design = cls._lay_out(contrasts, used)
            full = _leverage(design.matrix) > _FULL_LEVERAGE
            if not full.any() or len(full) <= design.matrix.shape[1]:
                return design
            used[np.flatnonzero(used)[full]] = False

    @classmethod
    def _lay_out(cls, contrasts: Mapping[str, GroupContrasts], used: BoolArray) -> "_Design":
        keys: list[tuple[str, str]] = []
        columns = [np.ones(int(used.sum()))]
        for name, contrast in contrasts.items():
            codes = contrast.grouping.codes[used]
            for i, category in enumerate(contrast.grouping.categories):
                if i != contrast.base and (codes == i).any():
                    keys.append((name, category))
                    columns.append((codes == i).astype(np.float64))
        matrix = np.column_stack(columns)
        keep = _independent_columns(matrix)
        return cls(
            used=used.copy(),
            keys=[key for key, kept in zip(keys, keep[1:], strict=True) if kept],
            matrix=matrix[:, keep],
            aliased=frozenset(key for key, kept in zip(keys, keep[1:], strict=True) if not kept),
        )


@dataclass(frozen=True, slots=True)
class _Coefficient:
    estimate: float
    se: float
    t: float
    p_value: float
    ci_low: float
    ci_high: float
    vif: float


@dataclass(frozen=True, slots=True)
class _Fit:
    """The regression; `status` says why there is none."""

    coefficients: dict[tuple[str, str], _Coefficient]
    status: Status
    intercept: float | None = None
    df_resid: int | None = None
    r_squared: float | None = None


def _fit(design: _Design, contrasts: Mapping[str, GroupContrasts], scores: FloatArray) -> _Fit:
    from statsmodels.regression.linear_model import OLS  # slow to load

    outcome = scores[design.used]
    n, n_columns = design.matrix.shape
    if n <= n_columns:
        return _Fit({}, "n_lt_2" if n else "no_data")
    if float(np.ptp(outcome)) < 1e-10:
        return _Fit({}, "zero_variance")
    result = OLS(outcome, design.matrix).fit(cov_type="HC3", use_t=True)
    if result.ssr <= n * ZERO_VARIANCE:
        return _Fit({}, "zero_variance")
    intervals = result.conf_int()
    inflation = _variance_inflation(design, contrasts)
    coefficients = {
        key: _Coefficient(
            estimate=float(result.params[i]),
            se=float(result.bse[i]),
            t=float(result.tvalues[i]),
            p_value=float(result.pvalues[i]),
            ci_low=float(intervals[i, 0]),
            ci_high=float(intervals[i, 1]),
            vif=float(inflation[i]),
        )
        for i, key in enumerate(design.keys, start=1)
    }
    return _Fit(
        coefficients=coefficients,
        status="ok",
        intercept=float(result.params[0]),
        df_resid=int(result.df_resid),
        r_squared=none_if_nan(result.rsquared),
    )


def _rows(
    trait_set: TraitSet, contrast: GroupContrasts, design: _Design, fit: _Fit, alpha: float
) -> list[AdjustedRow]:
    if contrast.baseline is None:
        return []
    grouping = contrast.grouping
    codes = np.where(design.used, grouping.codes, -1)
    size = len(grouping.categories)
    moments = compute_moments(trait_set.scores.z, codes, size)
    welch = compute_welch(moments.at(contrast.base), moments)
    entering = compute_moments(trait_set.scores.z, grouping.codes, size)
    everyone = compute_welch(entering.at(contrast.base), entering)
    rows: list[AdjustedRow] = []
    for i in contrast.targets:
        key = (grouping.attribute, grouping.categories[i])
        aliased = key in design.aliased
        found = fit.coefficients.get(key)
        answers = trait_set.cells.n_answers[codes == i]
        delta, p_unadjusted = none_if_nan(welch.delta[i]), none_if_nan(welch.p_value[i])
        rows.append(
            {
                "attribute": grouping.attribute,
                "category": grouping.categories[i],
                "baseline": contrast.baseline,
                "status": _status(str(everyone.status[i]), key, design, fit),
                "n_personas": int(moments.n[i]),
                "n_ratings": int(answers.sum()),
                "n_missing": int((answers == 0).sum()),
                "n_base": int(welch.n_base[i]),
                "n_cat": int(welch.n_cat[i]),
                "delta": delta,
                "p_unadjusted": p_unadjusted,
                "adjusted_delta": found.estimate if found else None,
                "se": found.se if found else None,
                "df": fit.df_resid if found else None,
                "t": found.t if found else None,
                "ci_low": found.ci_low if found else None,
                "ci_high": found.ci_high if found else None,
                "p_value": found.p_value if found else None,
                "q_value": None,
                "significant": None,
                "vif": found.vif if found else None,
                "aliased": aliased,
                "confounded": aliased or _is_confounded(delta, p_unadjusted, found, alpha),
            }
        )
    return rows


def _status(alone: str, key: tuple[str, str], design: _Design, fit: _Fit) -> Status:
    """Status of a row whose unadjusted comparison, of all who enter, has the status `alone`."""
    if alone in ("no_data", "n_lt_2") or key in fit.coefficients or key in design.aliased:
        return cast(Status, alone)
    return fit.status if key in design.keys else "no_data"


def _is_confounded(
    delta: float | None, p_unadjusted: float | None, found: _Coefficient | None, alpha: float
) -> bool:
    if found is None:
        return False
    if found.vif >= HIGH_VIF:
        return True
    if delta is None or p_unadjusted is None or p_unadjusted >= alpha:
        return False
    return found.p_value >= alpha and abs(found.estimate) < abs(delta) / 2


def _warnings(rows: Sequence[AdjustedRow], design: _Design, trait_set: TraitSet) -> list[str]:
    sentences = []
    n_dropped = int((trait_set.scores.enters & ~design.used).sum())
    if n_dropped:
        sentences.append(
            f"Personas left out because no one else has one of their categories: {n_dropped}."
        )
    for row in rows:
        name = f"{row['attribute']} = {row['category']}"
        vif, delta, adjusted = row["vif"], row["delta"], row["adjusted_delta"]
        if row["aliased"]:
            sentences.append(f"{name} follows from attributes before it and cannot be adjusted.")
        elif vif is not None and vif >= HIGH_VIF:
            sentences.append(
                f"{name} nearly follows from other attributes (variance {vif:.1f} times as large); "
                "a delta could belong to any of them."
            )
        elif row["confounded"] and delta is not None and adjusted is not None:
            sentences.append(
                f"{name} differs by {delta:+.2f} unadjusted, by {adjusted:+.2f} adjusted for the "
                "other attributes: the difference may belong to one of them."
            )
    return sentences


def _leverage(matrix: FloatArray) -> FloatArray:
    """Diagonal of the hat matrix of independent columns."""
    if not len(matrix):
        return np.empty(0)
    inverse = np.linalg.inv(matrix.T @ matrix)
    return np.asarray(((matrix @ inverse) * matrix).sum(axis=1))


def _independent_columns(matrix: FloatArray) -> BoolArray:
    """Mark the columns that are not linear combinations of earlier marked columns."""
    gram = matrix.T @ matrix
    keep = np.zeros(len(gram), dtype=bool)
    factor = np.zeros((0, 0))  # Cholesky factor of the kept part of the Gram matrix
    for i in range(len(gram)):
        coordinates = np.linalg.solve(factor, gram[keep, i]) if len(factor) else np.empty(0)
        rest = gram[i, i] - coordinates @ coordinates
        if rest > _ALIASED * max(gram[i, i], 1.0):
            size = len(factor)
            grown = np.zeros((size + 1, size + 1))
            grown[:size, :size] = factor
            grown[size, :size], grown[size, size] = coordinates, np.sqrt(rest)
            factor, keep[i] = grown, True
    return keep


def _variance_inflation(design: _Design, contrasts: Mapping[str, GroupContrasts]) -> FloatArray:
    """Variance of each coefficient relative to a regression on its own attribute alone."""
    inverse = np.linalg.inv(design.matrix.T @ design.matrix)
    sizes = {name: c.grouping.sizes(design.used) for name, c in contrasts.items()}
    alone = [np.nan]
    for name, category in design.keys:
        contrast = contrasts[name]
        n_base = sizes[name][contrast.base]
        n_cat = sizes[name][contrast.grouping.categories.index(category)]
        alone.append(1 / n_base + 1 / n_cat if n_base else np.nan)
    return np.asarray(np.diag(inverse) / np.array(alone))
