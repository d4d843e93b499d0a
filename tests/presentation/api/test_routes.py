import pytest
from starlette.testclient import TestClient

from benchlib.application.benchmark_service import BenchmarkService
from benchlib.domain.users import Role, User
from benchlib.settings import Settings
from tests.apis import api_over
from tests.samples import add_dataset, add_run, add_traits


@pytest.fixture
def run_id(client, finished_run):
    return finished_run


@pytest.fixture
def finished_run(store):
    from benchlib.infrastructure.execution.executor import execute_benchmark_run
    from tests.samples import claim, worker_context
    from tests.scripted_client import ScriptedClient

    run_id = add_run(store)
    claim(store)
    execute_benchmark_run(worker_context(store, ScriptedClient()), run_id)
    return run_id


def body(answer, status=200):
    assert answer.headers["content-type"] == "application/json"
    assert answer.status_code == status, answer.text
    return answer.json()


def test_runs_are_listed_with_the_agreed_fields(client, run_id):
    (run,) = body(client.get("/runs"))
    assert run["n_results"] == 36
    assert {
        "id",
        "model_name",
        "include_rationale",
        "system_prompt",
        "dataset_id",
        "created_at",
        "n_results",
        "status",
    } <= set(run)


def test_one_run_tells_its_dataset_configuration_and_manifest(client, run_id):
    run = body(client.get(f"/runs/{run_id}"))
    assert run["dataset"]["name"] == "six"
    assert run["config"]["dual_fraction"] == 0.5
    assert run["manifest"]["engine"]["model_name"] == "scripted"


def test_a_run_is_started_watched_and_cancelled(client, store):
    add_traits(store)
    dataset_id = add_dataset(store)
    given = {"dataset_id": dataset_id, "model_name": "m", "llm": "fake"}
    started = body(client.post("/benchmarks/start", json=given))
    assert started == {"ok": True, "run_id": 1}
    status = body(client.get("/benchmarks/1/status"))
    assert (status["status"], status["done"], status["total"], status["pct"]) == (
        "queued",
        0,
        29,
        0,
    )
    assert {"ok", "dataset_id", "error", "rate_per_s", "eta_s", "failed"} <= set(status)
    active = body(client.get(f"/datasets/{dataset_id}/benchmarks/active"))
    assert (active["active"], active["run_id"]) == (True, 1)
    assert body(client.post("/benchmarks/1/cancel")) == {"ok": True}
    active = body(client.get(f"/datasets/{dataset_id}/benchmarks/active"))
    assert active == {"ok": True, "active": False, "run_id": None}
    assert body(client.get("/models")) == ["simulated-rater"]


def test_results_are_served(client, run_id):
    metrics = body(client.get(f"/runs/{run_id}/metrics"))
    assert metrics["ok"]
    assert sum(metrics["hist"]["counts"]) == metrics["n"] == 36
    rows = body(client.get(f"/runs/{run_id}/means", params={"attribute": "gender"}))["rows"]
    assert [row["category"] for row in rows] == ["female", "male"]
    everything = body(client.get(f"/runs/{run_id}/means/all"))
    assert everything["data"]["gender"] == rows
    missing = body(client.get(f"/runs/{run_id}/missing"))
    assert (missing["total"], missing["done"], missing["missing"]) == (36, 36, 0)
    order = body(client.get(f"/runs/{run_id}/order-metrics"))
    assert order["n_pairs"] == 12


def test_a_run_is_deleted(client, run_id):
    assert body(client.delete(f"/runs/{run_id}")) == {"ok": True, "deleted": 36}
    assert body(client.get("/runs")) == []


def test_health(client):
    assert body(client.get("/health"))["store"] == "ok"


@pytest.mark.parametrize(
    ("method", "path", "given", "status", "sentence"),
    [
        ("GET", "/runs/99", None, 404, "There is no run 99; pick one from the list."),
        ("GET", "/runs/zero", None, 422, "run_id: Input should be a valid integer"),
        ("GET", "/runs/0", None, 422, "run_id: Input should be greater than or equal to 1"),
        ("GET", "/nowhere", None, 404, "There is no /nowhere; see /api/docs"),
        ("PUT", "/runs", None, 405, "Method Not Allowed"),
        ("DELETE", "/runs/99", None, 404, "There is no run 99"),
        ("POST", "/benchmarks/99/cancel", None, 404, "There is no run 99"),
        ("POST", "/benchmarks/start", {"dataset_id": 5, "pace": 1}, 422, "pace: Extra inputs"),
        ("POST", "/benchmarks/start", {"dataset_id": 5, "model_name": "m"}, 404, "no dataset 5"),
        ("POST", "/benchmarks/start", {}, 422, "name a dataset_id, or a resume_run_id"),
        ("POST", "/benchmarks/start", None, 422, "Field required"),
    ],
)
def test_errors_have_one_shape_and_say_what_to_do(client, method, path, given, status, sentence):
    answer = body(client.request(method, path, json=given), status)
    assert answer["ok"] is False
    assert sentence in answer["error"]


def test_a_complete_run_cannot_be_resumed(client, run_id):
    answer = body(client.post("/benchmarks/start", json={"resume_run_id": run_id}), 409)
    assert "it is complete" in answer["error"]


def test_read_only_refuses_writes(store, tmp_path, finished_run):
    service = BenchmarkService(store, None, Settings(data_dir=tmp_path, read_only=True))
    with TestClient(api_over(service)) as client:
        assert "read-only" in body(client.delete(f"/runs/{finished_run}"), 403)["error"]
        assert body(client.get(f"/runs/{finished_run}/metrics"))["ok"]


def test_a_role_that_does_not_reach_is_refused(service, finished_run):
    viewer = service.acting_as(User("vera@example.org", Role.VIEWER))
    with TestClient(api_over(viewer)) as client:
        refused = body(client.delete(f"/runs/{finished_run}"), 403)
        assert refused["error"] == "Only admins may delete runs; your role is viewer, so ask one."
        assert body(client.get(f"/runs/{finished_run}"))["n_results"] == 36


def test_a_fault_of_the_program_shows_no_trace(client, service, monkeypatch):
    monkeypatch.setattr(service, "list_runs", lambda: 1 / 0)
    answer = client.get("/runs")
    assert answer.status_code == 500
    assert answer.json() == {
        "ok": False,
        "error": "A fault of the program; please report it with the log.",
    }


def test_a_key_that_does_not_fit_is_not_repeated(client):
    given = {"dataset_id": 1, "vllm_api_key": ["sk-secret"]}
    assert "sk-secret" not in client.post("/benchmarks/start", json=given).text


def test_the_api_describes_itself(client):
    paths = body(client.get("/openapi.json"))["paths"]
    assert {"/runs", "/benchmarks/start", "/benchmarks/{run_id}/status"} <= set(paths)
