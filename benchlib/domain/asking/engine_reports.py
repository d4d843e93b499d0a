"""What is known of a model server: found by a test, counted while asking, reported by itself."""

from dataclasses import dataclass
from typing import Literal, TypedDict


@dataclass(frozen=True, slots=True)
class AddressState:
    """The state of one address of a client.

    Attributes:
        address: Base URL.
        usable: Not backing off after a fault.
        requests_in_flight: Sent and not answered.
        items_in_flight: Questions in them.
        items_answered: Since the client was made.
        faults: Since the client was made.
        backoff_seconds: Until it is asked again; 0 if usable.
        seconds_per_request: Running mean; None before the first answer.
        prompt_tokens: As the server counted since the client was made.
        completion_tokens: As the server counted since the client was made.
        last_problem: The latest fault, if the address has not answered since.
    """

    address: str
    usable: bool
    requests_in_flight: int
    items_in_flight: int
    items_answered: int
    faults: int
    backoff_seconds: float
    seconds_per_request: float | None
    prompt_tokens: int
    completion_tokens: int
    last_problem: str | None


class EngineConnection(TypedDict):
    """What a connection test found at one address; `error` is a sentence, None if it can serve.

    `supports` maps "batch" (many questions in one request), "distribution" (the probabilities of
    all ratings) and "structured" (answers kept to a format) to whether a test question showed it;
    it is empty where the test did not get that far.
    """

    address: str
    ok: bool
    error: str | None
    engine_version: str | None
    models: list[str]
    supports: dict[str, bool]
    notes: list[str]


StatsState = Literal["reported", "nothing", "silent", "asking", "refused"]


class EngineStats(TypedDict):
    """What the engine of a run reports about itself; None where it does not say.

    `state` is "reported", "nothing" (it has no such metrics), "silent" (it did not answer the last
    time), "asking" (before the first answer) or "refused" (its host is not allowed). Tokens per
    second are those of the last minute, of everything the engine serves; None before the second
    reading. `prefix_cache_hit_rate` is the share, 0..1, of the tokens looked up over the last
    minute that were found; if none were looked up, of those since the engine's start.
    """

    address: str
    state: StatsState
    requests_running: float | None
    requests_waiting: float | None
    prompt_tokens_per_s: float | None
    generation_tokens_per_s: float | None
    prefix_cache_hit_rate: float | None


class ServerState(TypedDict):
    """The managed local server: `state` is starting, ready, stopped or failed.

    `model` is the name or folder it was started with, `model_name` what it is asked by, `log` its
    last lines and `error` a sentence on why it failed.
    """

    model: str
    model_name: str
    base_url: str
    state: Literal["starting", "ready", "stopped", "failed"]
    log: str
    error: str | None


def untested_connection(address: str, error: str | None = None) -> EngineConnection:
    """What is known before a test; with `error`, of an address that cannot serve."""
    return {
        "address": address,
        "ok": error is None,
        "error": error,
        "engine_version": None,
        "models": [],
        "supports": {},
        "notes": [],
    }


def empty_stats(address: str, state: StatsState) -> EngineStats:
    """Stats of an engine that has not reported any."""
    return {
        "address": address,
        "state": state,
        "requests_running": None,
        "requests_waiting": None,
        "prompt_tokens_per_s": None,
        "generation_tokens_per_s": None,
        "prefix_cache_hit_rate": None,
    }
