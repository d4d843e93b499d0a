"""What a dataset is made of: personas per category of each attribute."""

from collections.abc import Mapping
from typing import TypedDict

import pandas as pd

from benchlib.domain.material.personas import PersonaTable, order_categories
from benchlib.domain.vocabulary import UNKNOWN_CATEGORY


class CategoryCount(TypedDict):
    """How many personas of a dataset have a category; share of all its personas, 0..1."""

    category: str
    count: int
    share: float


class AttributeComposition(TypedDict):
    """The categories of an attribute; `n_missing` counts personas in which it is not given."""

    attribute: str
    n_missing: int
    categories: list[CategoryCount]


class Composition(TypedDict):
    """What a dataset is made of. Ages are None where none is known."""

    n_personas: int
    n_counterfactuals: int
    n_ages: int
    youngest: int | None
    oldest: int | None
    attributes: list[AttributeComposition]


def dataset_composition(personas: pd.DataFrame, n_counterfactuals: int) -> Composition:
    """What a stored dataset is made of."""
    ages = personas["age"].dropna()
    attributes = [str(name) for name in personas if name not in ("persona_id", "uuid", "age")]
    return {
        "n_personas": len(personas),
        "n_counterfactuals": n_counterfactuals,
        "n_ages": len(ages),
        "youngest": int(ages.min()) if len(ages) else None,
        "oldest": int(ages.max()) if len(ages) else None,
        "attributes": [
            _attribute_composition(
                name, {str(key): int(n) for key, n in personas[name].value_counts().items()}
            )
            for name in attributes
        ],
    }


def table_composition(table: PersonaTable) -> Composition:
    """What a table that passed all checks will be made of."""
    ages = table.ages[table.ages >= 0]
    links = table.texts.get("source_uuid")
    return {
        "n_personas": table.n_personas,
        "n_counterfactuals": 0 if links is None else int((~links.empty).sum()),
        "n_ages": len(ages),
        "youngest": int(ages.min()) if len(ages) else None,
        "oldest": int(ages.max()) if len(ages) else None,
        "attributes": [
            _attribute_composition(name, column.counts())
            for name, column in table.attributes.items()
        ],
    }


def _attribute_composition(attribute: str, counts: Mapping[str, int]) -> AttributeComposition:
    total = sum(counts.values())
    named = {category: n for category, n in counts.items() if category and n}
    missing = total - sum(named.values()) + named.get(UNKNOWN_CATEGORY, 0)
    if missing:
        named[UNKNOWN_CATEGORY] = missing
    return {
        "attribute": attribute,
        "n_missing": missing,
        "categories": [
            {"category": category, "count": int(named[category]), "share": named[category] / total}
            for category in order_categories(attribute, named)
        ],
    }
