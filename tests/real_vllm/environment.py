"""Where the real vLLM environment lies; `.ci/vllm-env` makes it."""

import os
from dataclasses import dataclass
from pathlib import Path

from tests.requirements import require


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
    """The environment; missing, it fails the test in CI and skips it elsewhere."""
    cache = Path(os.environ.get("BENCHLIB_CACHE") or Path.home() / ".cache" / "benchlib")
    for part in ("vllm-env", "smollm2"):
        complete = (cache / part / ".complete").is_file()
        require(complete, f"The real vLLM environment ({part}, made by .ci/vllm-env)")
    return VllmEnvironment(cache / "vllm-env" / "bin" / "python", cache / "smollm2")
