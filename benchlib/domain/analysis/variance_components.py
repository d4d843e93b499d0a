"""Where the variance of the ratings sits: personas, traits, residual."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from benchlib.domain.analysis.cells import Cells
from benchlib.domain.analysis.order_effects import OrderByCase
from benchlib.domain.analysis.persona_scores import compute_grouping
from benchlib.domain.analysis.trait_sets import select_trait_set
from benchlib.domain.stats.welch import Status, compute_moments_and_residuals


class VarianceComponents(TypedDict):
    """Where the variance of the aligned ratings sits; None = undefined.

    `var_` fields are cut at 0, `_raw` fields are not. `icc_persona` is the correlation of two
    traits of one persona within a category; `design_effect` is the factor by which treating
    ratings as independent understates a variance. `n` counts the ratings of the traits
    asked for, `n_ratings` those of the personas and traits that enter, and `n_missing` the cells of
    these without a rating.
    """

    n: int
    status: Status
    n_personas: int
    n_ratings: int
    n_missing: int
    n_traits: int
    ms_persona: float | None
    ms_trait: float | None
    ms_resid: float | None
    var_persona: float | None
    var_persona_raw: float | None
    var_trait: float | None
    var_trait_raw: float | None
    var_resid: float | None
    icc_persona: float | None
    design_effect: float | None


def compute_variance_components(
    cells: Cells,
    attribute: str | None = None,
    *,
    trait_category: str | None = None,
    neutral: bool = False,
) -> VarianceComponents:
    """Split the variance of the cells into persona, trait and residual.

    Two-way analysis of variance of personas x traits. With missing ratings, the mean covariance
    of two traits replaces the persona component and the mean variance replaces persona plus
    residual; in complete data these are the same numbers.

    Args:
        cells: Cells of the run.
        attribute: Take out the category means of this attribute first (components within
            categories); None = of all personas.
        trait_category: A trait category, or None for all traits.
        neutral: True for the neutral traits.

    Raises:
        InvalidInput: There is no such attribute or trait category.
    """
    trait_set = select_trait_set(cells, trait_category, neutral=neutral)
    n = trait_set.cells.n_ratings
    enters, rated_traits = trait_set.scores.enters, (trait_set.cells.n_answers > 0).any(axis=0)
    if attribute is None:
        codes, n_groups = np.zeros(cells.n_personas, dtype=np.int64), 1
    else:
        grouping = compute_grouping(cells, attribute)
        codes, n_groups = grouping.codes, len(grouping.categories)
    centred = trait_set.cells.centred[np.ix_(enters, rated_traits)]
    answers = trait_set.cells.n_answers[np.ix_(enters, rated_traits)]
    codes = codes[enters]
    n_used = len(np.unique(codes))
    n_personas, n_traits = centred.shape
    if n_personas == 0 or n_traits == 0:
        return _no_components("no_data", n, answers)
    if n_traits < 2 or n_personas - n_used < 1:
        return _no_components("n_lt_2", n, answers)
    _, residuals = compute_moments_and_residuals(centred, codes, n_groups)
    rated = (~np.isnan(centred)).astype(np.float64)
    both = rated.T @ rated
    df = both - n_used
    with np.errstate(divide="ignore", invalid="ignore"):
        covariance = np.where(df > 0, residuals.T @ residuals / df, np.nan)
    diagonal = np.eye(n_traits, dtype=bool)
    if np.isnan(covariance[diagonal]).all() or np.isnan(covariance[~diagonal]).all():
        return _no_components("n_lt_2", n, answers)
    var_persona = float(np.nanmean(covariance[~diagonal]))
    var_resid = float(np.nanmean(covariance[diagonal])) - var_persona
    n_raters = float(n_traits / (1 / np.diag(both)).sum())
    var_means = float(trait_set.cells.trait_means[rated_traits].var(ddof=1))
    var_trait = var_means - var_resid / n_raters
    persona, total = max(0.0, var_persona), max(0.0, var_persona) + max(0.0, var_resid)
    icc = persona / total if total > 1e-20 else None
    return {
        "n": n,
        "status": "ok" if icc is not None else "zero_variance",
        "n_personas": n_personas,
        "n_ratings": int(answers.sum()),
        "n_missing": int((answers == 0).sum()),
        "n_traits": n_traits,
        "ms_persona": var_resid + n_traits * var_persona,
        "ms_trait": n_raters * var_means,
        "ms_resid": var_resid,
        "var_persona": persona,
        "var_persona_raw": var_persona,
        "var_trait": max(0.0, var_trait),
        "var_trait_raw": var_trait,
        "var_resid": max(0.0, var_resid),
        "icc_persona": icc,
        "design_effect": None if icc is None else 1 + (n_traits - 1) * icc,
    }


def compute_answer_noise(
    components: VarianceComponents,
    pairs: Sequence[OrderByCase],
    n_pairs: int,
    sd_pairs: float | None,
) -> tuple[float, float] | None:
    """Split the residual into persona x trait and the noise of a single answer.

    A cell of two orders holds half the noise of a single answer, so the residual of a run is
    s_pt^2 + s_e^2 (1 - f / 2) for a share f of cells with both. s_e^2 is half the variance of the
    difference between the orders within traits; what it leaves of the residual is s_pt^2. In a
    plan with the same f the sum comes out as it was.

    Args:
        components: Components of the run.
        pairs: Its pairs of orders by trait.
        n_pairs: Pairs of the run.
        sd_pairs: Standard deviation of their differences over all traits, rating points.

    Returns:
        s_pt^2 and s_e^2, squared rating points >= 0; all of it s_e^2 without pairs. None where the
        residual is undefined.
    """
    residual = components["var_resid"]
    if residual is None:
        return None
    n_within = n_pairs - len(pairs)
    if sd_pairs is None or n_within < 1:
        return 0.0, residual
    mean = sum(row["n"] * row["mean_diff"] for row in pairs) / n_pairs
    between = sum(row["n"] * (row["mean_diff"] - mean) ** 2 for row in pairs)
    within = max(0.0, (n_pairs - 1) * sd_pairs**2 - between)
    n_cells = components["n_personas"] * components["n_traits"] - components["n_missing"]
    kept = 1 - (components["n_ratings"] / n_cells - 1) / 2
    noise = min(within / n_within / 2, residual / kept)
    return residual - noise * kept, noise


def _no_components(status: Status, n: int, answers: NDArray[np.int16]) -> VarianceComponents:
    n_personas, n_traits = answers.shape
    return {
        "n": n,
        "status": status,
        "n_personas": n_personas,
        "n_ratings": int(answers.sum()),
        "n_missing": int((answers == 0).sum()),
        "n_traits": n_traits,
        "ms_persona": None,
        "ms_trait": None,
        "ms_resid": None,
        "var_persona": None,
        "var_persona_raw": None,
        "var_trait": None,
        "var_trait_raw": None,
        "var_resid": None,
        "icc_persona": None,
        "design_effect": None,
    }
