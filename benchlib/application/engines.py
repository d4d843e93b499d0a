"""Engines before a run: who answers, what it can do, and a server of our own."""

import asyncio
import sys
from collections.abc import Sequence
from typing import Final, Literal, TypedDict

from benchlib.domain.errors import BenchlibError, InvalidInput
from benchlib.domain.records import RunRecord
from benchlib.domain.vocabulary import RunStatus
from benchlib.infrastructure.engines.allowed_hosts import checked_addresses, normalise_address
from benchlib.infrastructure.engines.connection_test import EngineInspection, inspect_engine
from benchlib.infrastructure.engines.http import EngineHttp, open_session
from benchlib.infrastructure.engines.identity import EngineRefusal, choose_model, identify
from benchlib.infrastructure.engines.server_metrics import EngineReading, EngineWatch
from benchlib.infrastructure.engines.simulated import SIMULATED_MODEL_NAME
from benchlib.infrastructure.engines.vllm_server import VllmServer
from benchlib.settings import Settings, split_addresses

_LOOK_SECONDS: Final = 1.0
_LOG_LINES: Final = 60


class EngineConnection(TypedDict):
    """What a connection test found at one address; `error` is a sentence, None if it can serve.

    `supports` maps "batch" (many questions in one request), "distribution" (the probabilities of
    all ratings) and "structured" (answers kept to a format) to whether a test question showed it.
    """

    address: str
    ok: bool
    error: str | None
    engine_version: str | None
    models: list[str]
    supports: dict[str, bool]
    notes: list[str]


class EngineChoice(TypedDict):
    """What a form opens with; `note` says why."""

    llm: Literal["vllm", "simulated"]
    base_url: str | None
    model_name: str
    note: str


class EngineStats(TypedDict):
    """What an engine of a run says of itself; None where it does not tell.

    `state` is "told", "nothing" (it has no figures), "silent" (it did not answer), "asking" (before
    the first answer) or "refused" (its host is not allowed). Tokens per second are those of the
    last minute, of everything the engine serves; `prefix_cache_hit_rate` is a share, 0..1.
    """

    address: str
    state: Literal["told", "nothing", "silent", "asking", "refused"]
    requests_running: float | None
    requests_waiting: float | None
    prompt_tokens_per_s: float | None
    generation_tokens_per_s: float | None
    prefix_cache_hit_rate: float | None


class ServerState(TypedDict):
    """The managed local server: `state` is starting, ready, stopped or failed.

    `model` is the name or folder it was started with, `model_name` what it is asked by.
    """

    model: str
    model_name: str
    base_url: str
    state: str
    log: str
    error: str | None


class EngineService:
    """Looks at engines, and keeps at most one local server for this process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._server: VllmServer | None = None
        self._watch = EngineWatch()

    def test_connection(
        self, base_url: str | None = None, api_key: str | None = None
    ) -> list[EngineConnection]:
        """Ask every address of the form, else of the settings, what it is and can do."""
        addresses = self._addresses(base_url)
        key = self._key(api_key)

        async def look_at(address: str) -> EngineInspection:
            try:
                (checked,) = checked_addresses((address,), self._settings)
            except InvalidInput as problem:
                return EngineInspection(address, str(problem))
            return await inspect_engine(checked, api_key=key)

        async def look() -> Sequence[EngineInspection]:
            return await asyncio.gather(*(look_at(address) for address in addresses))

        return [_connection(found) for found in asyncio.run(look())]

    def default_engine(self) -> EngineChoice:
        """The first server of the settings that answers with a model, else the simulated rater."""
        addresses = self._addresses(None)
        server = self.server_state()
        if server is not None and server["state"] == "ready":
            addresses = (server["base_url"], *addresses)
        model = asyncio.run(_first_model(addresses, self._key(None)))
        if model is not None:
            address, name = model
            return {
                "llm": "vllm",
                "base_url": address,
                "model_name": name,
                "note": f"A model server answers at {address}.",
            }
        return {
            "llm": "simulated",
            "base_url": None,
            "model_name": SIMULATED_MODEL_NAME,
            "note": f"No model server answers at {', '.join(addresses)}; the simulated rater makes "
            "ratings up, to try things out.",
        }

    def start_server(self, model: str) -> ServerState:
        """Start vLLM for a model name or folder, or keep the one that serves it already.

        Raises:
            BenchlibError: No model is named, or the interpreter has no vLLM.
        """
        python = self._settings.vllm_python
        self._server = VllmServer.start(
            model,
            python_executable=str(python) if python else sys.executable,
            log_folder=self._settings.data_dir / "servers",
            api_key=self._key(None),
        )
        return _state(self._server)

    def server_state(self) -> ServerState | None:
        """Where the managed server stands; None if none was started."""
        return None if self._server is None else _state(self._server)

    def stop_server(self) -> None:
        """Stop the managed server, if there is one, and all its processes."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def stats_of(self, run: RunRecord) -> list[EngineStats]:
        """What the engines of a run say of themselves, without waiting for them.

        Returns:
            One entry per address; none unless the run is being executed, by a real engine.
        """
        if run.simulated or run.status is not RunStatus.RUNNING:
            return []
        executions = run.manifest.get("executions")
        if executions:
            addresses = tuple(executions[-1]["addresses"])
        else:
            addresses = self._addresses(run.config.vllm_base_url)
        allowed = [address for address in addresses if self._is_allowed(address)]
        known = {reading.address: reading for reading in self._watch.look(allowed)}
        return [_stats(address, known.get(address)) for address in addresses]

    def _is_allowed(self, address: str) -> bool:
        try:
            checked_addresses((address,), self._settings)
        except InvalidInput:
            return False
        return True

    def check_address(self, base_url: str | None) -> None:
        """See that a run may ask the addresses of a form.

        Raises:
            InvalidInput: One is no address, or its host is not allowed.
        """
        checked_addresses(self._addresses(base_url), self._settings)

    def _addresses(self, base_url: str | None) -> tuple[str, ...]:
        return split_addresses(base_url) if base_url else self._settings.engine_addresses

    def _key(self, api_key: str | None) -> str | None:
        if api_key:
            return api_key
        key = self._settings.vllm_api_key
        return None if key is None else key.get_secret_value()


async def _first_model(addresses: Sequence[str], api_key: str | None) -> tuple[str, str] | None:
    async def look(address: str) -> tuple[str, str] | None:
        try:
            http = EngineHttp(session, normalise_address(address), _LOOK_SECONDS)
            identity = await identify(http, has_key=bool(api_key))
            return http.address, choose_model(identity, None)
        except (BenchlibError, EngineRefusal):
            return None

    async with open_session(api_key) as session:
        found = await asyncio.gather(*(look(address) for address in addresses))
    return next((model for model in found if model is not None), None)


def _connection(found: EngineInspection) -> EngineConnection:
    abilities = {
        "batch": found.takes_batches,
        "distribution": found.gives_distributions,
        "structured": found.keeps_formats,
    }
    return {
        "address": found.address,
        "ok": found.problem is None,
        "error": found.problem,
        "engine_version": found.version,
        "models": [model.name for model in found.models],
        "supports": {name: known for name, known in abilities.items() if known is not None},
        "notes": list(found.notes),
    }


def _stats(address: str, reading: EngineReading | None) -> EngineStats:
    known = reading or EngineReading(address)
    return {
        "address": address,
        "state": "refused" if reading is None else known.state,
        "requests_running": known.now.requests_running,
        "requests_waiting": known.now.requests_waiting,
        "prompt_tokens_per_s": known.prompt_tokens_per_s,
        "generation_tokens_per_s": known.generation_tokens_per_s,
        "prefix_cache_hit_rate": known.prefix_cache_hit_rate,
    }


def _state(server: VllmServer) -> ServerState:
    return {
        "model": server.model,
        "model_name": server.model_name,
        "base_url": server.base_url,
        "state": server.state,
        "log": "\n".join(server.log_tail(_LOG_LINES)),
        "error": server.problem,
    }
