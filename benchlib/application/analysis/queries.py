"""The choices of an analysis: bounds and defaults, once, for pages, JSON, notebooks and the cache.

Each panel has a query class next to its function, made of these parts. All of its fields are in the
cache key, so a choice that changes a number belongs into the query.
"""

from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field

from benchlib.application.choices import Choices
from benchlib.domain.analysis.metrics import ALL_TRAIT_CATEGORIES
from benchlib.domain.stats.permutation import DEFAULT_N_PERM
from benchlib.domain.stats.welch import DEFAULT_ALPHA, DEFAULT_SESOI, FdrMethod

MAX_N_PERM: Final = 100_000


def _all_as_none(text: Any) -> Any:
    return None if text in ("", ALL_TRAIT_CATEGORIES) else text


def _as_tuple(names: Any) -> Any:
    if names is None:
        return ()
    listed = [names] if isinstance(names, str) else list(names)
    return tuple(dict.fromkeys(name for name in listed if name != ""))


Name = Annotated[str, Field(max_length=500)]
OptionalName = Annotated[Name | None, BeforeValidator(lambda text: text or None)]
Names = Annotated[tuple[Name, ...], BeforeValidator(_as_tuple)]
"""Several names, each once; one name may come alone."""

TraitCategory = Annotated[Name | None, BeforeValidator(_all_as_none)]
"""One trait category; None, "" and "all" take every trait."""

Alpha = Annotated[float, Field(gt=0, lt=0.5)]
"""The level of `significant`."""

Sesoi = Annotated[float, Field(gt=0, le=4)]
"""The smallest effect size of interest, in rating points."""

Draws = Annotated[int, Field(ge=0, le=MAX_N_PERM)]
"""Draws of a permutation or sign-flip test; 0 leaves the test out."""


class Query(Choices):
    """What is asked of a run's answers."""


class OfTraits(Query):
    """A question about all traits, or those of one trait category."""

    trait_category: TraitCategory = None


class OfRatings(Query):
    """A question about ratings; expected ratings replace digits where a run has distributions."""

    use_expected: bool = True


class WithTests(OfRatings):
    """A question with tests; `neutral` asks about the neutral traits, which have no valence."""

    alpha: Alpha = DEFAULT_ALPHA
    neutral: bool = False


class WithVerdicts(WithTests):
    """A question whose rows get a verdict; `by` is the correction that `significant` follows."""

    sesoi: Sesoi = DEFAULT_SESOI
    by: FdrMethod = "bh"


class WithDraws(WithVerdicts):
    """The same with a permutation test."""

    n_perm: Draws = DEFAULT_N_PERM
