from dataclasses import replace

import pytest

from benchlib.domain.analysis.comparison import compute_delta_differences
from benchlib.domain.analysis.level_differences import compute_level_differences
from benchlib.domain.simulation.planted import PlantedDesign
from benchlib.presentation.exports import files
from benchlib.presentation.figures.comparison import delta_differences_figure, levels_figure
from tests.domain.frames import shared_runs
from tests.presentation.analysis_data import HOSTILE, PROVENANCE


@pytest.fixture(scope="module")
def shared():
    design = PlantedDesign(n_personas=60)
    return shared_runs({seed: design.simulate(seed) for seed in (1, 2, 3)}, "group")


def words(figure):
    return [text for trace in figure.data if trace.mode == "text" for text in trace.text]


def test_levels_show_every_run_and_panel(shared):
    levels = compute_level_differences(shared, sesoi=0.3)
    rows = levels["rows"]
    figure = levels_figure(levels)
    (dots,) = [trace for trace in figure.data if trace.name == "delta"]
    assert list(dots.x) == [row["difference"] for row in rows]
    assert [high + x for high, x in zip(dots.error_x.array, dots.x, strict=True)] == pytest.approx(
        [row["ci_high"] for row in rows]
    )
    assert figure.layout.yaxis.ticktext[0] == "all traits, run 2 (n = 60)"
    assert "run minus run 1" in figure.layout.xaxis.title.text
    assert figure.layout.title.text == "Differences in level, against run 1"
    (band,) = [shape for shape in figure.layout.shapes if shape.name == "sesoi"]
    assert (band.x0, band.x1) == (-0.3, 0.3)


def test_words_follow_the_correction(shared):
    table = compute_delta_differences(shared, baselines={"group": "a"})["group"]
    row = {**table["rows"][0], "q_value": 0.01, "q_by": 0.08, "significant": True}
    row["verdict"] = "biased"
    marked = {**table, "rows": [row]}
    assert words(delta_differences_figure(marked)) == ["<b>differs</b>, q = .010"]
    assert words(delta_differences_figure(marked, "by")) == ["<b>differs</b>, q = .080"]
    quiet = {**row, "significant": False, "verdict": "inconclusive"}
    figure = delta_differences_figure({**table, "rows": [quiet]})
    assert words(figure) == ["<b>too close to call</b>, q = .010"]
    assert figure.data[0].marker.symbol == ("circle-open",)
    same = {**row, "status": "zero_variance", "q_value": None, "verdict": None}
    assert words(delta_differences_figure({**table, "rows": [same]})) == [
        "no variance, no interval"
    ]


def test_names_of_categories_are_shown_literally(shared):
    table = compute_delta_differences(shared)["group"]
    rows = [{**table["rows"][0], "category": HOSTILE}]
    figure = delta_differences_figure(
        {**table, "attribute": HOSTILE, "baseline": HOSTILE, "rows": rows}
    )
    assert "<a" not in figure.to_json()
    assert "<img" not in figure.to_json()


def test_nothing_to_compare_is_said_in_the_figure(shared):
    table = compute_delta_differences(shared)["group"]
    levels = {**compute_level_differences(shared), "rows": []}
    for figure in (levels_figure(levels), delta_differences_figure({**table, "rows": []})):
        assert not figure.data
        assert "shared ratings" in figure.layout.annotations[0].text


def test_files_name_every_run():
    other = replace(PROVENANCE, run_id=7, model_name="other", manifest_hash="ffff" * 16)
    compared = replace(PROVENANCE, compared=(other,))
    assert compared.fields()["run_id"] == "3 / 7"
    assert compared.fields()["model"] == "SmolLM2-135M-Instruct / other"
    sentence = compared.sentence()
    assert sentence.startswith("Run 3 · SmolLM2-135M-Instruct (revision abc123) · Run 7 · other")
    assert "manifest 1a2b3c4d5e6f / ffffffffffff" in sentence
    assert sentence.count("Sample: factorial") == 1
    assert files.file_name(compared, "levels", "csv") == "run-3-7-levels-simulated-1a2b3c4d.csv"
    content = files.export_table([{"run_id": 7, "difference": None}], "csv", compared)
    assert "3 / 7" in content.decode("utf-8-sig")
