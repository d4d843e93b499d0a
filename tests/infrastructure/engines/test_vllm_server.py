import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from benchlib.domain.errors import EngineNotReachable, InvalidInput
from benchlib.infrastructure.engines import vllm_server
from benchlib.infrastructure.engines.vllm_server import VllmServer
from tests.samples import HANGS_SECONDS

STUB = '''
"""Stands in for vLLM: a worker process, a health route, everything it was given in its log."""
import http.server, json, os, signal, subprocess, sys

print("argv", json.dumps(sys.argv[1:]))
print("env", json.dumps({k: v for k, v in os.environ.items() if k.startswith(("VLLM", "HF_"))}))
fifo = os.environ.get("STUB_FIFO")
held = open(fifo, "w") if fifo else None  # as long as anybody of us lives, its reader waits
if "--stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    worker = [sys.executable, "-c", "import signal; signal.signal(15, signal.SIG_IGN);"
              "print('worker up', flush=True); signal.pause()"]
else:
    worker = [sys.executable, "-c", "import signal; print('worker up', flush=True); signal.pause()"]
subprocess.Popen(worker, pass_fds=[held.fileno()] if held else [])
if "--broken" in sys.argv:
    raise ValueError("No memory for the key-value cache.")

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
'''


@pytest.fixture
def python(tmp_path) -> str:
    """An interpreter that finds the stub where vLLM would be."""
    package = tmp_path / "site" / "vllm" / "entrypoints" / "openai"
    package.mkdir(parents=True)
    for folder in (package, package.parent, package.parent.parent):
        (folder / "__init__.py").touch()
    (package / "api_server.py").write_text(STUB)
    wrapper = tmp_path / "python"
    wrapper.write_text(
        f'#!/bin/sh\nPYTHONPATH="{tmp_path / "site"}" exec "{sys.executable}" -u "$@"\n'
    )
    wrapper.chmod(0o755)
    return str(wrapper)


@pytest.fixture
def model(tmp_path) -> str:
    folder = tmp_path / "tiny-model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return str(folder)


@pytest.fixture
def fifo(tmp_path):
    """A pipe whose reader sees its end when the last process of the server is gone."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    yield path, reader
    os.close(reader)


@pytest.fixture(autouse=True)
def _no_gpu_and_short_patience(monkeypatch):
    monkeypatch.setattr(vllm_server, "has_gpu", lambda: False)
    monkeypatch.setattr(vllm_server, "STOP_SECONDS", 1.0)
    monkeypatch.setenv("VLLM_API_KEY", "key-of-another-engine")
    yield
    VllmServer.stop_all()


def wait_until_all_are_gone(reader: int) -> None:
    readable, _, _ = select.select([reader], [], [], 20)
    assert readable, "a process of the server still lives"
    assert os.read(reader, 10) == b""


def is_empty(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def log_line(server: VllmServer, word: str) -> str:
    return next(line for line in server.log_tail(100) if line.startswith(word))


def test_a_server_is_started_watched_and_stopped(python, model, tmp_path):
    server = VllmServer.start(model, python_executable=python, log_folder=tmp_path / "logs")
    server.wait_until_ready(HANGS_SECONDS)
    assert server.ready
    assert server.state == "ready"
    assert server.problem is None
    assert server.model_name == "tiny-model"
    assert server.base_url == f"http://127.0.0.1:{server.port}"
    assert server.log_path.parent == tmp_path / "logs"
    arguments = log_line(server, "argv")
    for expected in (
        f'"--model", "{model}"',
        '"--served-model-name", "tiny-model"',
        '"--host", "127.0.0.1"',
        '"--dtype", "float32", "--enforce-eager"',
        '"--block-size", "32"',
    ):
        assert expected in arguments
    environment = log_line(server, "env")
    assert '"VLLM_CPU_KVCACHE_SPACE": "2"' in environment
    assert '"HF_HUB_OFFLINE": "1"' in environment
    assert "key-of-another-engine" not in environment
    assert server.log_tail(1) == server.log_tail(100)[-1:]
    assert server.log_tail(0) == []
    server.stop()
    assert server.state == "stopped"
    assert is_empty(server.process_group)
    server.stop()
    with pytest.raises(EngineNotReachable, match="was stopped"):
        server.wait_until_ready(1)


def test_the_same_model_is_not_started_twice(python, model):
    first = VllmServer.start(model, python_executable=python)
    assert VllmServer.start(model, python_executable=python) is first
    other = VllmServer.start(model, python_executable=python, extra_args=["--seed", "7"])
    assert other is not first
    assert other.port != first.port
    first.stop()
    again = VllmServer.start(model, python_executable=python)
    assert again is not first
    for server in (other, again):
        server.wait_until_ready(HANGS_SECONDS)
    VllmServer.stop_all()
    assert other.state == again.state == "stopped"
    assert is_empty(again.process_group)


def test_the_key_is_handed_over_by_environment_only(python, model):
    with VllmServer.start(model, python_executable=python, api_key="sesame-42") as server:
        server.wait_until_ready(HANGS_SECONDS)
        assert "sesame-42" not in log_line(server, "argv")
        assert '"VLLM_API_KEY": "sesame-42"' in log_line(server, "env")
        assert "sesame-42" not in repr(server)


def test_own_arguments_and_environment_win(python, model, monkeypatch):
    monkeypatch.setattr(vllm_server, "has_gpu", lambda: True)
    with VllmServer.start(
        model,
        python_executable=python,
        extra_args=["--max-model-len", "512"],
        env={"VLLM_CPU_KVCACHE_SPACE": "1"},
    ) as server:
        server.wait_until_ready(HANGS_SECONDS)
        arguments = log_line(server, "argv")
        assert arguments.endswith('"--max-model-len", "512"]')
        assert "--dtype" not in arguments
        assert '"VLLM_CPU_KVCACHE_SPACE": "1"' in log_line(server, "env")


def test_paths_may_be_relative(python, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with VllmServer.start(
        "tiny-model", python_executable="./python", log_folder=Path("logs")
    ) as server:
        server.wait_until_ready(HANGS_SECONDS)
        assert f'"--model", "{model}"' in log_line(server, "argv")


def test_a_name_on_the_hub_is_passed_on(python):
    with VllmServer.start("someone/some-model", python_executable=python) as server:
        server.wait_until_ready(HANGS_SECONDS)
        assert server.model_name == "someone/some-model"
        assert "HF_HUB_OFFLINE" not in log_line(server, "env")


def test_who_does_not_listen_to_sigterm_is_killed(python, model, fifo):
    path, reader = fifo
    server = VllmServer.start(
        model,
        python_executable=python,
        extra_args=["--stubborn"],
        env={"STUB_FIFO": str(path)},
    )
    server.wait_until_ready(HANGS_SECONDS)
    server.stop()
    assert is_empty(server.process_group)
    wait_until_all_are_gone(reader)


def test_a_server_that_fails_says_why(python, model):
    server = VllmServer.start(model, python_executable=python, extra_args=["--broken"])
    with pytest.raises(
        EngineNotReachable,
        match=r"tiny-model ended( with status 1)? while it was starting: "
        r"ValueError: No memory for the key-value cache; see its log\.",
    ):
        server.wait_until_ready(HANGS_SECONDS)
    assert server.state == "failed"
    server._keeper.wait(HANGS_SECONDS)
    assert "ended with status 1 while" in server.problem
    assert is_empty(server.process_group)
    server.stop()
    assert VllmServer.start(model, python_executable=python, extra_args=["--broken"]) is not server


def test_a_server_that_is_killed_is_noticed_and_leaves_nothing(python, model, fifo):
    path, reader = fifo
    server = VllmServer.start(model, python_executable=python, env={"STUB_FIFO": str(path)})
    server.wait_until_ready(HANGS_SECONDS)
    os.kill(server.process_group, signal.SIGKILL)
    wait_until_all_are_gone(reader)
    server._keeper.wait(HANGS_SECONDS)
    assert server.state == "failed"
    assert "ended with status 137 after it was ready" in server.problem


def test_a_killed_keeper_leaves_nothing_once_stopped(python, model, fifo):
    path, reader = fifo
    server = VllmServer.start(model, python_executable=python, env={"STUB_FIFO": str(path)})
    server.wait_until_ready(HANGS_SECONDS)
    server._keeper.kill()
    server._keeper.wait()
    server.stop()
    wait_until_all_are_gone(reader)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_nothing_outlives_the_process_that_started_it(python, model, fifo, tmp_path, number):
    path, reader = fifo
    script = textwrap.dedent(
        f"""
        import signal, threading
        from benchlib.infrastructure.engines import vllm_server
        vllm_server.STOP_SECONDS = 1.0

        def start():
            server = vllm_server.VllmServer.start(
                {model!r}, python_executable={python!r}, env={{"STUB_FIFO": {str(path)!r}}}
            )
            server.wait_until_ready({HANGS_SECONDS})

        thread = threading.Thread(target=start)  # its end must not end the server
        thread.start()
        thread.join()
        print("ready", flush=True)
        signal.pause()
        """
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert parent.stdout.readline() == "ready\n"
        readable, _, _ = select.select([reader], [], [], 0.3)
        assert not readable, "the server did not outlive the thread that started it"
        parent.send_signal(number)
        parent.wait(HANGS_SECONDS)
        wait_until_all_are_gone(reader)
    finally:
        parent.kill()
        parent.communicate()


def test_a_server_that_is_slow_is_given_up_in_time(python, model, monkeypatch):
    monkeypatch.setattr(VllmServer, "_is_healthy", lambda self: False)
    with VllmServer.start(model, python_executable=python) as server:
        assert server.state == "starting"
        with pytest.raises(EngineNotReachable, match="was not ready after 0 s"):
            server.wait_until_ready(0.3)


def test_an_interpreter_without_vllm_is_said_to_have_none(model):
    with pytest.raises(
        EngineNotReachable, match=r"vLLM is not installed for .*; install the extra"
    ):
        VllmServer.start(model, python_executable=sys.executable)


def test_an_interpreter_that_is_none_is_refused(model, tmp_path):
    with pytest.raises(EngineNotReachable, match="There is no Python at"):
        VllmServer.start(model, python_executable=str(tmp_path / "nothing"))
    false = shutil.which("sleep")
    with pytest.raises(EngineNotReachable, match=r"vLLM is not installed|cannot be run as Python"):
        VllmServer.start(model, python_executable=false)


def test_a_folder_without_a_model_is_refused(python, tmp_path):
    with pytest.raises(InvalidInput, match=r"has no config\.json"):
        VllmServer.start(str(tmp_path), python_executable=python)


def test_a_port_that_is_taken_is_refused(python, model):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InvalidInput, match=f"Port {port} cannot be used"):
            VllmServer.start(model, port, python_executable=python)


def test_a_gpu_is_looked_for_without_loading_anything(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(vllm_server.shutil, "which", lambda name: None)
    monkeypatch.setattr(vllm_server.Path, "exists", lambda path: False)
    assert not vllm_server.has_gpu()
    monkeypatch.setattr(vllm_server.Path, "exists", lambda path: path == Path("/dev/nvidia0"))
    assert vllm_server.has_gpu()
