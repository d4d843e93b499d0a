"""Personas: their attributes, their age groups, and what a table of them may hold."""

from bisect import bisect
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from benchlib.domain.vocabulary import UNKNOWN_CATEGORY

AGE_GROUP: Final = "age_group"
"""The attribute that follows from the age."""

AGE_GROUPS: Final = ("0-9", "10-19", "20-29", "30-44", "45-64", "65+")
_GROUP_STARTS: Final = (0, 10, 20, 30, 45, 65)


class PersonaDraft(NamedTuple):
    """A persona before it is stored.

    Attributes:
        uuid: Stable identifier, also across stores.
        attributes: Categorical attributes in the order shown to the model.
        source_uuid: For a counterfactual, the persona of the same dataset it was made from.
        changed_attribute: For a counterfactual, the attribute in which it differs.
    """

    uuid: str
    attributes: Mapping[str, str]
    age: int | None = None
    name: str | None = None
    appearance: str | None = None
    biography: str | None = None
    source_uuid: str | None = None
    changed_attribute: str | None = None


def order_categories(attribute: str, categories: Iterable[str]) -> list[str]:
    """Age groups from young to old, other categories by name, `Unknown` last."""

    def rank(category: str) -> tuple[bool, int, str]:
        in_order = attribute == AGE_GROUP and category in AGE_GROUPS
        place = AGE_GROUPS.index(category) if in_order else len(AGE_GROUPS)
        return category == UNKNOWN_CATEGORY, place, category

    return sorted(categories, key=rank)


def age_group(age: int) -> str:
    """The group a person of this age (whole years, 0..120) belongs to."""
    return AGE_GROUPS[bisect(_GROUP_STARTS, age) - 1]
