"""What some tests need from the machine; missing in CI it is a failure, elsewhere a skip."""

import os

import pytest


def require(present: bool, what: str) -> None:
    if present:
        return
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing, and in CI this test must run")
    pytest.skip(f"{what} is missing")
