"""Strangers, other web pages and endless bodies in front of the API."""

import tomllib
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from benchlib.application.benchmark_service import BenchmarkService
from benchlib.presentation.api.guard import LARGEST_BODY, Guard
from benchlib.settings import Settings
from tests.apis import api_over
from tests.samples import add_dataset, add_traits

TOKEN = "token-9c1e-of-tests"
START = {"dataset_id": 1, "llm": "simulated"}


@pytest.fixture
def connect(store, tmp_path):
    """Gives `connect(token=None, at="http://127.0.0.1:8501", peer="127.0.0.1") -> TestClient`."""
    add_dataset(store)
    add_traits(store)
    service = BenchmarkService(store, None, Settings(data_dir=tmp_path))

    def make(token=None, at="http://127.0.0.1:8501", peer="127.0.0.1", **options):
        guarded = Guard(api_over(service), token, **options)
        return TestClient(guarded, base_url=at, client=(peer, 50_000))

    return make


def answer(response, status):
    assert response.status_code == status, response.text
    body = response.json()
    assert body["ok"] is (status < 400) if isinstance(body, dict) else status == 200
    return body


@pytest.mark.parametrize("at", ["http://127.0.0.1:8501", "http://localhost:8501", "http://[::1]:1"])
def test_this_machine_reads_and_writes_without_a_token(connect, at):
    client = connect(at=at)
    if at == "http://localhost:8501":  # the server knows itself by its address
        client = connect()
        client.headers["Host"] = "localhost:8501"
    assert answer(client.post("/benchmarks/start", json=START), 200)["run_id"] == 1
    assert len(answer(client.get("/runs"), 200)) == 1


def test_another_machine_reads_but_does_not_write_without_a_token(connect):
    client = connect(at="http://192.168.1.5:8501", peer="192.168.1.9")
    assert answer(client.get("/runs"), 200) == []
    said = answer(client.post("/benchmarks/start", json=START), 401)["error"]
    assert "BENCHLIB_API_TOKEN" in said
    proxied = connect(peer="192.168.1.9")  # bound to loopback, yet the caller is not
    assert answer(proxied.post("/benchmarks/start", json=START), 401)
    assert answer(client.get("/runs"), 200) == []


@pytest.mark.parametrize(
    ("peer", "status"), [("::ffff:127.0.0.1", 200), ("::ffff:192.168.1.9", 401), ("::1", 200)]
)
def test_a_socket_of_both_families_knows_who_calls(connect, peer, status):
    """Where the dashboard listens on IPv6 and IPv4 at once, IPv4 callers have mapped addresses."""
    answer(connect(peer=peer).post("/benchmarks/start", json=START), status)


def test_with_a_token_set_every_write_needs_it(connect):
    client = connect(TOKEN)
    refused = client.post("/benchmarks/start", json=START)
    assert "BENCHLIB_API_TOKEN" in answer(refused, 401)["error"]
    assert refused.headers["WWW-Authenticate"] == "Bearer"
    assert answer(client.delete("/runs/1"), 401)
    for wrong in (f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer ", TOKEN, "Bearer \xe9"):
        headers = {"Authorization": wrong.encode("latin-1")}
        said = answer(client.post("/benchmarks/start", json=START, headers=headers), 401)["error"]
        assert TOKEN not in said
    far = connect(TOKEN, at="https://bias.example", peer="10.1.2.3")
    far.headers["Authorization"] = f"Bearer {TOKEN}"
    assert answer(far.post("/benchmarks/start", json=START), 200)["run_id"] == 1
    assert answer(far.get("/runs"), 200)


@pytest.mark.parametrize("token", [None, TOKEN])
@pytest.mark.parametrize("root", ["", "/api"])
def test_where_people_log_in_strangers_read_only_the_health(connect, token, root):
    client = connect(token, has_users=True)  # from this very machine
    if root:
        client = TestClient(
            Starlette(routes=[Mount(root, app=client.app)]),
            base_url="http://127.0.0.1:8501",
            client=("127.0.0.1", 50_000),
        )
    assert answer(client.get(f"{root}/health"), 200)
    for path in ("/runs", "/runs/1", "/openapi.json", "/docs", "/nowhere", "/health/", "/healthy"):
        assert "BENCHLIB_API_TOKEN" in answer(client.get(root + path), 401)["error"]
    assert answer(client.post(f"{root}/benchmarks/start", json=START), 401)
    if token:
        known = {"Authorization": f"Bearer {token}"}
        assert answer(client.get(f"{root}/runs", headers=known), 200) == []
        assert answer(client.post(f"{root}/benchmarks/start", json=START, headers=known), 200)


def test_a_name_of_a_stranger_that_was_pointed_here_reads_nothing(connect):
    client = connect()
    for host in (
        "evil.example",
        "evil.example:8501",
        "localhost.evil.example",
        "",
        "127.0.0.1.evil",
    ):
        said = answer(client.get("/runs", headers={"Host": host}), 403)["error"]
        assert "address" in said


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9999"])
def test_a_web_page_of_another_origin_does_not_write(connect, origin):
    headers = {"Origin": origin}
    client = connect()
    assert answer(client.post("/benchmarks/start", json=START, headers=headers), 403)
    assert answer(client.get("/runs"), 200) == []
    own = {"Origin": "http://127.0.0.1:8501"}
    assert answer(client.post("/benchmarks/start", json=START, headers=own), 200)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_form_of_a_web_page_is_no_json(connect, kind):
    body = b'{"dataset_id": 1, "llm": "simulated"}'
    client = connect()
    refused = client.post("/benchmarks/start", content=body, headers={"Content-Type": kind})
    assert "application/json" in answer(refused, 415)["error"]


def test_a_body_is_bounded_whatever_its_length_was_said_to_be(connect):
    client = connect()
    padded = b'{"dataset_id": 1, "llm": "simulated"' + b" " * LARGEST_BODY
    headers = {"Content-Type": "application/json"}
    assert answer(client.post("/benchmarks/start", content=padded + b"}", headers=headers), 413)
    chunks = (padded[i : i + 4096] for i in range(0, len(padded), 4096))
    assert answer(client.post("/benchmarks/start", content=chunks, headers=headers), 413)
    small = iter([b'{"dataset_id": 1, ', b'"llm": "simulated"}'])
    assert answer(client.post("/benchmarks/start", content=small, headers=headers), 200)


def test_unknown_fields_and_parameters_are_refused(connect):
    client = connect()
    assert (
        "shcale"
        in answer(client.post("/benchmarks/start", json={**START, "shcale": 1}), 422)["error"]
    )
    assert (
        "atribute" in answer(client.get("/runs/1/means?atribute=gender&attribute=a"), 422)["error"]
    )


def test_streamlits_own_protections_stay_on():
    config = tomllib.loads((Path(__file__).parents[3] / ".streamlit/config.toml").read_text())
    assert config["server"].get("enableXsrfProtection", True)
    assert config["server"].get("enableCORS", True)
