"""Model servers: which of them answer and what they support, and one local managed server."""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, TypedDict

from benchlib.application.permissions import ActingService, needs
from benchlib.domain.asking.engine_reports import (
    EngineConnection,
    EngineStats,
    ServerState,
    empty_stats,
    untested_connection,
)
from benchlib.domain.errors import BenchlibError, InvalidInput
from benchlib.domain.users import Role, User
from benchlib.domain.vocabulary import RunStatus
from benchlib.infrastructure.engines.allowed_hosts import checked_addresses, normalise_address
from benchlib.infrastructure.engines.connection_test import inspect_engine
from benchlib.infrastructure.engines.http import EngineHttp, open_session
from benchlib.infrastructure.engines.identity import EngineRefusal, choose_model, identify
from benchlib.infrastructure.engines.server_metrics import EngineMonitor
from benchlib.infrastructure.engines.simulated import SIMULATED_MODEL_NAME
from benchlib.infrastructure.engines.vllm_server import VllmServer
from benchlib.infrastructure.storage import runs
from benchlib.infrastructure.storage.database import Store
from benchlib.settings import Settings, split_addresses

_LOOK_SECONDS: Final = 1.0


class EngineChoice(TypedDict):
    """The engine a form starts with; `note` says why."""

    llm: Literal["vllm", "simulated"]
    base_url: str | None
    model_name: str
    note: str


@dataclass
class _LocalServer:
    """The one local server of this process, shared by the services of all users."""

    current: VllmServer | None = None


class EngineService(ActingService):
    """Tests engines, and runs at most one local server for this process."""

    def __init__(self, store: Store, settings: Settings, user: User) -> None:
        super().__init__(user, settings.read_only)
        self._store = store
        self._settings = settings
        self._local = _LocalServer()
        self._monitor = EngineMonitor()

    @needs(Role.RESEARCHER, "test connections", writes=False)
    def test_connection(
        self, base_url: str | None = None, api_key: str | None = None
    ) -> list[EngineConnection]:
        """Ask every address given, else of the settings, what it is and can do."""
        addresses = self._addresses(base_url)
        key = self._key(api_key)

        async def inspect(address: str) -> EngineConnection:
            try:
                (checked,) = checked_addresses((address,), self._settings)
            except InvalidInput as problem:
                return untested_connection(address, str(problem))
            return await inspect_engine(checked, api_key=key)

        async def inspect_all() -> Sequence[EngineConnection]:
            return await asyncio.gather(*(inspect(address) for address in addresses))

        return list(asyncio.run(inspect_all()))

    def default_engine(self) -> EngineChoice:
        """The first server that answers with a model, else the simulated rater."""
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

    @needs(Role.ADMIN, "start the local server")
    def start_server(self, model: str) -> ServerState:
        """Start vLLM for a model name or folder, unless it already serves that model.

        Raises:
            BenchlibError: No model is named, or the interpreter has no vLLM.
        """
        python = self._settings.vllm_python
        server = VllmServer.start(
            model,
            python_executable=str(python) if python else sys.executable,
            log_folder=self._settings.data_dir / "servers",
            api_key=self._key(None),
        )
        self._local.current = server
        with self._store.write() as session:
            self._record(session, "started", "server", None, model, datetime.now(UTC))
        return server.report()

    def server_state(self) -> ServerState | None:
        """State of the local server; None if none was started."""
        return None if self._local.current is None else self._local.current.report()

    @needs(Role.ADMIN, "stop the local server")
    def stop_server(self) -> None:
        """Stop the local server and all its processes; does nothing where none was started."""
        server = self._local.current
        if server is None:
            return
        self.close()
        with self._store.write() as session:
            self._record(session, "stopped", "server", None, server.model, datetime.now(UTC))

    def close(self) -> None:
        """Stop the local server with the process, whoever started it."""
        if self._local.current is not None:
            self._local.current.stop()
            self._local.current = None

    def get_stats(self, run_id: int) -> list[EngineStats]:
        """What the engines of a run report, without waiting for them.

        Returns:
            One entry per address; none unless a real engine is executing the run now.
        """
        with self._store.read() as session:
            run = runs.get_run(session, run_id)
        if run.simulated or run.status is not RunStatus.RUNNING:
            return []
        executions = run.manifest.get("executions")
        if executions:
            addresses = tuple(executions[-1]["addresses"])
        else:
            addresses = self._addresses(run.config.vllm_base_url)
        allowed = [address for address in addresses if self._is_allowed(address)]
        known = {stats["address"]: stats for stats in self._monitor.look(allowed)}
        return [known.get(address) or empty_stats(address, "refused") for address in addresses]

    def _is_allowed(self, address: str) -> bool:
        try:
            checked_addresses((address,), self._settings)
        except InvalidInput:
            return False
        return True

    def check_address(self, base_url: str | None) -> None:
        """Check that a run may use these addresses, else those of the settings.

        Raises:
            InvalidInput: One is not an address, or its host is not allowed.
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
