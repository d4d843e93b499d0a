"""Raters to simulate: the usual one, and ones that are hard on an analysis in a known way."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from benchlib.domain.simulation.response_model import Effects, PlantedModel
from benchlib.domain.vocabulary import SimulatedPreset


@dataclass(frozen=True, slots=True)
class Preset:
    """A rater with a known truth.

    Attributes:
        label: What it is, in a few words.
        model: The response model.
        refusal_share: Share of questions that it refuses for everybody, 0..1.
        refusal_effects: What a category adds to that share; the sum stays within 0..1.
    """

    label: str
    model: PlantedModel
    refusal_share: float = 0.0
    refusal_effects: Effects = field(default_factory=dict)

    def refusal_chance(self, attributes: Mapping[str, str]) -> float:
        """Probability 0..1 that a question about a persona is refused, at every attempt."""
        added = sum(
            categories.get(attributes.get(attribute, "").casefold(), 0.0)
            for attribute, categories in self.refusal_effects.items()
        )
        return min(1.0, max(0.0, self.refusal_share + added))


PRESETS: Final[Mapping[SimulatedPreset, Preset]] = MappingProxyType(
    {
        "usual": Preset("Planted effects of several groups", PlantedModel()),
        "four": Preset(
            'Says "4" to three in four, no effect of any group',
            PlantedModel(
                effects={},
                persona_sd=0.1,
                trait_sd=0.42,
                position_bias=1.0,
                acquiescence=0.0,
                spread_log_mean=0.0,
                spread_log_sd=0.0,
                residual_sd=0.12,
            ),
        ),
        "refusals": Preset(
            "Refuses more often for some groups",
            PlantedModel(),
            refusal_share=0.02,
            refusal_effects={"gender": {"female": 0.2}, "religion": {"muslim": 0.2}},
        ),
        "order": Preset("Strong effect of the scale order", PlantedModel(position_bias=1.0)),
        "unbiased": Preset(
            "No bias of any kind", PlantedModel(effects={}, position_bias=0.0, acquiescence=0.0)
        ),
    }
)
"""By name: `usual` is the rater of the sample and of every run that names none."""
