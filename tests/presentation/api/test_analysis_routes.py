import re
from pathlib import Path
from time import monotonic, sleep

import pytest
from starlette.testclient import TestClient

from benchlib.application.benchmark_service import BenchmarkService
from benchlib.settings import Settings
from tests.apis import api_over
from tests.samples import HANGS_SECONDS

DOCUMENT = Path(__file__).parents[3] / "docs" / "API.md"
COMMON = {
    *("ok", "run_id", "n", "n_personas", "n_answers", "missing", "failed", "preliminary"),
    *("simulated", "uses_expected", "n_copies", "correction"),
}
PANELS = (
    *("metrics", "means", "order-metrics", "deltas", "deltas/all/{trait_category}", "forest"),
    *("forest/all", "kruskal", "kruskal-by-category", "styles", "distributions"),
    *("counterfactual", "adjusted-deltas", "variance-components", "calibration"),
    "health-check",
)
FILES = ("metrics", "means", "deltas", "forest", "omnibus", "order")


@pytest.fixture(scope="module")
def service(rated_service):
    return rated_service


@pytest.fixture(scope="module")
def run_id(rated_store):
    return 1


def body(answer, status=200):
    assert answer.headers["content-type"] == "application/json"
    assert answer.status_code == status, answer.text
    return answer.json()


def ask(client, run_id, panel, **given):
    needed = {"attribute": "gender"} if panel in ("means", "deltas", "forest") else {}
    path = f"/runs/{run_id}/{panel}".format(trait_category="all")
    return client.get(path, params={**needed, **given})


# -- the routes --------------------------------------------------------------------------------


def test_deltas_have_the_agreed_fields(client, service, run_id):
    deltas = body(ask(client, run_id, "deltas"))
    assert {"ok", "n", "baseline", "rows"} <= set(deltas)
    agreed = (
        "category count mean delta p_value q_value significant cliffs_delta baseline n_base "
        "mean_base sd_base n_cat mean_cat sd_cat se_delta ci_low ci_high"
    )
    assert set(agreed.split()) <= set(deltas["rows"][0])
    assert deltas == service.get_deltas(run_id, "gender")
    every = body(client.get(f"/runs/{run_id}/deltas/all/all"))
    assert every["data"]["gender"]["rows"] == deltas["rows"]
    warmth = body(client.get(f"/runs/{run_id}/deltas/all/warmth", params={"n_perm": 0}))
    assert warmth["trait_category"] == "warmth"
    assert warmth["data"]["gender"]["rows"][1]["n_perm"] == 0


def test_parameters_reach_the_analysis(client, service, run_id):
    given = {
        "baseline": "m",
        "n_perm": 10,
        "alpha": 0.01,
        "trait_category": "warmth",
        "sesoi": 0.5,
        "use_expected": "false",
        "by": "by",
        "neutral": "true",
    }
    deltas = body(ask(client, run_id, "deltas", **given))
    assert deltas == service.get_deltas(
        run_id,
        "gender",
        "m",
        n_perm=10,
        alpha=0.01,
        trait_category="warmth",
        sesoi=0.5,
        use_expected=False,
        by="by",
        neutral=True,
    )
    empty = body(ask(client, run_id, "deltas", baseline="", trait_category=""))
    assert empty == service.get_deltas(run_id, "gender")


def test_forests_have_the_agreed_fields(client, service, run_id):
    forest = body(ask(client, run_id, "forest"))
    agreed = (
        "case_id label category baseline trait_category valence n_base n_cat delta se ci_low "
        "ci_high p_value q_value cliffs_delta significant"
    )
    assert set(agreed.split()) <= set(forest["rows"][0])
    assert {"mean", "ci_low", "ci_high"} <= set(forest["overall"])
    chosen = body(
        client.get(
            f"/runs/{run_id}/forest",
            params={
                "attribute": "origin",
                "baseline": "n",
                "target": ["s"],
                "min_n": 3,
                "methods": ["dl", "reml"],
                "max_t": True,
                "n_perm": 30,
            },
        )
    )
    assert chosen == service.get_forest(
        run_id, "origin", "n", ["s"], min_n=3, methods=["dl", "reml"], max_t=True, n_perm=30
    )
    assert [found["method"] for found in chosen["overall"]["independent"]] == ["dl", "reml"]
    every = body(client.get(f"/runs/{run_id}/forest/all"))
    assert every["data"]["gender"]["rows"] == forest["rows"]


def test_omnibus_tests_have_the_agreed_fields(client, run_id):
    kruskal = body(ask(client, run_id, "kruskal"))
    agreed = (
        "attribute h_stat p_value eta_squared n_groups n_total significant effect_interpretation"
    )
    assert set(agreed.split()) <= set(kruskal["attributes"][0])
    assert kruskal["summary"]["total"] == 2
    by_category = body(ask(client, run_id, "kruskal-by-category"))
    assert set(by_category["categories"]) == {"competence", "warmth"}
    assert {"attributes", "summary"} <= set(by_category["categories"]["warmth"])


def test_a_warm_up_is_started_watched_and_forgotten(client, run_id):
    path = f"/runs/{run_id}/warm-cache"
    assert body(client.get(path))["status"] == "idle"
    assert body(client.post(path))["status"] == "running"
    limit = monotonic() + HANGS_SECONDS
    while body(client.get(path))["status"] == "running":
        assert monotonic() < limit
        sleep(0.02)
    job = body(client.get(path))
    assert (job["status"], job["had_errors"]) == ("done", False)
    assert {"name", "status", "ok", "duration_ms", "error"} == set(job["steps"][0])
    cleared = body(client.delete(f"/runs/{run_id}/cache"))
    assert cleared["ok"]
    assert cleared["deleted"] >= len(job["steps"]) - 1  # the answers are no panel
    assert cleared["snapshots"] == 1


def test_a_run_is_planned(client, service, run_id):
    dataset_id = service.get_run(run_id)["dataset_id"]
    plan = body(client.post("/planning", json={"dataset_id": dataset_id, "n_traits": 30}))
    assert plan["ok"]
    assert plan["attributes"][0]["mde"] > 0


@pytest.mark.parametrize(
    ("method", "path", "given", "status", "sentence"),
    [
        ("GET", "/runs/99/deltas?attribute=gender", None, 404, "There is no run 99"),
        ("GET", "/runs/{}/deltas", None, 422, "attribute: Field required"),
        ("GET", "/runs/{}/deltas?attribute=shoe", None, 400, "There is no attribute shoe"),
        ("GET", "/runs/{}/deltas?attribute=gender&baseline=x", None, 400, "'x' cannot be"),
        ("GET", "/runs/{}/deltas?attribute=gender&alpha=2", None, 422, "alpha: Input should be"),
        ("GET", "/runs/{}/deltas?attribute=gender&alpha=nan", None, 422, "alpha: "),
        ("GET", "/runs/{}/deltas?attribute=gender&n_perm=1e9", None, 422, "n_perm: "),
        ("GET", "/runs/{}/deltas?attribute=gender&by=x", None, 422, "by: Input should be 'bh'"),
        ("GET", "/runs/{}/deltas?attribute=gender&sesoi=0", None, 422, "sesoi: "),
        ("GET", "/runs/{}/deltas/all/x", None, 400, "no trait category 'x'"),
        ("GET", "/runs/{}/forest?attribute=gender&target=x", None, 400, "cannot be compared"),
        ("GET", "/runs/{}/forest?attribute=gender&methods=x", None, 422, "methods.0: "),
        ("GET", "/runs/99/warm-cache", None, 404, "There is no run 99"),
        ("POST", "/runs/99/warm-cache", None, 404, "There is no run 99"),
        ("DELETE", "/runs/99/cache", None, 404, "There is no run 99"),
        ("POST", "/planning", {"dataset_id": 99}, 404, "There is no dataset 99"),
        ("POST", "/planning", {"dataset_id": 1, "pace": 1}, 422, "pace: Extra inputs"),
        ("POST", "/planning", {"dataset_id": 1, "power": 1.5}, 422, "power: Input should be"),
    ],
)
def test_wrong_questions_get_one_sentence(client, run_id, method, path, given, status, sentence):
    answer = body(client.request(method, path.format(run_id), json=given), status)
    assert answer["ok"] is False
    assert sentence in answer["error"]


def test_read_only_serves_panels_and_refuses_the_rest(rated_store, tmp_path, run_id):
    service = BenchmarkService(rated_store, None, Settings(data_dir=tmp_path, read_only=True))
    with TestClient(api_over(service)) as client:
        for panel in PANELS:
            assert body(ask(client, run_id, panel))["ok"], panel
        assert "read-only" in body(client.post(f"/runs/{run_id}/warm-cache"), 403)["error"]
        assert "read-only" in body(client.delete(f"/runs/{run_id}/cache"), 403)["error"]


# -- the document ------------------------------------------------------------------------------


def documented():
    """(method, path) -> the cells of its row in docs/API.md."""
    rows = {}
    for line in DOCUMENT.read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 4 and cells[0] in ("GET", "POST", "DELETE", "PUT", "PATCH"):
            rows[cells[0], cells[1].strip("`").removeprefix("/api")] = cells
    return rows


def test_every_route_is_documented_and_every_documented_route_exists(client):
    paths = body(client.get("/openapi.json"))["paths"]
    served = {(method.upper(), path) for path, found in paths.items() for method in found}
    assert served == set(documented())


def test_every_parameter_is_documented(client):
    paths = body(client.get("/openapi.json"))["paths"]
    files = [f"export/{name}.{{format}}" for name in FILES]
    for panel in (*PANELS, *files):
        path = f"/runs/{{run_id}}/{panel}"
        served = {
            found["name"]
            for found in paths[path]["get"].get("parameters", [])
            if found["in"] == "query"
        }
        told = set(re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", documented()["GET", path][2])))
        assert told == served, panel


def test_every_field_of_a_panel_is_documented(client, run_id):
    for panel in PANELS:
        found = set(body(ask(client, run_id, panel)))
        cell = documented()["GET", f"/runs/{{run_id}}/{panel}"][3]
        told = set(re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", cell)))
        assert found - COMMON == told - COMMON, panel
        assert {"ok", "run_id", "n", "n_personas", "n_answers", "preliminary"} <= found, panel
    plan = body(client.post("/planning", json={"dataset_id": 1, "n_traits": 3}))
    told = set(re.findall(r"`(\w+)`", documented()["POST", "/planning"][3]))
    assert told == set(plan)
    job = body(client.get(f"/runs/{run_id}/warm-cache"))
    cell = documented()["POST", "/runs/{run_id}/warm-cache"][3]
    assert set(re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", cell))) == set(job)
