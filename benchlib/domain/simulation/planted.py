"""A simulated run of the planted rater, and the exact values an analysis of it must find."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy

from benchlib.domain.errors import InvalidInput
from benchlib.domain.simulation.response_model import MIDDLE, PlantedModel, PlantedTrait
from benchlib.domain.vocabulary import N_POINTS, SCALE_ORDERS

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PlantedTruth:
    """What an infinitely large run of a design would measure, on the observed 1..5 scale.

    Group dictionaries name every group; contrasts (`delta`, `trait_delta`, `cliffs_delta`) are
    group minus baseline, for all groups but the baseline.

    Attributes:
        group_means: Mean aligned rating, traits counting equally.
        delta: Difference of those means.
        trait_delta: The same for each trait with a valence, in the order of the design.
        cliffs_delta: Mean over those traits of Cliff's delta between personas' answers; a pair of
            both scale orders counts as its mean.
        order_mean_diff: Mean of in - (6 - rev) over all traits.
        order_exact: Share of pairs with in = 6 - rev.
        order_within1: Share of pairs at most 1 apart.
        order_mae: Mean distance of a pair.
        kappa_quadratic: Quadratically weighted kappa of the pairs.
        acquiescence: Mean of the levels of positive and negative traits before alignment, minus 3.
        extreme_share: Share of the answers 1 and 5, all traits.
        midpoint_share: Share of the answer 3, all traits.
    """

    group_means: dict[str, float]
    delta: dict[str, float]
    trait_delta: dict[str, tuple[float, ...]]
    cliffs_delta: dict[str, float]
    order_mean_diff: float
    order_exact: float
    order_within1: float
    order_mae: float
    kappa_quadratic: float
    acquiescence: dict[str, float]
    extreme_share: dict[str, float]
    midpoint_share: dict[str, float]


def _design_model() -> PlantedModel:
    return PlantedModel(
        effects={"group": {"b": 0.25, "c": -0.15}},
        acquiescence_effects={"group": {"c": 0.1}},
    )


def _design_shares() -> dict[str, float]:
    return {"a": 0.40, "b": 0.35, "c": 0.25}


@dataclass(frozen=True, slots=True)
class PlantedDesign:
    """A run to simulate: groups of one attribute, the traits, and how they are asked.

    Attributes:
        model: The rater; its seeds are replaced in `simulate`.
        attribute: Name of the attribute whose categories are the groups.
        shares: Share of personas per group, summing to 1; the first group is the baseline.
        n_personas: Personas in the run.
        n_positive: Traits of valence +1.
        n_negative: Traits of valence -1.
        n_neutral: Traits of valence 0.
        dual_fraction: Share of persona x trait cells asked in both scale orders; the others
            are asked in one, chosen at random.
        missing_share: Share of the questions that get no rating.

    Raises:
        InvalidInput: Shares do not sum to 1, or a fraction lies outside 0..1.
    """

    model: PlantedModel = field(default_factory=_design_model)
    attribute: str = "group"
    shares: Mapping[str, float] = field(default_factory=_design_shares)
    n_personas: int = 200
    n_positive: int = 12
    n_negative: int = 12
    n_neutral: int = 6
    dual_fraction: float = 0.3
    missing_share: float = 0.03

    def __post_init__(self) -> None:
        if not np.isclose(sum(self.shares.values()), 1):
            raise InvalidInput("The shares of the planted groups do not sum to 1.")
        if not (0 <= self.dual_fraction <= 1 and 0 <= self.missing_share < 1):
            raise InvalidInput("A fraction of the planted design lies outside 0..1.")

    @property
    def valences(self) -> IntArray:
        """(T,) valence of every trait: the positive ones, then the negative, then the neutral."""
        return np.repeat([1, -1, 0], [self.n_positive, self.n_negative, self.n_neutral])

    def traits(self) -> pd.DataFrame:
        """The traits: `trait_id`, `case_id`, `label`, `trait_category`, `valence`."""
        valences = self.valences
        names = [f"trait_{number:03d}" for number in range(1, len(valences) + 1)]
        themes = np.where(np.arange(len(valences)) % 2 == 0, "competence", "warmth")
        return pd.DataFrame(
            {
                "trait_id": np.arange(1, len(valences) + 1),
                "case_id": pd.Categorical(names),
                "label": pd.Categorical(names),
                "trait_category": pd.Categorical(themes, categories=["competence", "warmth"]),
                "valence": valences.astype(np.int8),
            }
        )

    def simulate(
        self, seed: int, *, keep_missing: bool = False, with_expected: bool = False
    ) -> pd.DataFrame:
        """Simulate one run.

        Args:
            seed: For the personas, the scale orders and the answers; the traits stay the same.
            keep_missing: Keep rows without a rating, with NaN ratings.
            with_expected: Add `expected_raw`, the mean of each answer's exact distribution.

        Returns:
            The long frame, one row per answer, by persona and trait; see `compute_cells` for its
            columns. Ratings are int8, or float with `keep_missing`.
        """
        rng = np.random.default_rng(seed)
        model = self.model.with_seed(seed)
        table = self.traits()
        groups = _apportion(self.shares, self.n_personas, rng)
        personas = [
            model.persona(f"persona-{number}", {self.attribute: group})
            for number, group in enumerate(groups)
        ]
        who, what, in_reverse = self._ask(rng)
        answers = model.rate(personas, self._planted_traits(), who, what, in_reverse)
        missing = rng.random(len(who)) < self.missing_share
        frame = self._long_frame(table, groups, who, what, in_reverse, answers.rating_raw)
        if with_expected:
            frame["expected_raw"] = answers.expected_raw
        if not keep_missing:
            return frame[~missing].reset_index(drop=True)
        for name in frame.columns.intersection(
            ["rating_raw", "rating_pre_valence", "rating", "expected_raw"]
        ):
            frame[name] = frame[name].mask(missing)
        return frame

    def _planted_traits(self) -> list[PlantedTrait]:
        table = self.traits()
        return [
            self.model.trait(str(case_id), str(category), int(valence))
            for case_id, category, valence in zip(
                table["case_id"], table["trait_category"], table["valence"], strict=True
            )
        ]

    def _ask(self, rng: np.random.Generator) -> tuple[IntArray, IntArray, npt.NDArray[np.bool_]]:
        """Persona, trait and scale order of every question."""
        n_cells = self.n_personas * len(self.valences)
        is_dual = rng.random(n_cells) < self.dual_fraction
        first = rng.random(n_cells) < 0.5
        cell = np.repeat(np.arange(n_cells), np.where(is_dual, 2, 1))
        in_reverse = first[cell]
        second = np.flatnonzero(cell[1:] == cell[:-1]) + 1
        in_reverse[second] = ~in_reverse[second]
        who, what = np.divmod(cell, max(len(self.valences), 1))
        return who, what, in_reverse

    def _long_frame(
        self,
        table: pd.DataFrame,
        groups: Sequence[str],
        who: IntArray,
        what: IntArray,
        in_reverse: npt.NDArray[np.bool_],
        rating_raw: npt.NDArray[np.int8],
    ) -> pd.DataFrame:
        frame = table.iloc[what].reset_index(drop=True)
        frame.insert(0, "persona_id", who + 1)
        names = list(self.shares)
        codes = np.array([names.index(group) for group in groups], dtype=np.int64)[who]
        before = np.where(in_reverse, N_POINTS + 1 - rating_raw, rating_raw).astype(np.int8)
        return frame.assign(
            scale_order=pd.Categorical(
                np.array(SCALE_ORDERS)[in_reverse.astype(np.intp)], SCALE_ORDERS
            ),
            rating_raw=rating_raw,
            rating_pre_valence=before,
            rating=np.where(frame["valence"] == -1, N_POINTS + 1 - before, before).astype(np.int8),
            **{self.attribute: pd.Categorical.from_codes(codes, pd.Index(names))},
        )

    def truth(self) -> PlantedTruth:
        """Integrate the response model over personas, exactly up to quadrature error (1e-8).

        31 Gauss-Hermite nodes for `offset_p`, 21 for the logarithm of `spread_p`, the normal
        distribution function for the noise; no random numbers.
        """
        groups = list(self.shares)
        tables = {group: self._answer_shares(group) for group in groups}
        shares = np.array([self.shares[group] for group in groups])
        signs = self.valences
        scored = signs != 0
        baseline = groups[0]
        means = {group: _trait_means(tables[group], signs) for group in groups}
        cells = {group: self._cell_shares(tables[group], signs)[scored] for group in groups}
        pairs = np.tensordot(shares, [tables[group].pairs.mean(axis=0) for group in groups], 1)
        digits = np.arange(1, N_POINTS + 1)
        distance = digits[:, None] - digits[None, :]
        chance = np.outer(pairs.sum(axis=1), pairs.sum(axis=0))
        disagreement = float((chance * distance**2).sum())
        others = groups[1:]
        return PlantedTruth(
            group_means={group: float(means[group][scored].mean()) for group in groups},
            delta={
                group: float((means[group] - means[baseline])[scored].mean()) for group in others
            },
            trait_delta={
                group: tuple((means[group] - means[baseline])[scored].tolist()) for group in others
            },
            cliffs_delta={
                group: float(_cliffs_deltas(cells[group], cells[baseline]).mean())
                for group in others
            },
            order_mean_diff=float((pairs * distance).sum()),
            order_exact=float(np.trace(pairs)),
            order_within1=float(pairs[np.abs(distance) <= 1].sum()),
            order_mae=float((pairs * np.abs(distance)).sum()),
            kappa_quadratic=1 - float((pairs * distance**2).sum()) / disagreement,
            acquiescence={
                group: float(
                    np.mean(
                        [_trait_means(tables[group], 0 * signs)[signs == v].mean() for v in (1, -1)]
                    )
                    - MIDDLE
                )
                for group in groups
            },
            extreme_share={
                group: float(tables[group].single[:, [0, -1]].sum(axis=1).mean())
                for group in groups
            },
            midpoint_share={
                group: float(tables[group].single[:, N_POINTS // 2].mean()) for group in groups
            },
        )

    def _answer_shares(self, group: str) -> "_AnswerShares":
        """Distributions of the answers of one group, integrated over its personas."""
        model, traits = self.model, self._planted_traits()
        offsets, offset_weights = _normal_nodes(31, model.persona_sd)
        stretches, stretch_weights = _normal_nodes(21, model.spread_log_sd)
        typical = model.persona("typical", {self.attribute: group})
        personas = [
            typical._replace(offset=offset, spread=np.exp(model.spread_log_mean + stretch))
            for offset in offsets
            for stretch in stretches
        ]
        weights = np.outer(offset_weights, stretch_weights).ravel()
        shape = (2, len(personas), len(traits))
        in_reverse, who, what = (index.ravel() for index in np.indices(shape))
        answers = model.rate(personas, traits, who, what, in_reverse)
        shown_in, shown_rev = answers.probabilities.reshape(*shape, N_POINTS)
        shown_rev = shown_rev[..., ::-1]
        return _AnswerShares(
            single=np.tensordot(weights, (shown_in + shown_rev) / 2, 1),
            pairs=np.einsum("n,nti,ntj->tij", weights, shown_in, shown_rev, optimize=True),
        )

    def _cell_shares(self, answers: "_AnswerShares", signs: IntArray) -> FloatArray:
        """(T, 9) distribution of a cell's aligned mean over 1, 1.5, ..., 5; pairs give halves."""
        present = 1 - self.missing_share
        both = self.dual_fraction * present**2
        one = (1 - self.dual_fraction) * present + self.dual_fraction * 2 * present * (1 - present)
        shares = np.zeros((len(signs), 2 * N_POINTS - 1))
        shares[:, ::2] += one * answers.single
        for first in range(N_POINTS):
            shares[:, first : first + N_POINTS] += both * answers.pairs[:, first]
        shares[signs == -1] = shares[signs == -1][:, ::-1]
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))


class _AnswerShares(NamedTuple):
    """Answers of one group after undoing the scale order: (T, 5) single, (T, 5, 5) in x rev."""

    single: FloatArray
    pairs: FloatArray


def _trait_means(answers: _AnswerShares, signs: IntArray) -> FloatArray:
    means = answers.single @ np.arange(1.0, N_POINTS + 1)
    return np.where(signs == -1, N_POINTS + 1 - means, means)


def _cliffs_deltas(category: FloatArray, baseline: FloatArray) -> FloatArray:
    """Cliff's delta per row from two (T, points) distributions."""
    below = np.cumsum(baseline, axis=1) - baseline
    above = 1 - below - baseline
    return np.asarray((category * (below - above)).sum(axis=1))


def _normal_nodes(count: int, sd: float) -> tuple[FloatArray, FloatArray]:
    """Nodes and weights that integrate over a normal with mean 0."""
    nodes, weights = scipy.special.roots_hermitenorm(count)
    return sd * nodes, weights / weights.sum()


def _apportion(shares: Mapping[str, float], size: int, rng: np.random.Generator) -> list[str]:
    """Groups of `size` personas in random order, shares rounded by largest remainder."""
    exact = np.array(list(shares.values())) * size
    counts = np.floor(exact).astype(np.int64)
    leftovers = np.argsort(counts - exact, kind="stable")[: size - counts.sum()]
    counts[leftovers] += 1
    groups = [group for group, n in zip(shares, counts.tolist(), strict=True) for _ in range(n)]
    return [groups[place] for place in rng.permutation(size)]
