"""Panels leave the API as files that can be read again and say where they come from."""

import csv
import io
import json
import re

import pyarrow.parquet as pq
import pytest

from benchlib.application.analysis import group_panels
from benchlib.presentation.exports import figure_formats, files, pictures
from benchlib.presentation.exports.formats import FORMATS
from benchlib.presentation.provenance import provenance_of
from tests.requirements import require

PANELS = ("metrics", "means", "deltas", "forest", "omnibus", "order")
WITHOUT_BROWSER = [
    name for name, one in FORMATS.items() if not getattr(one, "needs_browser", False)
]


@pytest.fixture(scope="module")
def service(rated_service):
    return rated_service


@pytest.fixture(scope="module")
def run_id(rated_store):
    return 1


def ask(client, run_id, file, **given):
    if file.split(".")[0] in ("means", "deltas", "forest"):
        given = {"attribute": "gender", **given}
    return client.get(f"/runs/{run_id}/export/{file}", params=given)


def rows_of(service, run_id, panel):
    return {
        "metrics": lambda: [
            {"rating": point, "count": count, "share": share}
            for point, count, share in zip(
                *(service.get_metrics(run_id)["hist"][key] for key in ("bins", "counts", "shares")),
                strict=True,
            )
        ],
        "means": lambda: service.get_means(run_id, "gender")["rows"],
        "deltas": lambda: service.get_deltas(run_id, "gender")["rows"],
        "forest": lambda: service.get_forest(run_id, "gender")["rows"],
        "omnibus": lambda: service.analysis.get_panel(group_panels.omnibus, run_id)["attributes"],
        "order": lambda: service.get_order_metrics(run_id)["by_case"],
    }[panel]()


@pytest.mark.parametrize("panel", PANELS)
def test_tables_come_back_as_the_service_gave_them(client, service, run_id, panel):
    expected = rows_of(service, run_id, panel)
    assert expected
    parquet = ask(client, run_id, f"{panel}.parquet")
    assert parquet.status_code == 200, parquet.text
    table = pq.read_table(io.BytesIO(parquet.content))
    assert table.to_pylist() == expected
    told = json.loads(table.schema.metadata[b"benchlib"])
    assert told["run_id"] == str(run_id)
    rows = list(csv.DictReader(io.StringIO(ask(client, run_id, f"{panel}.csv").text)))
    assert len(rows) == len(expected)
    assert set(rows[0]) == set(expected[0]) | {f"benchlib_{name}" for name in told}
    for row, wanted in zip(rows, expected, strict=True):
        for name, value in wanted.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                assert float(row[name]) == value
            elif value is None:
                assert row[name] == ""


@pytest.mark.parametrize("panel", PANELS)
@pytest.mark.parametrize("kind", WITHOUT_BROWSER)
def test_every_file_has_a_type_and_a_name_and_is_saved(client, service, run_id, panel, kind):
    answer = ask(client, run_id, f"{panel}.{kind}")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].split(";")[0] == FORMATS[kind].media_type
    assert answer.headers["x-content-type-options"] == "nosniff"
    said = answer.headers["content-disposition"]
    assert re.fullmatch(
        rf'attachment; filename="run-{run_id}-{panel}[a-z0-9-]*\.{FORMATS[kind].extension}"', said
    )
    if kind != "parquet":
        assert service.get_run(run_id)["model_name"] in answer.text


def test_a_file_of_tests_names_model_manifest_correction_and_simulation(client, service, run_id):
    (first, *_) = csv.DictReader(io.StringIO(ask(client, run_id, "deltas.csv").text))
    run = service.get_run(run_id)
    expected = provenance_of(run, service.get_deltas(run_id, "gender")).fields()
    assert {name: first[f"benchlib_{name}"] for name in expected} == expected
    assert expected["correction"].startswith("q: Benjamini–Hochberg over")
    assert (expected["data"] == "simulated") == run["simulated"]


def test_parameters_reach_the_analysis(client, service, run_id):
    answer = ask(
        client, run_id, "forest.parquet", attribute="origin", baseline="s", target=["n"], by="by"
    )
    found = pq.read_table(io.BytesIO(answer.content))
    assert found.to_pylist() == service.get_forest(run_id, "origin", "s", ["n"], by="by")["rows"]
    assert "Yekutieli" in json.loads(found.schema.metadata[b"benchlib"])["correction"]
    means = ask(client, run_id, "means.parquet", top_n=1, trait_category="warmth")
    expected = service.get_means(run_id, "gender", top_n=1, trait_category="warmth")["rows"]
    assert pq.read_table(io.BytesIO(means.content)).to_pylist() == expected
    dark = ask(client, run_id, "deltas.html", theme="dark").text
    assert files.PAPER["dark"] in dark
    narrow = ask(client, run_id, "forest.html", compact=True, sort="name")
    assert narrow.status_code == 200


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("/runs/99/export/deltas.csv?attribute=gender", 404, "There is no run 99"),
        ("/runs/{}/export/deltas.csv", 422, "attribute: Field required"),
        ("/runs/{}/export/means.csv?attribute=shoe", 400, "There is no attribute shoe"),
        ("/runs/{}/export/deltas.xlsx?attribute=gender", 422, "format: Input should be 'svg'"),
        ("/runs/{}/export/metrics.html?theme=pink", 422, "theme: Input should be 'light'"),
        ("/runs/{}/export/shoes.csv", 404, "There is no /runs/"),
    ],
)
def test_wrong_questions_get_one_sentence(client, run_id, path, status, sentence):
    answer = client.get(path.format(run_id))
    assert answer.status_code == status, answer.text
    assert answer.json()["ok"] is False
    assert sentence in answer.json()["error"]


@pytest.mark.parametrize("kind", [name for name in FORMATS if name not in WITHOUT_BROWSER])
def test_without_chromium_pictures_are_refused_with_what_to_do(client, run_id, monkeypatch, kind):
    monkeypatch.setattr(pictures, "pictures_work", lambda: False)
    monkeypatch.setattr(figure_formats, "RENDERER", pictures.Renderer())
    answer = ask(client, run_id, f"deltas.{kind}")
    assert answer.status_code == 503
    assert answer.json()["ok"] is False
    assert "need Chrome or Chromium" in answer.json()["error"]
    assert ask(client, run_id, "deltas.html").status_code == 200


@pytest.mark.browser
@pytest.mark.parametrize("panel", PANELS)
def test_pictures_carry_the_run(client, run_id, panel):
    require(pictures.pictures_work(), "Chromium")
    svg = ask(client, run_id, f"{panel}.svg")
    assert svg.headers["content-type"].startswith("image/svg+xml")
    assert svg.text.startswith("<svg")
    assert f"Run {run_id}" in svg.text
    assert "&quot;run_id&quot;" in svg.text


@pytest.mark.browser
@pytest.mark.parametrize(("kind", "start"), [("pdf", b"%PDF"), ("png", b"\x89PNG")])
def test_pictures_have_their_format(client, run_id, kind, start):
    require(pictures.pictures_work(), "Chromium")
    assert ask(client, run_id, f"order.{kind}").content.startswith(start)
