"""Check the links from counterfactuals to their sources in a persona table."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from benchlib.domain.material.text_tables import Problems, TextColumn, list_words


def check_links(
    problems: Problems,
    texts: Mapping[str, TextColumn],
    attributes: Mapping[str, TextColumn],
    aliases: Mapping[str, str],
) -> list[str]:
    """Check that every counterfactual names a source in this table and the changed attribute.

    Args:
        problems: Collects what is wrong.
        texts: `uuid`, `source_uuid` and `changed_attribute`, those that the table has.
        attributes: The attributes of the table.
        aliases: Other names for attributes in `changed_attribute`.

    Returns:
        Warnings, as sentences: what is allowed but may be a mistake.

    Raises:
        InvalidInput: Something is wrong.
    """
    none = TextColumn(np.zeros(0, dtype=np.int64), [])
    source, changed = (texts.get(name, none) for name in ("source_uuid", "changed_attribute"))
    if source is none:
        if changed is not none and not changed.empty.all():
            problems.add("There is a column changed_attribute, but source_uuid is missing.")
        return []
    if "uuid" not in texts:
        problems.add("There is a column source_uuid, but uuid is missing.")
        return []
    uuid = texts["uuid"]
    linked = ~source.empty
    row_of_uuid = np.empty(len(uuid.values), dtype=np.int64)
    row_of_uuid[uuid.codes] = np.arange(len(uuid.codes))
    place_of_uuid = {value: int(row_of_uuid[code]) for code, value in enumerate(uuid.values)}
    source_rows = np.array([place_of_uuid.get(value, -1) for value in source.values])[source.codes]
    missing = linked & (source_rows < 0)
    problems.add_cells(missing, "source_uuid", source, "no persona of this table has this uuid.")
    chained = linked & ~missing & linked[source_rows]
    problems.add_cells(
        chained, "source_uuid", source, "a source must not be a counterfactual itself."
    )
    if changed is none:
        problems.add("There is a column source_uuid, but changed_attribute is missing.")
        return []
    allowed = {**aliases, **{name: name for name in attributes}}
    problems.add_cells(
        linked & ~changed.where(lambda name: name in allowed),
        "changed_attribute",
        changed,
        f"allowed are {list_words(list(attributes))}.",
    )
    problems.add_cells(
        ~linked & ~changed.empty,
        "changed_attribute",
        changed,
        "it is allowed only where source_uuid names a persona.",
    )
    problems.raise_if_any()
    return _compare_with_sources(linked, source_rows, changed, attributes, allowed)


def _compare_with_sources(
    linked: NDArray[np.bool_],
    source_rows: NDArray[np.int64],
    changed: TextColumn,
    attributes: Mapping[str, TextColumn],
    allowed: Mapping[str, str],
) -> list[str]:
    """Warn of counterfactuals that differ from their source in anything but what they name."""
    rows = np.flatnonzero(linked)
    others = np.zeros(len(rows), dtype=bool)
    unchanged = np.zeros(len(rows), dtype=bool)
    for name, column in attributes.items():
        differs = column.codes[rows] != column.codes[source_rows[rows]]
        aliases = {alias for alias, attribute in allowed.items() if attribute == name}
        named = changed.where(aliases.__contains__)[rows]
        others |= differs & ~named
        unchanged |= ~differs & named
    warnings = []
    if others.any():
        warnings.append(
            f"{int(others.sum()):,} counterfactuals differ from their source in more than the "
            "changed attribute; paired comparisons will mix the changes."
        )
    if unchanged.any():
        warnings.append(
            f"{int(unchanged.sum()):,} counterfactuals have the same value as their source in the "
            "changed attribute."
        )
    return warnings
