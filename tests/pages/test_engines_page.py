"""Engines: what answers where, and the local server from its start to its end."""

import pytest

from benchlib.domain.errors import InvalidInput
from tests.fake_vllm import fake_vllm_process
from tests.pages.conftest import settled, texts


class LocalServer:
    """Stands for the managed server; a test moves it from state to state."""

    def __init__(self, house, monkeypatch):
        self.state = None
        for name in ("start_server", "server_state", "stop_server"):
            monkeypatch.setattr(house.service.engines, name, getattr(self, name))

    def start_server(self, model):
        if model == "nothing":
            raise InvalidInput("vLLM is not installed; see https://example.org/<b>.")
        self.becomes("starting", model=model, log="Loading *weights*\n50 %")
        return self.state

    def becomes(self, state, **changes):
        known = self.state or {
            "model_name": "served-name",
            "base_url": "http://127.0.0.1:9",
            "log": "",
            "error": None,
        }
        self.state = {**known, **changes, "state": state}

    def server_state(self):
        return self.state

    def stop_server(self):
        self.becomes("stopped")


@pytest.fixture
def local_server(house, monkeypatch):
    return LocalServer(house, monkeypatch)


def test_a_connection_test_tells_address_version_models_and_abilities(house, open_page):
    with fake_vllm_process("--set", "batch=false") as address:
        at = open_page("engines")
        at.text_input(key="engines_address").set_value(address)
        settled(at.button(key="engines_test").click().run())
    assert address in texts(at)
    assert "Models: fake-model" in texts(at)
    assert any(text.startswith("Version ") for text in texts(at))
    assert any("sent one by one" in text for text in texts(at))
    abilities = [found.value for found in at.markdown if "per request" in found.value]
    assert "close" in abilities[0]


def test_a_wrong_address_says_so(house, open_page):
    at = open_page("engines")
    at.text_input(key="engines_address").set_value("localhost")
    settled(at.button(key="engines_test").click().run())
    shown = [*texts(at), *(found.value for found in at.error)]
    assert any("http" in text for text in shown)


def test_the_local_server_is_started_watched_used_and_stopped(house, local_server, open_page):
    at = open_page("start_run")
    at.segmented_control(key="start_engine").set_value("managed")
    settled(at.run())
    assert at.button(key="server_start").disabled
    at.text_input(key="server_model").set_value("some/model")
    settled(at.run())
    settled(at.button(key="server_start").click().run())
    assert "Loading *weights*\n50 %" in [code.value for code in at.code]
    assert at.button(key="start_launch").disabled
    assert "still loading" in at.info[0].value

    local_server.becomes("ready")
    settled(at.run())
    assert not at.button(key="start_launch").disabled
    settled(at.button(key="start_launch").click().run())
    config = house.service.get_run(1)["config"]
    assert config["vllm_base_url"] == "http://127.0.0.1:9"
    assert config["model_name"] == "served-name"

    at = open_page("engines")
    settled(at.button(key="server_stop").click().run())
    assert local_server.state["state"] == "stopped"
    assert any("stopped" in found.value for found in at.markdown)


def test_a_local_server_that_cannot_start_says_why_and_keeps_the_name(local_server, open_page):
    at = open_page("engines")
    at.text_input(key="server_model").set_value("nothing")
    settled(at.run())
    settled(at.button(key="server_start").click().run())
    assert "vLLM is not installed" in at.error[0].value
    assert "`https://example.org/<b>`" in at.error[0].value
    assert at.text_input(key="server_model").value == "nothing"


def test_a_local_server_that_failed_shows_its_last_words(local_server, open_page):
    local_server.becomes("failed", model="m", log="Traceback", error="CUDA is missing")
    at = open_page("engines")
    assert [code.value for code in at.code] == ["CUDA is missing", "Traceback"]
