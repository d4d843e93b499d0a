"""What a run is, for anyone who reads its numbers later; checked whenever the run resumes."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

import benchlib
from benchlib.domain.asking.prompts import PROMPT_VERSION, prompt_template_hash
from benchlib.domain.errors import WrongState
from benchlib.domain.records import EngineReport, RunRecord

ORDER_OF_WORK: Final = (
    "persona by persona in the order of the dataset, each with all traits in the order of the run; "
    "the second scale order of a pair right after its first"
)
"""The order of sending; with several requests in flight, answers come nearly in it."""


def make_manifest(
    run: RunRecord,
    report: EngineReport,
    frozen: Mapping[str, Any],
    batching: Mapping[str, int],
    *,
    now: datetime,
    git_commit: str | None,
) -> dict[str, Any]:
    """The manifest of a run that starts or resumes now.

    Args:
        frozen: What the run asks about: hashes and counts.
        batching: Limits of questions per request and of requests in flight; may differ between
            executions.
        git_commit: Of the code in use, if known.

    Raises:
        WrongState: The run would resume with something other than it began with.
    """
    engine = asdict(report)
    fresh = {
        "engine": engine,
        "prompt": {"version": PROMPT_VERSION, "hash": prompt_template_hash()},
        **frozen,
        "seed": run.config.seed,
        "order_of_work": ORDER_OF_WORK,
    }
    execution = {
        "started_at": now.isoformat(),
        "benchlib_version": benchlib.__version__,
        "git_commit": git_commit,
        "addresses": engine["addresses"],
        "engine_version": engine["engine_version"],
        **batching,
    }
    if not run.manifest:
        return {**fresh, "executions": [execution]}
    for part, before, after in _same(run.manifest, fresh):
        if before != after:
            raise WrongState(
                f"The run began with {part} {before}, now it is {after}; its answers would not be "
                "comparable. Restore the former, or start a new run."
            )
    return {**run.manifest, "executions": [*run.manifest["executions"], execution]}


def _same(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """What must not change during a run: (name, before, now)."""
    for key in ("model_name", "model_revision", "answer_mode_used", "logprobs_source"):
        yield key.replace("_", " "), old["engine"][key], new["engine"][key]
    yield "prompt", old["prompt"]["hash"], new["prompt"]["hash"]
    yield "traits", old["trait_hash"], new["trait_hash"]
    yield "personas", old["persona_hash"], new["persona_hash"]
