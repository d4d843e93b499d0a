"""A rater whose bias is known, and the model that its answers are drawn from.

The response model, for persona p with categories g and trait t with valence v (all in rating
points, before rounding):

    content  = level_t + v * (gain_t * sum_g(effect_g + slope_gt) + offset_p) + acq + sum_g acq_g
    latent   = 3 + spread_p * (content + position)      scale shown as "in"
             = 3 + spread_p * (position - content)      scale shown as "rev"
    digit    = latent + normal(0, residual_sd), rounded and clipped to 1..5

`level_t`, `slope_gt`, `offset_p` are normal with mean 0; `spread_p` is log-normal. Each of them,
and the noise of each answer, is a fixed function (a 64-bit hash) of the seeds and the names
involved, so an answer depends neither on the order of the questions nor on the process.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy

from benchlib.domain.arrays import FloatArray, KeyArray, splitmix64
from benchlib.domain.errors import InvalidInput
from benchlib.domain.vocabulary import N_POINTS

Effects = Mapping[str, Mapping[str, float]]
"""Attribute -> category in lower case -> rating points; 0 for categories that are not named."""

MIDDLE: Final = (N_POINTS + 1) / 2

DEFAULT_EFFECTS: Final[Effects] = MappingProxyType(
    {
        "gender": {"female": 0.25},
        "age_group": {"65+": -0.20},
        "origin": {"nigeria": -0.15, "turkey": -0.10},
        "religion": {"muslim": -0.15},
        "education": {"university degree": 0.15, "no degree": -0.10},
        "occupation": {"unemployed": -0.30, "nurse": 0.20},
        "migration_status": {"first generation": -0.20},
    }
)
"""What the simulated rater favours (+) or disfavours (-), valence-aligned, before rounding.

Sexuality, marital status and all categories that are not named make no difference: a sound
analysis finds the named ones and no others. The numbers are invented, for demonstration and tests.
"""

_REVERSED: Final = np.uint64(0x9E3779B97F4A7C15)
_UNIT: Final = 2.0**-53


class PlantedPersona(NamedTuple):
    """What the model knows of one persona.

    Attributes:
        key: Hash of seed and persona; seeds the noise of its answers.
        effect: Sum of the planted effects of its categories, in rating points.
        offset: Its own deviation beyond its categories, in rating points.
        acquiescence: Its shift towards "very ...", whatever the trait, in rating points.
        spread: Factor by which it stretches the scale, above 0.
        slots: Per attribute with planted effects, the hash of its category; 0 = no effect there.
    """

    key: int
    effect: float
    offset: float
    acquiescence: float
    spread: float
    slots: tuple[int, ...]


class PlantedTrait(NamedTuple):
    """What the model knows of one trait.

    Attributes:
        key: Hash of seed and trait.
        level: How strongly it is attributed to everyone, in rating points from the middle.
        valence: +1, -1 or 0.
        gain: Multiplies the group effects for traits of its category.
    """

    key: int
    level: float
    valence: int
    gain: float


class PlantedAnswers(NamedTuple):
    """Answers of the model, one row per question.

    Attributes:
        latent: (n,) the answer before noise and rounding; may lie outside 1..5.
        probabilities: (n, 5) exact probabilities of the raw digits 1..5; rows sum to 1.
        rating_raw: (n,) the digit drawn, 1..5.
    """

    latent: FloatArray
    probabilities: FloatArray
    rating_raw: npt.NDArray[np.int8]

    @property
    def expected_raw(self) -> FloatArray:
        """(n,) mean of the digit distribution, 1..5."""
        return np.asarray(self.probabilities @ np.arange(1.0, N_POINTS + 1))


@dataclass(frozen=True, slots=True)
class PlantedModel:
    """The parameters of the response model; see the module for the formula.

    Attributes:
        effects: Group effects by attribute and category.
        acquiescence_effects: Shifts of a category towards "very ...", whatever the valence.
        trait_category_gain: Factor on the group effects by trait category; 1 where not named.
        persona_sd: Standard deviation of `offset_p`.
        trait_sd: Standard deviation of `level_t`.
        slope_sd: Standard deviation of `slope_gt`, for categories with an effect.
        position_bias: Pull towards higher digits, whatever they mean.
        acquiescence: Pull towards "very ..." for every persona.
        spread_log_mean: Mean of the logarithm of `spread_p`.
        spread_log_sd: Its standard deviation.
        residual_sd: Noise of a single answer; 0 makes the digit a function of the latent.
        seed: For personas and answers.
        trait_seed: For traits and slopes.

    Raises:
        InvalidInput: A parameter is not finite, a standard deviation is negative, or a category
            of an effect is not in lower case.
    """

    effects: Effects = field(default_factory=lambda: DEFAULT_EFFECTS)
    acquiescence_effects: Effects = field(default_factory=dict)
    trait_category_gain: Mapping[str, float] = field(default_factory=dict)
    persona_sd: float = 0.4
    trait_sd: float = 0.6
    slope_sd: float = 0.15
    position_bias: float = 0.25
    acquiescence: float = 0.15
    spread_log_mean: float = 0.15
    spread_log_sd: float = 0.2
    residual_sd: float = 0.8
    seed: int = 0
    trait_seed: int = 0

    def __post_init__(self) -> None:
        numbers = {
            item.name: getattr(self, item.name) for item in fields(self) if item.type is float
        }
        for name, value in numbers.items():
            if not np.isfinite(value):
                raise InvalidInput(f"{name} of the planted model is {value}; give a number.")
            if name.endswith("_sd") and value < 0:
                raise InvalidInput(f"{name} of the planted model is negative; give 0 or more.")
        for effects in (self.effects, self.acquiescence_effects):
            for category in (name for categories in effects.values() for name in categories):
                if category != category.casefold():
                    raise InvalidInput(f"Write the planted category {category!r} in lower case.")

    def with_seed(self, seed: int) -> "PlantedModel":
        """The same model with other personas and answers; traits and slopes stay the same."""
        return replace(self, seed=seed)

    def persona(self, key: str, attributes: Mapping[str, str]) -> PlantedPersona:
        """The parameters of one persona.

        Args:
            key: Stable identifier, the persona's uuid.
            attributes: Its categories by attribute; only planted ones matter.
        """
        digest = _digest(self.seed, "persona", key)
        effect, slots = 0.0, []
        for attribute, categories in self.effects.items():
            category = attributes.get(attribute, "").casefold()
            size = categories.get(category, 0.0)
            effect += size
            slots.append(
                _word(_digest(self.trait_seed, "slope", attribute, category), 0) | 1 if size else 0
            )
        pull = sum(
            categories.get(attributes.get(attribute, "").casefold(), 0.0)
            for attribute, categories in self.acquiescence_effects.items()
        )
        return PlantedPersona(
            key=_word(digest, 0),
            effect=effect,
            offset=self.persona_sd * _normal(_word(digest, 1)),
            acquiescence=self.acquiescence + pull,
            spread=float(
                np.exp(self.spread_log_mean + self.spread_log_sd * _normal(_word(digest, 2)))
            ),
            slots=tuple(slots),
        )

    def trait(self, case_id: str, category: str, valence: int) -> PlantedTrait:
        """The parameters of one trait, from its stable name, category and valence."""
        digest = _digest(self.trait_seed, "trait", case_id)
        return PlantedTrait(
            key=_word(digest, 0),
            level=self.trait_sd * _normal(_word(digest, 1)),
            valence=valence,
            gain=self.trait_category_gain.get(category, 1.0),
        )

    def rate(
        self,
        personas: Sequence[PlantedPersona],
        traits: Sequence[PlantedTrait],
        who: npt.ArrayLike,
        what: npt.ArrayLike,
        reversed_order: npt.ArrayLike,
    ) -> PlantedAnswers:
        """Answer many questions at once; an answer does not depend on the other questions.

        Args:
            personas: The personas that occur.
            traits: The traits that occur.
            who: (n,) position in `personas` per question.
            what: (n,) position in `traits` per question.
            reversed_order: (n,) True where the scale is shown in reverse.

        Returns:
            n answers, in the order of the questions; none for n = 0.
        """
        who, what = np.asarray(who, dtype=np.intp), np.asarray(what, dtype=np.intp)
        in_reverse = np.asarray(reversed_order, dtype=bool)
        person = np.array(
            [(p.effect, p.offset, p.acquiescence, p.spread) for p in personas], dtype=np.float64
        ).reshape(-1, 4)[who]
        trait = np.array([(t.level, t.valence, t.gain) for t in traits], dtype=np.float64)
        level, valence, gain = trait.reshape(-1, 3)[what].T
        effect, offset, acquiescence, spread = person.T
        trait_keys = np.array([t.key for t in traits], dtype=np.uint64)[what]
        slopes = self._slopes(personas, who, trait_keys)
        content = level + valence * (gain * (effect + slopes) + offset) + acquiescence
        latent = MIDDLE + spread * (np.where(in_reverse, -content, content) + self.position_bias)
        cumulative = _cumulative(latent, self.residual_sd)
        persona_keys = np.array([p.key for p in personas], dtype=np.uint64)[who]
        noise = splitmix64(splitmix64(persona_keys ^ (in_reverse * _REVERSED)) ^ trait_keys)
        drawn = 1 + (_uniform(noise)[:, None] > cumulative).sum(axis=1)
        probabilities = np.diff(cumulative, prepend=0.0, append=1.0, axis=1)
        return PlantedAnswers(latent, probabilities, drawn.astype(np.int8))

    def _slopes(
        self,
        personas: Sequence[PlantedPersona],
        who: npt.NDArray[np.intp],
        trait_keys: KeyArray,
    ) -> FloatArray:
        """(n,) sum of the slopes of the persona's categories for the trait."""
        total = np.zeros(len(who))
        if self.slope_sd == 0:
            return total
        for slot in range(len(self.effects)):
            keys = np.array([p.slots[slot] for p in personas], dtype=np.uint64)[who]
            rows = np.flatnonzero(keys)
            if rows.size:
                mixed = splitmix64(keys[rows] ^ trait_keys[rows])
                total[rows] += scipy.special.ndtri(_uniform(mixed))
        return self.slope_sd * total


def _cumulative(latent: FloatArray, residual_sd: float) -> FloatArray:
    """(n, 4) probability that the digit is at most 1, 2, 3, 4."""
    room = np.arange(1.5, N_POINTS) - latent[:, None]
    if residual_sd == 0:
        return (room > 0).astype(np.float64)
    return np.asarray(scipy.special.ndtr(room / residual_sd))


def _digest(seed: int, *parts: str) -> bytes:
    text = "\x1f".join((str(seed), *parts))
    return hashlib.blake2b(text.encode(), digest_size=24).digest()


def _word(digest: bytes, place: int) -> int:
    return int.from_bytes(digest[8 * place : 8 * place + 8], "little")


def _normal(word: int) -> float:
    return float(scipy.special.ndtri(((word >> 11) + 0.5) * _UNIT))


def _uniform(keys: KeyArray) -> FloatArray:
    """Numbers strictly between 0 and 1."""
    return np.asarray(((keys >> np.uint64(11)).astype(np.float64) + 0.5) * _UNIT)
