"""The API of a dashboard that only shows: every route that reads answers, every write is refused.

Routes come from the API's own description, so that new ones are held to this, too.
"""

import pytest
from starlette.testclient import TestClient

from benchlib.application.benchmark_service import BenchmarkService
from benchlib.presentation.exports.formats import FIGURE_FORMATS
from benchlib.settings import Settings
from tests.apis import api_over, api_paths
from tests.rated_runs import add_run_like

GIVEN = {
    "run_id": 1,
    "dataset_id": 1,
    "trait_category": "all",
    "attribute": "gender",
}
READING_POSTS = {
    "/planning": {"dataset_id": 1},
    "/runs/compare/metrics": {"run_ids": [1, 2]},
    "/runs/compare/order-metrics": {"run_ids": [1, 2]},
    "/runs/compare/deltas": {"run_ids": [1, 2]},
}
"""What asks with a body, and only computes."""

BODIES = {"/benchmarks/start": {"dataset_id": 1, "llm": "simulated"}}
# These need a browser; the same data can be had as a table.
DRAWN = [one.name for one in FIGURE_FORMATS.values() if one.needs_browser]

ROUTES = [
    (method.upper(), path, described)
    for path, found in api_paths().items()
    for method, described in found.items()
]
READS = [(path, described) for method, path, described in ROUTES if method == "GET"]
OTHERS = [(method, path) for method, path, _ in ROUTES if method != "GET"]


@pytest.fixture(scope="module")
def client(rated_store, tmp_path_factory):
    add_run_like(rated_store, 1, lambda i, t, order: 1 + (i + t) % 5)
    settings = Settings(data_dir=tmp_path_factory.mktemp("read-only"), read_only=True)
    service = BenchmarkService(rated_store, None, settings)
    with TestClient(api_over(service), raise_server_exceptions=False) as opened:
        opened.content = lambda: _content(rated_store)
        yield opened


def _content(store):
    with store.read() as session:
        return list(session.connection().connection.driver_connection.iterdump())


@pytest.mark.parametrize(("path", "described"), READS, ids=[path for path, _ in READS])
def test_every_route_that_reads_answers(client, path, described):
    formats = [None]
    query = {}
    for parameter in described.get("parameters", ()):
        if parameter["name"] == "format":
            formats = [one for one in parameter["schema"]["enum"] if one not in DRAWN]
        elif parameter["in"] == "query" and parameter["required"]:
            query[parameter["name"]] = GIVEN[parameter["name"]]
    before = client.content()
    for file_format in formats:
        answer = client.get(path.format(**GIVEN, format=file_format), params=query)
        assert answer.status_code == 200, answer.text
        assert answer.content
    assert client.content() == before


@pytest.mark.parametrize(("method", "path"), OTHERS)
def test_every_write_is_refused(client, method, path):
    before = client.content()
    body = BODIES.get(path) or READING_POSTS.get(path)
    answer = client.request(method, path.format(**GIVEN), json=body)
    if path in READING_POSTS:
        assert answer.status_code == 200, answer.text
    else:
        assert answer.status_code == 403, answer.text
        assert "read-only" in answer.json()["error"]
    assert client.content() == before
