"""The payload of a forest."""

from typing import TypedDict

from benchlib.domain.stats.pooling import MetaMethod
from benchlib.domain.stats.welch import Status, Verdict


class ForestRow(TypedDict):
    """One trait, one category against the baseline; None = undefined.

    `n_base` and `n_cat` are personas that rated the trait; `n_personas`, `n_ratings` and
    `n_missing` describe the category. Means and SDs are on the aligned 1..5 scale.
    """

    trait_id: int
    case_id: str
    label: str
    trait_category: str
    valence: int
    category: str
    baseline: str
    status: Status
    n_base: int
    n_cat: int
    n_personas: int
    n_ratings: int
    n_missing: int
    mean_base: float | None
    mean_cat: float | None
    sd_base: float | None
    sd_cat: float | None
    delta: float | None
    se: float | None
    df: float | None
    ci_low: float | None
    ci_high: float | None
    p_value: float | None
    p_welch: float | None
    p_perm: float | None
    perm_exact: bool
    q_value: float | None
    q_by: float | None
    q_table: float | None
    p_max_t: float | None
    significant: bool | None
    verdict: Verdict | None
    cliffs_delta: float | None
    cliffs_low: float | None
    cliffs_high: float | None
    cliffs_p: float | None
    prob_superior: float | None
    mwu_p: float | None
    weight_percent: float | None
    precision_percent: float | None


class PopulationEffect(TypedDict):
    """The second diamond: the population the traits are drawn from, `pool_trait_population`."""

    k: int
    mean: float | None
    se: float | None
    df: float | None
    ci_low: float | None
    ci_high: float | None
    p_value: float | None
    tau2: float | None
    pi_low: float | None
    pi_high: float | None
    i2: float | None
    f_het: float | None
    df1: int | None
    df2: int | None
    epsilon: float | None
    p_het: float | None
    p_het_uncorrected: float | None


class IndependentPooling(TypedDict):
    """A textbook pooling, `pool_independent`; `excluded` lists case ids that have no weight."""

    method: MetaMethod
    k: int
    excluded: list[str]
    tau2: float | None
    mean: float | None
    se: float | None
    ci_low: float | None
    ci_high: float | None
    se_hksj: float | None
    ci_low_hksj: float | None
    ci_high_hksj: float | None
    pi_low: float | None
    pi_high: float | None
    q: float | None
    q_p: float | None
    i2: float | None


class PooledEffect(TypedDict):
    """Traits pooled for one category: the first diamond and what belongs to it.

    The numbers at this level are for the given trait list, from the persona scores over it.
    `n_personas`, `n_ratings` and `n_missing` describe the category, as in the rows. `k_traits` are
    rated in both groups, `overlap` is their share of the rated traits.
    """

    category: str | None
    baseline: str | None
    trait_category: str | None
    status: Status
    k: int
    n_personas: int
    n_ratings: int
    n_missing: int
    n_base: int
    n_cat: int
    mean: float | None
    se: float | None
    df: float | None
    ci_low: float | None
    ci_high: float | None
    p_value: float | None
    p_welch: float | None
    p_perm: float | None
    perm_exact: bool
    k_traits: int
    overlap: float | None
    p_tost: float | None
    population: PopulationEffect
    independent: list[IndependentPooling]


class Forest(TypedDict):
    """A forest of one attribute: rows and diamonds of one or several categories."""

    n: int
    attribute: str
    baseline: str | None
    targets: list[str]
    trait_category: str | None
    n_traits: int
    min_n: int
    alpha: float
    sesoi: float
    family_size: int
    rows: list[ForestRow]
    overall: PooledEffect
    pooled: list[PooledEffect]
