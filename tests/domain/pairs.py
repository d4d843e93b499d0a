"""Pairs of answers in both scale orders, for tests."""

from hypothesis import strategies

PAIRS = strategies.lists(
    strategies.tuples(
        strategies.integers(0, 5),
        strategies.integers(0, 3),
        strategies.integers(1, 5),
        strategies.integers(1, 5),
    ),
    max_size=40,
    unique_by=lambda pair: pair[:2],
)


def numbers_in(payload):
    if isinstance(payload, dict):
        return [number for value in payload.values() for number in numbers_in(value)]
    if isinstance(payload, list):
        return [number for value in payload for number in numbers_in(value)]
    return [payload] if isinstance(payload, float) else []


QUIET = {
    "effects": {},
    "persona_sd": 0,
    "trait_sd": 0,
    "slope_sd": 0,
    "position_bias": 0,
    "acquiescence": 0,
    "spread_log_mean": 0,
    "spread_log_sd": 0,
    "residual_sd": 0,
}
