import pytest

from benchlib.infrastructure.engines.vllm_server import VllmServer
from tests.real_vllm.environment import VllmEnvironment, find_environment

READY_SECONDS = 600
"""A busy machine with two cores takes minutes to load torch."""


def pytest_collection_modifyitems(items):
    """Everything in this folder is marked: it costs minutes and gigabytes."""
    for item in items:
        if "real_vllm" in item.path.parts:
            item.add_marker(pytest.mark.vllm)


@pytest.fixture(scope="session")
def vllm_environment() -> VllmEnvironment:
    return find_environment()


@pytest.fixture(scope="session")
def vllm_server(vllm_environment, tmp_path_factory):
    """A running vLLM server with SmolLM2; has `base_url` and `model_name`, wants no key.

    Shared by all tests of the folder: whoever kills servers starts one of their own.
    """
    server = VllmServer.start(
        str(vllm_environment.model),
        python_executable=str(vllm_environment.python),
        extra_args=["--max-model-len", "4096"],
        log_folder=tmp_path_factory.mktemp("vllm"),
    )
    with server:
        server.wait_until_ready(READY_SECONDS)
        yield server
