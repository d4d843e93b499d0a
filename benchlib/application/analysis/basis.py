"""Pieces that panels share: what they rest on, their correction, distributions by trait."""

from collections.abc import Mapping
from typing import Final, TypeVar
from zlib import crc32

import numpy as np

from benchlib.application.analysis.panel_payloads import (
    Correction,
    DistributionsPanel,
    RunBasis,
)
from benchlib.domain.analysis.distributions import (
    compute_precision,
    describe_distributions_by_trait,
)
from benchlib.domain.analysis.metrics import ALL_TRAIT_CATEGORIES
from benchlib.domain.errors import InvalidInput
from benchlib.domain.records import RunRecord
from benchlib.domain.run_state import ACTIVE
from benchlib.domain.stats.permutation import DEFAULT_N_PERM
from benchlib.domain.stats.welch import (
    DEFAULT_SESOI,
    FdrMethod,
)
from benchlib.infrastructure.loading.data_loader import LoadedRun

DELTA_FAMILY: Final = "all deltas of the run: attributes x categories x panels"
FOREST_FAMILY: Final = "all trait rows of the run: attributes x categories x traits"
OMNIBUS_FAMILY: Final = "all omnibus tests of the run: attributes x panels"
STYLE_FAMILY: Final = "all style deltas of the run: styles x attributes x categories"

MAX_N_PERM: Final = 100_000

_Table = TypeVar("_Table")


def run_basis(loaded: LoadedRun, *, use_expected: bool, copies: bool = False) -> RunBasis:
    """What every panel says about the run it is of.

    Args:
        loaded: The run.
        use_expected: Whether expected ratings were wished for.
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


def correction_of(family: str, method: FdrMethod, size: int, alpha: float) -> Correction:
    """Name the family of tests behind `significant`."""
    return {"family": family, "method": method, "size": size, "alpha": alpha}


def describe_run_distributions(loaded: LoadedRun, trait_category: str | None) -> DistributionsPanel:
    """Lay out the distributions of a run: together, by trait category, by trait."""
    asked = [
        trait
        for trait in loaded.asked
        if trait_category is None or trait.category == trait_category
    ]
    tables = describe_distributions_by_trait(
        loaded.distributions, loaded.grid.trait_ids, asked, loaded.run.config.language
    )
    return {
        **run_basis(loaded, use_expected=True, copies=True),
        **tables,
        "n": tables["overall"]["n"],
        "n_personas": loaded.grid.take_category(trait_category).n_expected_personas,
        "available": bool(loaded.distributions.n.any()),
        "trait_category": trait_category,
        "precision": compute_precision(
            loaded.cells(use_expected=False), loaded.cells(use_expected=True), trait_category
        ),
    }


def category_of(trait_category: str | None) -> str | None:
    """None for every way of saying "all trait categories"."""
    return None if not trait_category or trait_category == ALL_TRAIT_CATEGORIES else trait_category


def check_category(loaded: LoadedRun, category: str | None) -> None:
    """Refuse a trait category that the run does not ask about."""
    known = sorted({trait.category for trait in loaded.asked})
    if category is not None and category not in known:
        options = ", ".join(known)
        raise InvalidInput(f"There is no trait category {category!r}; choose from: {options}.")


def check_options(
    *, alpha: float, sesoi: float = DEFAULT_SESOI, n_perm: int = DEFAULT_N_PERM
) -> None:
    """Refuse constants of the analysis that make no sense."""
    if not 0 < alpha < 0.5:
        raise InvalidInput("alpha must lie between 0 and 0.5.")
    if not 0 < sesoi <= 4:
        raise InvalidInput("sesoi, the smallest effect of interest, must lie above 0 and up to 4.")
    if not 0 <= n_perm <= MAX_N_PERM:
        raise InvalidInput(f"The number of draws must lie between 0 and {MAX_N_PERM:,}.")


def of_attribute(data: Mapping[str, _Table], attribute: str) -> _Table:
    """The table of one attribute.

    Raises:
        InvalidInput: There is none of this name.
    """
    if attribute not in data:
        options = ", ".join(data) or "none"
        raise InvalidInput(f"There is no attribute {attribute}; pick {options}.")
    return data[attribute]


def basis_of(panel: RunBasis) -> RunBasis:
    """What a panel rests on, without its content."""
    return {
        "ok": panel["ok"],
        "run_id": panel["run_id"],
        "n_answers": panel["n_answers"],
        "missing": panel["missing"],
        "failed": panel["failed"],
        "preliminary": panel["preliminary"],
        "simulated": panel["simulated"],
        "uses_expected": panel["uses_expected"],
        "n_copies": panel["n_copies"],
    }


def draws_of(run: RunRecord, panel: str | None) -> np.random.Generator:
    """Draws that are the same at every call for a panel, and differ between panels and runs."""
    seed = [run.config.seed, run.id, crc32((panel or "").encode())]
    return np.random.Generator(np.random.SFC64(seed))  # shuffles in two thirds of PCG64's time
