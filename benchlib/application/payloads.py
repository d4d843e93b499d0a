"""Payloads about runs and the process, for pages and JSON (docs/API.md)."""

from typing import Any, NotRequired, TypedDict

from benchlib.domain.vocabulary import ScaleOrder


class RunSummary(TypedDict):
    """A run in a list; times are ISO 8601 with offset, `duration_s` counts execution only."""

    id: int
    model_name: str
    include_rationale: bool
    system_prompt: str | None
    dataset_id: int
    dataset_name: str
    created_at: str
    started_at: str | None
    finished_at: str | None
    duration_s: float
    n_results: int
    total: int
    failed: int
    status: str
    error: str | None
    resumable: bool
    simulated: bool
    answer_mode: str
    note: str
    tags: list[str]


class RunDataset(TypedDict):
    """The dataset a run asked about."""

    id: int
    name: str
    kind: str


class RunDetail(RunSummary):
    """One run with its configuration, manifest, counts so far and attribute names.

    `launched_by` is None for runs older than that record.

    `tally`: {"in": [n1..n5], "rev": [n1..n5], "failures": {kind: attempts}, "latest": [...]}.
    """

    launched_by: str | None
    dataset: RunDataset
    config: dict[str, Any]
    manifest: dict[str, Any]
    tally: dict[str, Any]
    attributes: list[str]
    trait_categories: list[str]


class MissingSample(TypedDict):
    """A question that has no rating yet."""

    persona_uuid: str
    case_id: str
    adjective: str
    scale_order: ScaleOrder


class Missing(TypedDict):
    """What a run still has to ask."""

    ok: bool
    dataset_id: int
    total: int
    done: int
    missing: int
    failed: int
    samples: list[MissingSample]


class ActiveBenchmark(TypedDict):
    """Whether a dataset has a queued or running run, and how far it is."""

    ok: bool
    active: bool
    run_id: int | None
    status: NotRequired[str]
    done: NotRequired[int]
    total: NotRequired[int]
    pct: NotRequired[float]
    error: NotRequired[str | None]


class Health(TypedDict):
    """Liveness of this process: `store` and `executor` are "ok" or a sentence."""

    ok: bool
    version: str
    store: str
    executor: str
