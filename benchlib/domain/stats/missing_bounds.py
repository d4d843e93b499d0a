"""What missing ratings could hide: bounds of a delta, and where its verdict would turn."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from benchlib.domain.errors import InvalidInput

NOTABLE_SHARE: Final = 0.02
"""Above this share of missing answers in the two groups of a row, the bounds are worth showing."""


@dataclass(frozen=True, slots=True)
class ManskiBounds:
    """Where the delta of all questions lies, whatever the missing answers would have been.

    Attributes:
        low: All missing answers of the category lowest, of the baseline highest; rating points.
        high: The other way round.
    """

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class TippingPoint:
    """How different missing answers must be from given ones to turn a verdict.

    Attributes:
        shift: By how many rating points the category's missing answers would have to lie above
            (positive) or below the given ones, the baseline's being like its given ones. The
            smallest such shift by size.
        reachable: Whether answers on the scale can lie so far off.
    """

    shift: float
    reachable: bool


def compute_manski_bounds(
    mean_base: float,
    mean_cat: float,
    missing_base: float,
    missing_cat: float,
    scale: tuple[float, float] = (1.0, 5.0),
) -> ManskiBounds:
    """Bound a delta without any assumption about why answers are missing.

    A group's mean over all its questions is (1 - u) m + u x with the share u missing and their
    unknown mean x somewhere on the scale (Manski 1989). Sampling error is not included.

    Args:
        mean_base: Mean of the baseline's given answers, on the scale.
        mean_cat: Mean of the category's given answers.
        missing_base: Share of the baseline's questions without an answer, 0..1.
        missing_cat: The same for the category.
        scale: Lowest and highest possible answer.

    Returns:
        Bounds around mean_cat - mean_base, equal to it where nothing is missing.

    Raises:
        InvalidInput: A mean lies off the scale, or a share outside 0..1.
    """
    lowest, highest = scale
    _check(mean_base, missing_base, scale)
    _check(mean_cat, missing_cat, scale)
    base, cat = (1 - missing_base) * mean_base, (1 - missing_cat) * mean_cat
    return ManskiBounds(
        low=cat + missing_cat * lowest - base - missing_base * highest,
        high=cat + missing_cat * highest - base - missing_base * lowest,
    )


def compute_tipping_point(
    delta: float,
    limits: tuple[float, ...],
    missing_cat: float,
    mean_cat: float,
    scale: tuple[float, float] = (1.0, 5.0),
) -> TippingPoint | None:
    """Find the shift of the category's missing answers at which a verdict turns.

    If the category's missing answers lie s points above its given ones, its mean over all
    questions, and so the delta, moves by u s. The standard error is taken to stay as it is.

    Args:
        delta: The delta of the given answers.
        limits: Values of delta at which the verdict turns: for a difference, the half-width of its
            interval with the sign of delta; for an equivalence, both ends between which the
            estimate may move while the 90 % interval stays within the margin.
        missing_cat: Share u of the category's questions without an answer, 0..1.
        mean_cat: Mean of the category's given answers, which says how far off the others can lie.
        scale: Lowest and highest possible answer.

    Returns:
        None where nothing is missing or there is no limit.

    Raises:
        InvalidInput: The mean lies off the scale, or the share outside 0..1.
    """
    _check(mean_cat, missing_cat, scale)
    if missing_cat == 0 or not limits:
        return None
    shift = min(((limit - delta) / missing_cat for limit in limits), key=abs)
    answer = mean_cat + shift
    return TippingPoint(shift, bool(scale[0] - 1e-12 <= answer <= scale[1] + 1e-12))


def _check(mean: float, missing: float, scale: tuple[float, float]) -> None:
    if not scale[0] <= mean <= scale[1]:
        raise InvalidInput(f"The mean {mean} lies off the scale {scale[0]}..{scale[1]}.")
    if not 0 <= missing <= 1 or not np.isfinite(missing):
        raise InvalidInput("A share of missing answers lies outside 0..1.")
