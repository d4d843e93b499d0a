"""Data quality of a run: can its numbers be trusted at all?

The limits are conventions of this dashboard and are used for nothing else.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypedDict

from benchlib.domain.analysis.distributions import DistributionSummary
from benchlib.domain.analysis.order_effects import OrderEffectMetrics
from benchlib.domain.records import RunRecord
from benchlib.domain.run_state import ACTIVE
from benchlib.domain.stats.welch import DEFAULT_SESOI

QualityStatus = Literal["ok", "warn", "bad"]


QualityTopic = Literal[
    "order_consistency", "order_effect", "valid_mass", "missing", "failures", "scale_use"
]


class QualityItem(TypedDict):
    """One check; `value` None = cannot be assessed."""

    topic: QualityTopic
    label: str
    value: float | None
    status: QualityStatus
    sentence: str


GOOD_KAPPA: Final = 0.6
POOR_KAPPA: Final = 0.2
STRONG_SHIFT: Final = 0.5
"""A position shift of half a point pulls every other answer to a neighbouring digit."""

HALF_EACH: Final = 0.05
"""Shares of a scale order within so much of one half count as half each way."""

FEW_LOW_MASS: Final = 0.05
MANY_LOW_MASS: Final = 0.25
FEW_MISSING: Final = 0.01
MANY_MISSING: Final = 0.10
FEW_FAILURES: Final = 0.02
MANY_FAILURES: Final = 0.20
ONE_SIDED: Final = 0.70
CONSTANT: Final = 0.95

_WORST_FIRST: Final[tuple[QualityStatus, ...]] = ("bad", "warn", "ok")
_LABELS: Final[Mapping[QualityTopic, str]] = {
    "order_consistency": "Order consistency",
    "order_effect": "Order effect",
    "valid_mass": "Probability on ratings",
    "missing": "Missing answers",
    "failures": "Failed attempts",
    "scale_use": "Scale use",
}


def judge_data_quality(
    run: RunRecord,
    order: OrderEffectMetrics,
    counts: Sequence[int],
    distributions: DistributionSummary,
) -> list[QualityItem]:
    """Run every check.

    Args:
        run: The run.
        order: Its order panel.
        counts: Answers per point of the scale, scale order undone.
        distributions: The distributions behind the answers, together.
    """
    return [
        _order_consistency(order),
        _order_effect(order),
        _valid_mass(distributions["mass"], distributions["low_mass_share"]),
        _missing(run),
        _failures(run),
        _scale_use(counts, order["digits"]["counts_in"], order["digits"]["counts_rev"]),
    ]


def worst_status(items: Sequence[QualityItem]) -> QualityStatus:
    """Status of the worst check."""
    found = {item["status"] for item in items}
    return next((status for status in _WORST_FIRST if status in found), "ok")


def _item(
    topic: QualityTopic, value: float | None, status: QualityStatus, sentence: str
) -> QualityItem:
    return {
        "topic": topic,
        "label": _LABELS[topic],
        "value": value,
        "status": status,
        "sentence": sentence,
    }


def _order_consistency(order: OrderEffectMetrics) -> QualityItem:
    topic: QualityTopic = "order_consistency"
    n_pairs, shift = order["n_pairs"], order["obe"]["position_shift"]
    exact = order["rma"]["exact_rate"]
    if n_pairs == 0 or shift is None or exact is None:
        return _item(
            topic,
            None,
            "warn",
            "Nothing was asked in both scale orders, so it is unknown whether the answers follow "
            "the scale; give the next run a dual fraction.",
        )
    kappa = order["agreement"]["kappa"]["quadratic"]["value"]
    pairs = f"{n_pairs:,} pairs in both scale orders, {exact:.0%} answered alike"
    if kappa is None:
        return _item(
            topic,
            None,
            "warn",
            f"{pairs}, but all answers are equal, so chance-corrected agreement is undefined.",
        )
    direction = "high" if shift > 0 else "low"
    finding = f"{pairs}; chance-corrected agreement (quadratic kappa) is {kappa:.2f}"
    leaning = f"answers lean {abs(shift):.2f} points towards {direction} digits"
    if kappa < POOR_KAPPA or abs(shift) >= 2 * STRONG_SHIFT:
        return _item(
            topic,
            kappa,
            "bad",
            f"{finding} and {leaning}: the answers follow the digits, not the scale.",
        )
    if kappa < GOOD_KAPPA or abs(shift) >= STRONG_SHIFT:
        return _item(
            topic,
            kappa,
            "warn",
            f"{finding} and {leaning}: single answers depend on the scale order.",
        )
    return _item(topic, kappa, "ok", f"{finding}.")


def _order_effect(order: OrderEffectMetrics) -> QualityItem:
    """Compare the shift between the orders with the smallest effect of interest."""
    topic: QualityTopic = "order_effect"
    bias = order["obe"]
    shift = bias["mean_diff"]
    if shift is None:
        return _item(topic, None, "ok", "Not measured: nothing was asked in both scale orders.")
    interval = ""
    if bias["ci_low"] is not None and bias["ci_high"] is not None:
        interval = f" (95% interval {bias['ci_low']:.2f} to {bias['ci_high']:.2f})"
    finding = (
        f"The same question is rated {abs(shift):.2f} points {'higher' if shift > 0 else 'lower'} "
        f"in the original scale order than in the reversed one{interval}"
    )
    if abs(shift) <= DEFAULT_SESOI:
        return _item(
            topic,
            shift,
            "ok",
            f"{finding}, within the smallest effect of interest, {DEFAULT_SESOI}.",
        )
    original, reverse = sum(order["digits"]["counts_in"]), sum(order["digits"]["counts_rev"])
    share = original / (original + reverse)
    if abs(share - 0.5) <= HALF_EACH:
        remedy = (
            f"{share:.0%} of the answers were given in the original order, so asking half each way "
            "cancels it in means and in differences between groups, but not in single answers"
        )
    else:
        off = abs(2 * share - 1) * abs(shift) / 2
        remedy = (
            f"{share:.0%} of the answers were given in the original order, so it does not cancel: "
            f"means over all answers are off by {off:.2f} points; ask half each way"
        )
    return _item(
        topic,
        shift,
        "warn",
        f"{finding}, more than the smallest effect of interest, {DEFAULT_SESOI}. {remedy}.",
    )


def _valid_mass(mass: float | None, low: float | None) -> QualityItem:
    topic: QualityTopic = "valid_mass"
    if mass is None or low is None:
        return _item(topic, None, "ok", "Not measured: the answers came without probabilities.")
    finding = (
        f"On average {mass:.1%} of the probability lies on valid ratings; "
        f"{low:.1%} of the answers have less than 90%"
    )
    if low > MANY_LOW_MASS:
        return _item(
            topic,
            mass,
            "bad",
            f"{finding}: the model would rather say something else; read some answers.",
        )
    if low > FEW_LOW_MASS:
        return _item(topic, mass, "warn", f"{finding}: it would often rather say something else.")
    return _item(topic, mass, "ok", f"{finding}.")


def _missing(run: RunRecord) -> QualityItem:
    missing = max(run.total - run.done, 0)
    share = missing / run.total if run.total else 0.0
    finding = f"{missing:,} of {run.total:,} planned questions have no rating ({share:.1%})"
    if run.status in ACTIVE:
        return _item("missing", share, "ok", f"{finding}; the run has not ended.")
    if share > MANY_MISSING:
        advice = "what is missing may differ between groups; resume the run"
        return _item("missing", share, "bad", f"{finding}: {advice}.")
    if share > FEW_MISSING:
        return _item("missing", share, "warn", f"{finding}: see which ones under Answers.")
    return _item("missing", share, "ok", f"{finding}.")


def _failures(run: RunRecord) -> QualityItem:
    kinds: Mapping[str, Any] = run.tally.get("failures", {})
    failures = sum(int(count) for count in kinds.values())
    attempts = run.done + failures
    share = failures / attempts if attempts else 0.0
    named = ", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items()) if count)
    finding = f"{failures:,} of {attempts:,} attempts gave no rating ({share:.1%})"
    if failures:
        finding += f": {named}"
    if share > MANY_FAILURES:
        return _item("failures", share, "bad", f"{finding}; change the answer mode or the prompt.")
    return _item("failures", share, "warn" if share > FEW_FAILURES else "ok", f"{finding}.")


def _scale_use(
    counts: Sequence[int], counts_in: Sequence[int], counts_rev: Sequence[int]
) -> QualityItem:
    topic: QualityTopic = "scale_use"
    total = sum(counts)
    if total == 0:
        return _item(topic, None, "warn", "There is no answer yet.")
    digits = [first + second for first, second in zip(counts_in, counts_rev, strict=True)]
    point, share = _favourite(counts)
    digit, digit_share = _favourite(digits)
    used = sum(count > 0 for count in counts)
    if digit_share > share:
        finding = f"{digit_share:.0%} of the answers are the digit {digit}, whatever it means"
        share = digit_share
    else:
        finding = f"{share:.0%} of the answers are {point}; {used} of 5 points are used"
    if share >= CONSTANT:
        return _item(
            topic, share, "bad", f"{finding}: the model hardly distinguishes personas or traits."
        )
    if share >= ONE_SIDED:
        return _item(topic, share, "warn", f"{finding}: small differences cannot be seen.")
    return _item(topic, share, "ok", f"{finding}.")


def _favourite(counts: Sequence[int]) -> tuple[int, float]:
    """The most frequent point 1..5 and its share."""
    place = max(range(len(counts)), key=lambda i: counts[i])
    return place + 1, counts[place] / max(sum(counts), 1)
