"""Where the real vLLM environment lies; `.ci/vllm-env` makes it."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True, slots=True)
class VllmEnvironment:
    """What the tests with real vLLM need.

    Attributes:
        python: The interpreter that has vLLM.
        model: The folder of SmolLM2-135M-Instruct.
    """

    python: Path
    model: Path


def find_environment() -> VllmEnvironment:
    """The environment, or a failed test that says how to make it."""
    cache = Path(os.environ.get("BENCHLIB_CACHE") or Path.home() / ".cache" / "benchlib")
    for part in ("vllm-env", "smollm2"):
        if not (cache / part / ".complete").is_file():
            pytest.fail(
                f"The real vLLM environment is not complete ({part} is missing); "
                "run .ci/vllm-env, which makes it, then run this test again.",
                pytrace=False,
            )
    return VllmEnvironment(cache / "vllm-env" / "bin" / "python", cache / "smollm2")
