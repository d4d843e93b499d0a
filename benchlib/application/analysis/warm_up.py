"""Which panels are computed as soon as a run ends: those that pages open with."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from benchlib.application.analysis import answer_panels, detail_panels, group_panels
from benchlib.application.analysis.panels import RUN_PANELS, Panel
from benchlib.infrastructure.cache_warming import Step
from benchlib.infrastructure.loading.data_loader import LoadedRun

_CHEAP_FIRST: Final = [module.__name__ for module in (answer_panels, group_panels, detail_panels)]

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
    for panel in sorted(RUN_PANELS.values(), key=_rank):
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
            for panel in (answer_panels.all_means, group_panels.all_deltas)
        ]
    return steps


def _rank(panel: Panel[LoadedRun, Any, Any]) -> int:
    """Place of its module; a module that is not listed comes last. Imports come in any order."""
    module = panel.compute.__module__
    return _CHEAP_FIRST.index(module) if module in _CHEAP_FIRST else len(_CHEAP_FIRST)


def _is_required(panel: Panel[LoadedRun, Any, Any], name: str) -> bool:
    return bool(panel.query.model_fields[name].is_required())
