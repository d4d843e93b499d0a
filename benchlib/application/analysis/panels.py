"""What panels have in common: the registry, the sample behind the numbers, corrections, draws."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypedDict, TypeVar, cast
from zlib import crc32

import numpy as np

from benchlib.application.analysis.queries import Query
from benchlib.domain.errors import InvalidInput
from benchlib.domain.records import RunRecord
from benchlib.domain.run_state import ACTIVE
from benchlib.domain.stats.welch import FdrMethod
from benchlib.infrastructure.loading.data_loader import LoadedRun

RunT = TypeVar("RunT")
QueryT = TypeVar("QueryT", bound=Query)
PayloadT = TypeVar("PayloadT")
_Table = TypeVar("_Table")


class Correction(TypedDict):
    """Which tests were corrected together, and how `significant` is judged.

    `family` is a sentence for people; `size` counts the tests with a p-value.
    """

    family: str
    method: FdrMethod
    size: int
    alpha: float


class SampleInfo(TypedDict):
    """What the numbers of a panel are based on.

    `n_answers` are the rated answers of the run, `missing` is planned but has no rating, `failed`
    was given up. `preliminary` is true while the run may still get answers. `uses_expected` says
    whether expected ratings replaced digits. `n_copies` counts the counterfactuals that
    the panel leaves out: they repeat their sources and are no personas of their own.
    """

    ok: bool
    run_id: int
    n_answers: int
    missing: int
    failed: int
    preliminary: bool
    simulated: bool
    uses_expected: bool
    n_copies: int


@dataclass(frozen=True, slots=True)
class Panel(Generic[RunT, QueryT, PayloadT]):
    """A question that can be asked of a run, or of several runs together.

    Attributes:
        name: Names it in the cache and among the steps of a warm-up.
        query: Its choices.
        compute: Its payload, from one loaded run (or a sequence of them) and a query.
        path: Its route under /api/runs/{run_id}/; None where it has none, or one of its own.
        warm_up: Whether it is computed as soon as a run ends: by default for panels that pages open
            with.
    """

    name: str
    query: type[QueryT]
    compute: Callable[[RunT, QueryT], PayloadT]
    path: str | None = None
    warm_up: bool = False


RUN_PANELS: Final[dict[str, Panel[LoadedRun, Any, Any]]] = {}
"""Every panel of one run by its name; cheap ones come first in their module."""


def run_panel(
    name: str, query: type[QueryT], *, path: str | None = None, warm_up: bool = False
) -> Callable[[Callable[[LoadedRun, QueryT], PayloadT]], Panel[LoadedRun, QueryT, PayloadT]]:
    """Make a panel of a function and register it: it then has a cache, a route and a warm-up."""

    def register(
        compute: Callable[[LoadedRun, QueryT], PayloadT],
    ) -> Panel[LoadedRun, QueryT, PayloadT]:
        made = Panel(name, query, compute, path, warm_up)
        if name in RUN_PANELS:
            raise ValueError(f"There is a panel {name!r} already.")
        RUN_PANELS[name] = made
        return made

    return register


def sample_info(loaded: LoadedRun, *, use_expected: bool, copies: bool = False) -> SampleInfo:
    """What every panel reports about its run.

    Args:
        loaded: The run.
        use_expected: Whether expected ratings were asked for.
        copies: Whether counterfactuals take part in the panel.
    """
    run = loaded.run
    n_answers = loaded.grid.n_answers
    return {
        "ok": True,
        "run_id": run.id,
        "n_answers": n_answers,
        "missing": max(run.total - n_answers, 0),
        "failed": run.failed,
        "preliminary": run.status in ACTIVE or n_answers < run.total,
        "simulated": run.simulated,
        "uses_expected": use_expected and loaded.has_expected,
        "n_copies": 0 if copies else len(loaded.copies),
    }


def copy_sample_info(panel: SampleInfo) -> SampleInfo:
    """The sample behind a panel, without the panel's content."""
    fields = cast(Mapping[str, Any], panel)
    return cast(SampleInfo, {name: fields[name] for name in SampleInfo.__annotations__})


def correction(family: str, method: FdrMethod, size: int, alpha: float) -> Correction:
    """Name the family of tests behind `significant`."""
    return {"family": family, "method": method, "size": size, "alpha": alpha}


def check_category(loaded: LoadedRun, category: str | None) -> None:
    """Refuse a trait category that the run does not ask about."""
    known = sorted({trait.category for trait in loaded.asked})
    if category is not None and category not in known:
        options = ", ".join(known)
        raise InvalidInput(f"There is no trait category {category!r}; choose from: {options}.")


def pick_attribute(data: Mapping[str, _Table], attribute: str) -> _Table:
    """The table of one attribute.

    Raises:
        InvalidInput: There is none of this name.
    """
    if attribute not in data:
        options = ", ".join(data) or "none"
        raise InvalidInput(f"There is no attribute {attribute}; pick {options}.")
    return data[attribute]


def rng_for(run: RunRecord, name: str | None) -> np.random.Generator:
    """Draws that are the same at every call, and differ between names and runs."""
    seed = [run.config.seed, run.id, crc32((name or "").encode())]
    return np.random.Generator(np.random.SFC64(seed))  # shuffles in two thirds of PCG64's time
