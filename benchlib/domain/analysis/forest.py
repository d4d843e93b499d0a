"""The forest: one delta per trait, and what they add up to."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import cast

import numpy as np

from benchlib.domain.analysis.cells import Cells, take_traits
from benchlib.domain.analysis.forest_rows import (
    Forest,
    ForestRow,
    IndependentPooling,
    PooledEffect,
    PopulationEffect,
)
from benchlib.domain.analysis.persona_scores import (
    PersonaScores,
    compute_grouping,
    compute_persona_scores,
)
from benchlib.domain.analysis.trait_comparisons import (
    ForestOptions,
    TraitComparison,
    TraitStudy,
    columns_of,
    compare_traits,
)
from benchlib.domain.analysis.trait_sets import GroupContrasts, TraitSet
from benchlib.domain.errors import InvalidInput
from benchlib.domain.stats.pooling import (
    TraitPopulationEffect,
    pool_independent,
    pool_trait_population,
)
from benchlib.domain.stats.two_groups import TwoGroups
from benchlib.domain.stats.welch import (
    Status,
    compute_equivalence,
    compute_q_values,
    is_significant,
    judge,
    none_if_nan,
)

DEFAULT_OPTIONS = ForestOptions()


def compute_forest(
    cells: Cells,
    attribute: str,
    *,
    baseline: str | None = None,
    targets: Sequence[str] | None = None,
    trait_category: str | None = None,
    neutral: bool = False,
    options: ForestOptions = DEFAULT_OPTIONS,
    rng: np.random.Generator | None = None,
) -> Forest:
    """Compare categories with the baseline trait by trait, and pool the traits.

    Rows are comparisons of aligned, order-centred ratings (`compute_two_groups`), plus Cliff's
    delta (Brunner-Munzel) and Mann-Whitney from the answers. Two pooled effects are given, overall
    and per trait category: for this trait list (persona scores; equal to the delta of the deltas
    table if no trait is filtered out), and for the population of traits.

    Args:
        cells: Cells of the run.
        attribute: A persona attribute.
        baseline: The category to compare against; default: the one with most personas.
        targets: Categories to compare; default: the largest after the baseline.
        trait_category: A trait category, or None for all.
        neutral: True for the neutral traits, on the unaligned scale; a family of their own.
        options: What else to show.
        rng: Source of permutation draws, needed for `options.max_t`.

    Returns:
        Rows by target in trait order. `q_value` is corrected over all trait rows of the run (every
        attribute, category and trait), `q_table` over the rows shown. `weight_percent` is the
        trait's weight in both pooled means, `precision_percent` its share of inverse variance.
        `overall` belongs to the first target.

    Raises:
        InvalidInput: There is no such attribute, baseline, target or trait category; or draws are
            asked for without `rng`.
    """
    compute_grouping(cells, attribute)  # raises for an attribute that does not exist
    wanted = None if baseline is None else {attribute: baseline}
    study = TraitStudy.prepare(cells, wanted, trait_category, neutral=neutral)
    contrast = study.contrasts[attribute]
    chosen = _largest(study, contrast) if targets is None else _positions(contrast, targets)
    return _compute_forest(study, attribute, chosen, options, rng)


def compute_all_forests(
    cells: Cells,
    *,
    attributes: Sequence[str] | None = None,
    baselines: Mapping[str, str] | None = None,
    trait_category: str | None = None,
    neutral: bool = False,
    options: ForestOptions = DEFAULT_OPTIONS,
    rng: np.random.Generator | None = None,
) -> dict[str, Forest]:
    """Compute the forests of several attributes, each with all categories as targets.

    Args:
        cells: Cells of the run.
        attributes: Attributes to report; None = all.
        baselines: The category to compare against, by attribute.
        trait_category: A trait category, or None for all.
        neutral: True for the neutral traits.
        options: What else to show.
        rng: Source of permutation draws, needed for `options.max_t`.

    Returns:
        `compute_forest` by attribute.

    Raises:
        InvalidInput: As `compute_forest`.
    """
    study = TraitStudy.prepare(cells, baselines, trait_category, neutral=neutral)
    reported = list(study.contrasts) if attributes is None else list(attributes)
    for name in reported:
        compute_grouping(cells, name)
    return {
        name: _compute_forest(study, name, study.contrasts[name].targets, options, rng)
        for name in reported
    }


def _compute_forest(
    study: TraitStudy,
    attribute: str,
    targets: Sequence[int],
    options: ForestOptions,
    rng: np.random.Generator | None,
) -> Forest:
    contrast = study.contrasts[attribute]
    comparisons = compare_traits(study, contrast, targets, options, rng)
    scopes = study.scopes()
    tests = [_test_scores(contrast, scope.scores) for scope in scopes]
    pooled = [
        _pool(study, contrast, comparison, scope, tests[i], options)
        for comparison in comparisons
        for i, scope in enumerate(scopes)
    ]
    rows = [
        row for comparison in comparisons for row in _rows(study, contrast, comparison, options)
    ]
    for row, q in zip(rows, compute_q_values([row["p_value"] for row in rows]), strict=True):
        row["q_table"] = none_if_nan(q)
    return {
        "n": study.trait_set.cells.n_ratings,
        "attribute": attribute,
        "baseline": contrast.baseline,
        "targets": [contrast.grouping.categories[i] for i in targets],
        "trait_category": study.trait_set.trait_category,
        "n_traits": study.trait_set.cells.n_traits,
        "min_n": options.min_n,
        "alpha": options.alpha,
        "sesoi": options.sesoi,
        "family_size": study.family_size,
        "rows": rows,
        "overall": pooled[0] if pooled else _nothing_pooled(study, contrast),
        "pooled": pooled,
    }


def _pool(
    study: TraitStudy,
    contrast: GroupContrasts,
    comparison: TraitComparison,
    scope: TraitSet,
    test: TwoGroups,
    options: ForestOptions,
) -> PooledEffect:
    """Pool the listed traits of a scope, whose persona scores compare as `test` (G,) says."""
    columns = columns_of(study.trait_sets[0], scope)
    listed = comparison.listed[columns]
    if not listed.all():
        fewer = take_traits(scope.cells, listed)
        test = _test_scores(contrast, compute_persona_scores(fewer, neutral=study.neutral))
    found, rows = test.at(comparison.target), comparison.test
    n_rated = np.minimum(rows.n_base, rows.n_cat)[columns]
    used = columns[listed & (n_rated > 1)]
    used = used[np.isfinite(rows.delta[used])]
    population = pool_trait_population(
        rows.delta[used],
        comparison.cov_base[np.ix_(used, used)],
        comparison.cov_cat[np.ix_(used, used)],
        int(rows.n_base[used].max(initial=0)),
        int(rows.n_cat[used].max(initial=0)),
        float(found.se**2),
        float(found.df),
    )
    k_traits = int((listed & (n_rated > 0)).sum())
    n_traits = int((scope.cells.n_answers[:, listed] > 0).any(axis=0).sum())
    case_ids = scope.cells.traits["case_id"]
    at = columns[listed]
    members = contrast.grouping.codes == comparison.target
    answers = scope.cells.n_answers[np.ix_(members, listed)]
    independent: list[IndependentPooling] = []
    for method in options.poolings:
        effect = pool_independent(rows.delta[at], rows.se[at] ** 2, method)
        excluded = case_ids[listed].iloc[list(effect.excluded)].astype(str).tolist()
        independent.append(cast(IndependentPooling, asdict(effect) | {"excluded": excluded}))
    return {
        "category": contrast.grouping.categories[comparison.target],
        "baseline": contrast.baseline,
        "trait_category": scope.trait_category,
        "status": cast(Status, str(found.status)),
        "k": k_traits,
        "n_personas": int(members.sum()),
        "n_ratings": int(answers.sum()),
        "n_missing": int((answers == 0).sum()),
        "n_base": int(found.n_base),
        "n_cat": int(found.n_cat),
        "mean": none_if_nan(found.delta),
        "se": none_if_nan(found.se),
        "df": none_if_nan(found.df),
        "ci_low": none_if_nan(found.ci_low),
        "ci_high": none_if_nan(found.ci_high),
        "p_value": none_if_nan(found.p_value),
        "p_welch": none_if_nan(found.p_welch),
        "p_perm": none_if_nan(found.p_perm),
        "perm_exact": bool(found.perm_exact),
        "k_traits": k_traits,
        "overlap": k_traits / n_traits if n_traits else None,
        "p_tost": none_if_nan(compute_equivalence(found, options.sesoi).p_value),
        "population": cast(PopulationEffect, asdict(population)),
        "independent": independent,
    }


def _test_scores(contrast: GroupContrasts, scores: PersonaScores) -> TwoGroups:
    """(G,) comparisons on the persona scores of a trait set."""
    moments = contrast.moments(scores.z)
    return contrast.compare(scores.z, moments, contrast.find_comparable(scores))


def _nothing_pooled(study: TraitStudy, contrast: GroupContrasts) -> PooledEffect:
    return {
        "category": None,
        "baseline": contrast.baseline,
        "trait_category": study.trait_set.trait_category,
        "status": "no_data",
        "k": 0,
        "n_personas": 0,
        "n_ratings": 0,
        "n_missing": 0,
        "n_base": 0,
        "n_cat": 0,
        "mean": None,
        "se": None,
        "df": None,
        "ci_low": None,
        "ci_high": None,
        "p_value": None,
        "p_welch": None,
        "p_perm": None,
        "perm_exact": False,
        "k_traits": 0,
        "overlap": None,
        "p_tost": None,
        "population": cast(PopulationEffect, asdict(TraitPopulationEffect(0))),
        "independent": [],
    }


def _rows(
    study: TraitStudy, contrast: GroupContrasts, comparison: TraitComparison, options: ForestOptions
) -> list[ForestRow]:
    attribute = contrast.grouping.attribute
    cells, target = study.trait_sets[0].cells, comparison.target
    moments = study.moments[attribute]
    base_moments, cat_moments = moments.at(comparison.base), moments.at(target)
    test, cliffs = comparison.test, comparison.cliffs
    q_value, q_by = study.q_value[attribute][target], study.q_by[attribute][target]
    p_tost = compute_equivalence(test, options.sesoi).p_value
    answers = cells.n_answers[contrast.grouping.codes == target]
    n_ratings, n_missing = answers.sum(axis=0), (answers == 0).sum(axis=0)
    n_personas = len(answers)
    pooled = comparison.listed & np.isfinite(test.delta)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(pooled & (test.se > 0), test.se**-2, np.nan)
        precision = 100 * precision / np.nansum(precision)
    case_ids, labels, categories = (
        cells.traits[name].astype(str).tolist() for name in ("case_id", "label", "trait_category")
    )
    valence = cells.traits["valence"].to_numpy(dtype=np.int8)
    rows: list[ForestRow] = []
    for t in np.flatnonzero(comparison.listed).tolist():
        q = {"bh": none_if_nan(q_value[t]), "by": none_if_nan(q_by[t])}
        significant = is_significant(q[options.method], options.alpha)
        rows.append(
            {
                "trait_id": int(cells.trait_ids[t]),
                "case_id": case_ids[t],
                "label": labels[t],
                "trait_category": categories[t],
                "valence": int(valence[t]),
                "category": contrast.grouping.categories[target],
                "baseline": contrast.grouping.categories[comparison.base],
                "status": cast(Status, str(test.status[t])),
                "n_base": int(test.n_base[t]),
                "n_cat": int(test.n_cat[t]),
                "n_personas": n_personas,
                "n_ratings": int(n_ratings[t]),
                "n_missing": int(n_missing[t]),
                "mean_base": none_if_nan(cells.trait_means[t] + base_moments.mean[t]),
                "mean_cat": none_if_nan(cells.trait_means[t] + cat_moments.mean[t]),
                "sd_base": none_if_nan(base_moments.var[t] ** 0.5),
                "sd_cat": none_if_nan(cat_moments.var[t] ** 0.5),
                "delta": none_if_nan(test.delta[t]),
                "se": none_if_nan(test.se[t]),
                "df": none_if_nan(test.df[t]),
                "ci_low": none_if_nan(test.ci_low[t]),
                "ci_high": none_if_nan(test.ci_high[t]),
                "p_value": none_if_nan(test.p_value[t]),
                "p_welch": none_if_nan(test.p_welch[t]),
                "p_perm": none_if_nan(test.p_perm[t]),
                "perm_exact": bool(test.perm_exact[t]),
                "q_value": q["bh"],
                "q_by": q["by"],
                "q_table": None,
                "p_max_t": none_if_nan(comparison.p_max_t[t]),
                "significant": significant,
                "verdict": judge(significant, none_if_nan(p_tost[t]), options.alpha),
                "cliffs_delta": none_if_nan(cliffs.delta[t]),
                "cliffs_low": none_if_nan(cliffs.ci_low[t]),
                "cliffs_high": none_if_nan(cliffs.ci_high[t]),
                "cliffs_p": none_if_nan(cliffs.p_value[t]),
                "prob_superior": none_if_nan(cliffs.prob_superior[t]),
                "mwu_p": none_if_nan(comparison.mann_whitney.p_value[t]),
                "weight_percent": 100 / int(pooled.sum()) if pooled[t] else None,
                "precision_percent": none_if_nan(precision[t]),
            }
        )
    return rows


def _largest(study: TraitStudy, contrast: GroupContrasts) -> list[int]:
    sizes = contrast.grouping.sizes(study.trait_sets[0].scores.enters)
    return sorted(contrast.targets, key=lambda i: (-sizes[i], i))[:1]


def _positions(contrast: GroupContrasts, targets: Sequence[str]) -> list[int]:
    names = contrast.grouping.categories
    known = [names[i] for i in contrast.targets]
    strays = [name for name in targets if name not in known]
    if strays:
        options = ", ".join(known) or "none"
        raise InvalidInput(
            f"{strays} cannot be compared with {contrast.baseline!r}; choose from: {options}."
        )
    return [names.index(name) for name in targets]
