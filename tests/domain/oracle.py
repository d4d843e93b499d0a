"""Worked cases with expected values from scipy, statsmodels, pingouin and brute force.

Every case of golden/stats_cases.json names its oracle. Numbers have ten significant digits.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class OracleCase:
    name: str
    input: dict[str, Any]
    expected: dict[str, Any]
    tolerance: float

    def approx(self, key: str) -> Any:
        """The expected value under a key, to be compared with ==; null compares with None."""
        return close(self.expected[key], self.tolerance)


def close(expected: Any, tolerance: float = 1e-6) -> Any:
    """Wrap numbers in pytest.approx, through lists; None stays None."""
    if isinstance(expected, list):
        return [close(value, tolerance) for value in expected]
    if isinstance(expected, dict):
        return {key: close(value, tolerance) for key, value in expected.items()}
    if isinstance(expected, bool) or not isinstance(expected, int | float):
        return expected
    return pytest.approx(expected, rel=tolerance, abs=tolerance)


@cache
def load_case(name: str) -> OracleCase:
    cases = json.loads((Path(__file__).parent / "golden" / "stats_cases.json").read_text())
    found = {case["name"]: case for case in cases}[name]
    return OracleCase(name, found["input"], found["expected"], found["tolerance"])
