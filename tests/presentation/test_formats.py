"""The registry of export formats: what reads it, and what adding a format takes."""

import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from benchlib.application.benchmark_service import BenchmarkService
from benchlib.presentation.exports.formats import (
    FIGURE_FORMATS,
    FORMATS,
    TABLE_FORMATS,
    TableFormat,
)
from benchlib.settings import Settings
from tests.apis import api_over
from tests.rated_runs import add_rated_run, people

API_DOCS = Path(__file__).parents[2] / "docs" / "API.md"


def write_markdown(table):
    """A whole new format, as a newcomer would write it."""
    lines = [table.columns, ["---"] * len(table.columns)]
    lines += [[str(row[name]) for name in table.columns] for row in table.rows]
    return "\n".join(" | ".join(cells) for cells in lines).encode()


@pytest.fixture
def client(store, tmp_path):
    service = BenchmarkService(store, None, Settings(data_dir=tmp_path))
    with TestClient(api_over(service)) as opened:
        yield opened


def test_the_documentation_lists_every_format():
    files = API_DOCS.read_text().split("## Files")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (figure|table), `\.(\w+)` \| (\S+) \|", files, re.MULTILINE)
    assert rows == [
        (name, kind, one.extension, one.media_type)
        for kind, formats in (("figure", FIGURE_FORMATS), ("table", TABLE_FORMATS))
        for name, one in formats.items()
    ]


def test_names_and_extensions_are_unique():
    assert len(FORMATS) == len(FIGURE_FORMATS) + len(TABLE_FORMATS)
    assert len({one.extension for one in FORMATS.values()}) == len(FORMATS)


def test_the_api_describes_every_format(client):
    for path, routes in client.get("/openapi.json").json()["paths"].items():
        if "/export/" in path:
            (parameter,) = (one for one in routes["get"]["parameters"] if one["name"] == "format")
            assert parameter["schema"]["enum"] == list(FORMATS)
            assert set(routes["get"]["responses"]["200"]["content"]) == {
                one.media_type for one in FORMATS.values()
            }


def test_a_new_format_is_one_entry_and_its_writer(client, store, monkeypatch):
    run_id = add_rated_run(store, lambda i, t, order: 3, personas=people(4, gender=("f", "m")))
    markdown = TableFormat("markdown", "Markdown", "text/markdown", write_markdown, "md")
    monkeypatch.setitem(TABLE_FORMATS, "markdown", markdown)
    monkeypatch.setitem(FORMATS, "markdown", markdown)
    answer = client.get(f"/runs/{run_id}/export/metrics.markdown")
    assert answer.headers["content-type"].startswith("text/markdown")
    assert answer.headers["content-disposition"].endswith('.md"')
    assert answer.text.splitlines()[:2] == ["rating | count | share", "--- | --- | ---"]
