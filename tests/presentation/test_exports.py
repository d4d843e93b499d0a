"""Files that leave the dashboard can be read again, say where they come from, and run nothing."""

import csv
import io
import json
import threading
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from benchlib.domain.errors import InvalidInput
from benchlib.presentation.exports import files, pictures
from benchlib.presentation.exports.table_formats import escape_latex
from benchlib.presentation.figures import deltas, forest, notes
from benchlib.presentation.provenance import manifest_hash
from tests.presentation import analysis_data as data
from tests.presentation.analysis_data import HOSTILE, MEASURED, PROVENANCE
from tests.requirements import require

ROWS = [
    {"category": "=HYPERLINK(1)", "delta": -0.25, "n": 3, "significant": True, "q": None},
    {"category": "50 % & more_", "delta": 0.5, "n": 4, "significant": False, "q": 0.01},
]


def read_csv(content):
    return list(csv.DictReader(io.StringIO(content.decode())))


def test_csv_comes_back_with_its_provenance_on_every_row():
    first, second = read_csv(files.export_table(ROWS, "csv", PROVENANCE))
    assert (first["delta"], first["n"], first["q"]) == ("-0.25", "3", "")
    assert second["category"] == "50 % & more_"
    assert first["benchlib_run_id"] == "3"
    assert first["benchlib_model"] == "SmolLM2-135M-Instruct"
    assert first["benchlib_manifest_hash"] == PROVENANCE.manifest_hash
    assert first["benchlib_correction"].startswith("q: Benjamini–Hochberg")
    assert first["benchlib_data"] == "simulated"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_no_text_in_a_csv_is_a_formula(start):
    strange = replace(PROVENANCE, model_name=start + "cmd")
    (row,) = read_csv(files.export_table([{start + "x": start + "1"}], "csv", strange))
    assert all(value[:1] not in "=+@\t\r\n＝＋－＠" or not value for value in row.values())
    assert all(name[:1] not in "=+-@\t\r" for name in row)
    assert row["benchlib_model"].startswith("'")


def test_an_empty_table_keeps_its_columns():
    content = files.export_table([], "csv", PROVENANCE, columns=["category", "delta"])
    assert content.decode().startswith("category,delta,benchlib_run_id")
    table = pq.read_table(
        io.BytesIO(files.export_table([], "parquet", PROVENANCE, columns=["category"]))
    )
    assert table.num_rows == 0


def test_parquet_keeps_types_nulls_and_provenance():
    table = pq.read_table(io.BytesIO(files.export_table(ROWS, "parquet", PROVENANCE)))
    assert table.to_pylist() == ROWS
    metadata = json.loads(table.schema.metadata[b"benchlib"])
    assert metadata == PROVENANCE.fields()


def test_parquet_takes_mixed_and_nested_values_as_text():
    rows = [{"x": 1, "y": [1, 2]}, {"x": "a", "y": None}]
    table = pq.read_table(io.BytesIO(files.export_table(rows, "parquet", PROVENANCE)))
    assert table.to_pylist() == [{"x": "1", "y": "[1, 2]"}, {"x": "a", "y": None}]


def test_latex_is_escaped_and_notes_its_source():
    text = files.export_table(ROWS, "latex", PROVENANCE, title="Deltas_1").decode()
    assert r"50 \% \& more\_" in text
    assert r"\caption{Deltas\_1}" in text
    assert r"$-0.250$" in text
    assert r"\begin{tabular}{lrrlr}" in text
    assert "SIMULATED DATA" in text
    assert "% manifest_hash: 1a2b3c" in text


def test_latex_has_the_columns_of_a_paper_and_no_p_of_zero():
    text = files.export_table(data.deltas()["rows"], "latex", PROVENANCE, title="Deltas").decode()
    (head,) = [line for line in text.splitlines() if line.startswith("category & ")]
    assert head == (
        r"category & n base & n cat & mean & delta & ci low & ci high & p value & q value & "
        r"cliffs delta & verdict \\"
    )
    row = {"label": "kind", "n": 9, "delta": 0.0004, "p_value": 0.0004, "q_value": 0.02}
    text = files.export_table([row], "latex", PROVENANCE).decode()
    assert r"kind & 9 & 0.000 & $<0.001$ & 0.020 \\" in text


@pytest.mark.parametrize("name", ["csv", "parquet", "latex"])
def test_verdicts_are_written_in_words(name):
    rows = [{"verdict": verdict} for verdict in ("biased", "negligible", "inconclusive", None)]
    content = files.export_table(rows, name, PROVENANCE)
    if name == "parquet":
        found = pq.read_table(io.BytesIO(content)).column("verdict").to_pylist()
        assert found == ["differs", "differs, but below the margin", "too close to call", None]
        return
    for word in (b"differs", b"differs, but below the margin", b"too close to call"):
        assert word in content
    for code in (b"biased", b"negligib", b"inconclusive"):
        assert code not in content


def test_latex_of_hostile_text_holds_no_command():
    text = escape_latex(r"\input{/etc/passwd} $x$ #1 ~^")
    assert r"\input" not in text
    assert text.startswith(r"\textbackslash{}input\{")
    assert escape_latex("[-9cm]*") == "{[}-9cm]{*}"
    strange = replace(PROVENANCE, model_name="a\n\\end{table}")
    body = files.export_table(ROWS, "latex", strange).decode()
    assert all(line.startswith("%") for line in body.splitlines() if r"\end{table}" in line[2:])


def test_unknown_formats_are_refused():
    with pytest.raises(InvalidInput, match="svg"):
        files.export_figure(deltas.deltas_figure(data.deltas()), "gif", PROVENANCE)
    with pytest.raises(InvalidInput, match="csv"):
        files.export_table(ROWS, "xls", PROVENANCE)


def test_html_works_offline_and_names_the_run():
    page = files.export_figure(deltas.deltas_figure(data.deltas()), "html", PROVENANCE).decode()
    assert '<meta name="benchlib:run_id" content="3">' in page
    assert "<title>benchlib run 3</title>" in page
    assert "cdn.plot.ly" not in page.split("<script", 1)[0]
    assert "SIMULATED DATA" in page


def test_html_of_hostile_names_holds_no_markup():
    strange = replace(PROVENANCE, model_name=HOSTILE + '"</script><script>alert(1)</script>')
    page = files.export_figure(deltas.deltas_figure(data.deltas()), "html", strange).decode()
    assert "<img src=x" not in page
    assert "<script>alert(1)" not in page


def test_an_exported_figure_is_captioned_once_and_the_original_stays():
    figure = deltas.deltas_figure(data.deltas())
    before = figure.to_json()
    ready = files._ready(figure, PROVENANCE, "light")
    assert figure.to_json() == before
    named = [note.name for note in ready.layout.annotations]
    assert named.count(notes.CAPTION) == 1
    assert notes.is_marked(ready)
    captioned = files._ready(forest.forest_figure(data.forest(), PROVENANCE), PROVENANCE, "dark")
    assert [note.name for note in captioned.layout.annotations].count(notes.CAPTION) == 1
    assert captioned.layout.title.subtitle.text.count("SIMULATED") == 1


def test_file_names_lead_back_to_the_run():
    assert (
        files.file_name(PROVENANCE, "Deltas: gender/../x", "csv")
        == "run-3-deltas-gender-x-simulated-1a2b3c4d.csv"
    )
    assert "simulated" not in files.file_name(MEASURED, "deltas", "csv")


def test_the_manifest_hash_survives_a_resume():
    manifest = {
        "engine": {"model_name": "m", "model_revision": "r", "addresses": ["a"]},
        "seed": 1,
        "executions": [1],
    }
    moved = {**manifest, "engine": {**manifest["engine"], "addresses": ["b"]}, "executions": [1, 2]}
    assert manifest_hash(manifest) == manifest_hash(moved)
    assert manifest_hash(manifest) != manifest_hash({**manifest, "seed": 2})
    assert manifest_hash({}) is None


def test_without_chromium_pictures_say_what_to_do_and_html_still_works(monkeypatch):
    monkeypatch.setattr(pictures, "pictures_work", lambda: False)
    figure = deltas.deltas_figure(data.deltas())
    renderer = pictures.Renderer()
    with pytest.raises(pictures.NoPictures, match="need Chrome or Chromium"):
        renderer.draw(figure, {"format": "svg"})
    assert files.export_figure(figure, "html", PROVENANCE)


@pytest.mark.browser
def test_pictures_carry_their_provenance():
    require(pictures.pictures_work(), "Chromium")
    figure = forest.forest_figure(data.forest(), PROVENANCE)
    svg = files.export_figure(figure, "svg", PROVENANCE).decode()
    assert svg.startswith("<svg")
    assert "<metadata>" in svg
    assert "Run 3" in svg
    assert files.export_figure(figure, "pdf", PROVENANCE).startswith(b"%PDF")


@pytest.mark.browser
def test_many_threads_share_one_browser():
    require(pictures.pictures_work(), "Chromium")
    figure = deltas.deltas_figure(data.deltas())
    drawn = []

    def draw(theme):
        drawn.append(files.export_figure(figure, "png", PROVENANCE, theme=theme, scale=1))

    threads = [threading.Thread(target=draw, args=(t,)) for t in ("light", "dark", "light")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(drawn) == 3
    assert len(set(drawn)) == 2


@pytest.mark.browser
def test_a_browser_that_died_is_started_anew():
    require(pictures.pictures_work(), "Chromium")
    renderer = pictures.Renderer()
    figure = deltas.deltas_figure(data.deltas())
    options = {"format": "png", "width": 300, "height": 200}
    try:
        first = renderer.draw(figure, options)
        renderer._kaleido.subprocess.kill()
        renderer._kaleido.subprocess.wait()
        assert renderer.draw(figure, options)[:4] == first[:4]
    finally:
        renderer.close()
