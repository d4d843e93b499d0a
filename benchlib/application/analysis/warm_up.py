"""Which panels are computed as soon as a run ends: those that pages open with."""

from collections.abc import Callable, Sequence
from typing import Any

from benchlib.application.analysis.answer_panels import all_means
from benchlib.application.analysis.group_panels import all_deltas
from benchlib.application.analysis.panels import RUN_PANELS, Panel
from benchlib.infrastructure.cache_warming import Step
from benchlib.infrastructure.loading.data_loader import LoadedRun

GetPanel = Callable[[Panel[LoadedRun, Any, Any], dict[str, Any]], object]


def warm_up_steps(
    get_panel: GetPanel, attributes: Sequence[str], trait_categories: Sequence[str]
) -> list[Step]:
    """Every step of a warm-up, cheap ones first.

    A panel whose query needs an attribute is computed for each; means and deltas follow for each
    trait category.

    Args:
        get_panel: Computes a panel for some choices.
        attributes: The attributes of the run's personas.
        trait_categories: The trait categories of the run.
    """

    def step(name: str, panel: Panel[LoadedRun, Any, Any], **choices: Any) -> Step:
        return name, lambda: get_panel(panel, choices)

    steps: list[Step] = []
    for panel in RUN_PANELS.values():
        if not panel.warm_up:
            continue
        if "attribute" in panel.query.model_fields and _is_required(panel, "attribute"):
            steps += [
                step(f"{panel.name}: {attribute}", panel, attribute=attribute)
                for attribute in attributes
            ]
        else:
            steps.append(step(panel.name, panel))
    for category in trait_categories:
        steps += [
            step(f"{panel.name}: {category}", panel, trait_category=category)
            for panel in (all_means, all_deltas)
        ]
    return steps


def _is_required(panel: Panel[LoadedRun, Any, Any], name: str) -> bool:
    return bool(panel.query.model_fields[name].is_required())
