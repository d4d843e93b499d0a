"""Comparisons and what runs are made of, as JSON."""

import pytest

from tests.rated_runs import add_rated_run, people


@pytest.fixture
def run_id(store):
    return add_rated_run(
        store, lambda i, t, order: 1 + (i * 3 + t) % 5, personas=people(12, gender=("f", "m"))
    )


def body(answer, status=200):
    assert answer.headers["content-type"] == "application/json"
    assert answer.status_code == status, answer.text
    return answer.json()


def test_datasets_are_listed_and_described(client, run_id):
    (listed,) = body(client.get("/datasets"))
    assert (listed["name"], listed["kind"], listed["n_personas"]) == ("rated", "imported", 12)
    assert listed["created_at"].endswith("+00:00")
    assert body(client.get("/datasets/1")) == listed
    composition = body(client.get("/datasets/1/composition"))
    assert composition["n_personas"] == 12
    assert [value["count"] for value in composition["attributes"][0]["categories"]] == [6, 6]
    page = body(client.get("/datasets/1/personas?offset=10&limit=5"))
    assert page["total"] == 12
    assert [one["attributes"] for one in page["personas"]] == [{"gender": "f"}, {"gender": "m"}]
    assert [run["id"] for run in body(client.get("/datasets/1/runs"))] == [run_id]


@pytest.mark.parametrize("path", ["", "/composition", "/personas", "/runs"])
def test_a_dataset_that_does_not_exist_is_404(client, run_id, path):
    answer = body(client.get(f"/datasets/9{path}"), 404)
    assert answer == {"ok": False, "error": "There is no dataset 9; pick one from the list."}


def test_traits_and_their_categories(client, run_id):
    found = body(client.get("/traits?active_only=true"))
    assert [trait["valence"] for trait in found] == [1, 1, -1, -1]
    assert found[0]["adjective"] == {"en": "trait0", "de": "merkmal0"}
    assert body(client.get("/traits/categories")) == ["competence", "warmth"]


def test_comparing_refuses_in_one_sentence(client, run_id):
    for path in ("metrics", "order-metrics", "deltas"):
        answer = body(client.post(f"/runs/compare/{path}", json={"run_ids": [run_id]}), 400)
        assert answer["error"] == "Compare 2 to 8 runs; 1 were named."
        body(client.post(f"/runs/compare/{path}", json={"run_ids": [run_id, 77]}), 404)
        given = {"run_ids": [run_id, 2], "runs": 3}
        assert "runs" in body(client.post(f"/runs/compare/{path}", json=given), 422)["error"]


def test_comparisons_are_those_of_the_service(client, service, store, run_id):
    config = service.get_run(run_id)["config"]
    command = {"dataset_id": config["dataset_id"], "llm": "simulated"}
    # a queued run has no answers, so nothing is shared yet
    other = body(client.post("/benchmarks/start", json=command))["run_id"]
    answer = body(client.post("/runs/compare/metrics", json={"run_ids": [run_id, other]}), 400)
    assert "No question was rated in all" in answer["error"]
    order = body(client.post("/runs/compare/order-metrics", json={"run_ids": [run_id, other]}))
    assert [run["n_pairs"] for run in order["runs"]] == [0, 0]
    assert order["preliminary"] is True
