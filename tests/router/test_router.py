"""The real vllm-router in front of two fake servers; `.ci/router-env` makes its environment."""

import os
import signal
import socket
import subprocess
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from benchlib.infrastructure.execution.executor import create_client, execute_benchmark_run
from benchlib.infrastructure.storage import results
from tests.fake_vllm import fake_vllm_process
from tests.requirements import require
from tests.samples import HANGS_SECONDS, add_run, claim, get_run, worker_context
from tests.scripted_client import ScriptedClient

pytestmark = pytest.mark.router


@pytest.fixture(scope="session")
def router_command():
    cache = Path(os.environ.get("BENCHLIB_CACHE") or Path.home() / ".cache" / "benchlib")
    complete = (cache / "router-env" / ".complete").is_file()
    require(complete, "vllm-router's environment (made by .ci/router-env)")
    return cache / "router-env" / "bin" / "vllm-router"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@contextmanager
def routed(command, folder, *servers):
    """A router in front of servers; gives its address."""
    port = free_port()
    options = ["--port", port, "--prometheus-port", free_port(), "--policy", "round_robin"]
    log = folder / "router.log"
    with log.open("w") as out:
        router = subprocess.Popen(
            [command, "--worker-urls", *servers, *options],
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        last = time.monotonic() + HANGS_SECONDS
        while not is_ready(address):
            assert router.poll() is None, log.read_text()
            assert time.monotonic() < last, log.read_text()
            time.sleep(0.05)  # another process's start can only be polled
        yield address
    finally:
        os.killpg(router.pid, signal.SIGKILL)
        router.wait()


def is_ready(address):
    try:
        return httpx.get(f"{address}/health").status_code == 200
    except httpx.TransportError:
        return False


def n_items(server):
    return httpx.get(f"{server}/fake/state").json()["n_items"]


def execute(store, run_id, *, at=0, act=lambda: None):
    """Claim and execute; `act` happens before the request number `at`."""
    n_requests = 0

    async def make_client(*chosen):
        client = await create_client(*chosen)
        ask = client.ask

        async def watched(questions):
            nonlocal n_requests
            n_requests += 1
            if n_requests == at:
                act()
            return await ask(questions)

        client.ask = watched
        return client

    assert claim(store) == run_id
    context = worker_context(store, ScriptedClient())
    return execute_benchmark_run(replace(context, make_client=make_client), run_id)


def add_routed_run(store, address):
    return add_run(store, 100, 4, vllm_base_url=address, model_name="fake-model", max_concurrency=8)


def check_complete(store, run_id):
    run = get_run(store, run_id)
    assert (run.status, run.done, run.failed, run.total) == ("done", 600, 0, 600)
    with store.read() as session:
        assert results.count_results(session, run_id) == run.total
    return run


def test_a_run_behind_a_router_uses_all_servers(store, tmp_path, router_command):
    with (
        fake_vllm_process() as one,
        fake_vllm_process() as two,
        routed(router_command, tmp_path, one, two) as address,
    ):
        run_id = add_routed_run(store, address)
        assert execute(store, run_id) == "done"
        run = check_complete(store, run_id)
        engine = run.manifest["engine"]
        assert (engine["kind"], engine["route"]) == ("vllm", "batch")
        assert engine["logprobs_source"] == "logprob_token_ids"
        shares = n_items(one), n_items(two)
        assert min(shares) > run.total / 4, shares
        assert sum(shares) <= run.total + 16  # those of the probe


def test_a_server_lost_behind_a_router_loses_nothing(store, tmp_path, router_command):
    with fake_vllm_process() as kept, ExitStack() as losable:
        lost = losable.enter_context(fake_vllm_process())
        with routed(router_command, tmp_path, kept, lost) as address:
            run_id = add_routed_run(store, address)
            assert execute(store, run_id, at=6, act=losable.close) == "done"
            check_complete(store, run_id)
