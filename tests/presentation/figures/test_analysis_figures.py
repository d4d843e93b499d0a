"""Figures of the analysis hold the numbers they were given, and show them in both themes."""

import json

import plotly.graph_objects as go
import pytest

from benchlib.presentation import numbers, provenance
from benchlib.presentation.exports import files, pictures
from benchlib.presentation.figures import (
    deltas,
    distributions,
    forest,
    forest_lines,
    notes,
    omnibus,
    order_effects,
)
from benchlib.presentation.figures.theme import SMALL_SIZE, text_width
from tests.presentation import analysis_data as data
from tests.presentation.analysis_data import HOSTILE, MEASURED, PROVENANCE
from tests.requirements import require


def draw(**changes):
    return forest.forest_figure(
        changes.pop("forest", data.forest()), changes.pop("provenance", PROVENANCE), **changes
    )


def trace(figure, name):
    (found,) = [trace for trace in figure.data if trace.name == name]
    return found


def rows(target="b"):
    return [row for row in data.forest()["rows"] if row["category"] == target]


def caption(figure):
    (note,) = [note for note in figure.layout.annotations if note.name == notes.CAPTION]
    return note.text.replace("<br>", " ")


def texts(figure):
    return json.dumps(json.loads(figure.to_json()), ensure_ascii=False)


# -- forest ---------------------------------------------------------------------------------------


def test_every_trait_has_a_square_at_its_delta_with_its_id():
    squares = trace(draw(target="b"), "trait")
    by_id = dict(zip(squares.customdata, squares.x, strict=True))
    assert by_id == {row["trait_id"]: row["delta"] for row in rows()}
    assert squares.marker.sizemode == "area"
    assert set(squares.marker.size) == {100 / 8}


def test_filled_squares_are_significant_after_correction():
    squares = trace(draw(target="b"), "trait")
    symbols = dict(zip(squares.customdata, squares.marker.symbol, strict=True))
    for row in rows():
        assert symbols[row["trait_id"]] == ("square" if row["significant"] else "square-open")
    assert len({*symbols.values()}) == 2


def test_text_columns_show_the_numbers_of_the_square():
    figure = draw(target="b", sort="name")
    first = min(rows(), key=lambda row: row["label"])
    at = list(trace(figure, "Trait").customdata).index(first["trait_id"])
    assert trace(figure, "Trait").text[at] == first["label"]
    assert trace(figure, "Personas").text[at] == f"{first['n_cat']} / {first['n_base']}"
    assert trace(figure, "Delta").text[at].startswith(numbers.signed(first["delta"]))
    assert trace(figure, "q").text[at] == numbers.probability(first["q_value"])
    assert trace(figure, "weight").text[at] == "12.5"
    squares = trace(figure, "trait")
    assert squares.y[list(squares.customdata).index(first["trait_id"])] == at


def test_diamonds_stand_at_pooled_effects_of_both_kinds():
    figure = draw(target="b")
    overall = data.forest()["overall"]
    for name, pooled in (
        ("pooled over these traits", overall),
        ("generalised to similar traits", overall["population"]),
    ):
        diamonds = trace(figure, name)
        assert diamonds.fill == "toself"
        last = diamonds.x[-6:]  # overall comes last
        assert last[0] == pytest.approx(pooled["ci_low"])
        assert last[1] == pytest.approx(pooled["mean"])
        assert last[2] == pytest.approx(pooled["ci_high"])
        assert len(diamonds.x) == 6 * 3  # two trait categories and overall
    bar = trace(figure, "prediction interval")
    assert bar.x[-3] == pytest.approx(overall["population"]["pi_low"])


def test_the_axis_is_symmetric_and_says_which_way_is_which():
    figure = draw(target="b")
    low, high = figure.layout.xaxis2.range
    assert low == -high
    assert "scale points, group minus baseline" in figure.layout.xaxis2.title.text
    assert "◀ lower than baseline | higher ▶" in figure.layout.xaxis2.title.text
    band, null = sorted(figure.layout.shapes, key=lambda shape: shape.name, reverse=True)
    assert (band.x0, band.x1) == (-0.1, 0.1)
    assert (null.x0, null.line.dash) == (0, None)


def test_a_far_interval_is_cut_with_an_arrow():
    wide = [{**row, "ci_low": -30.0} if i == 0 else row for i, row in enumerate(rows())]
    figure = draw(target="b", forest={**data.forest(), "rows": wide})
    limit = figure.layout.xaxis2.range[1]
    assert limit < 5
    cut = trace(figure, "cut")
    assert "triangle-left" in cut.marker.symbol
    assert -limit in cut.x
    assert min(x for x in trace(figure, "interval").x if x is not None) >= -limit


def test_height_is_28_pixels_a_row_and_140():
    figure = draw(target="b")
    n_rows = len(trace(figure, "Trait").y)
    extra, rest = divmod(figure.layout.height - 140 - 28 * n_rows, 28)
    assert rest == 0
    assert extra >= 0
    margin = figure.layout.margin
    assert figure.layout.height - margin.t - margin.b == 28 * n_rows
    low, high = figure.layout.yaxis2.range
    assert low - high == n_rows


@pytest.mark.parametrize(
    ("sort", "key"),
    [
        ("effect", lambda row: -abs(row["delta"])),
        ("precision", lambda row: row["se"]),
        ("q", lambda row: row["q_value"]),
        ("name", lambda row: row["label"]),
    ],
)
def test_rows_come_in_the_order_asked_for(sort, key):
    ids = [i for i in trace(draw(target="b", sort=sort), "Trait").customdata if i is not None]
    keys = {row["trait_id"]: key(row) for row in rows()}
    assert [keys[i] for i in ids] == sorted(keys.values())


def test_the_default_order_is_category_and_estimate():
    shown = trace(draw(target="b"), "Trait")
    assert shown.text[1] == "<b>competence</b>"
    ids = [i for i in shown.customdata if i is not None]
    found = {row["trait_id"]: (row["trait_category"], -row["delta"]) for row in rows()}
    assert [found[i] for i in ids] == sorted(found.values())


def test_a_filtered_forest_says_so():
    figure = draw(target="b", rows=rows()[:3])
    assert "showing 3 of 8" in figure.layout.title.subtitle.text
    assert "diamonds include the hidden traits" in caption(figure)
    assert len(trace(figure, "trait").x) == 3


def test_the_caption_leads_back_to_the_run():
    said = caption(draw(target="b"))
    for part in (
        "Run 3",
        "SmolLM2-135M-Instruct (revision abc123)",
        "60 personas (2 more dropped",
        "Benjamini–Hochberg",
        "manifest 1a2b3c4d5e6f",
        "k = 8 traits",
        "τ² =",
        "I² =",
        "heterogeneity F(",
        "REML",
    ):
        assert part in said, part


def test_simulated_data_are_marked_in_the_figure():
    figure = notes.mark_simulated(draw(target="b"), True)
    assert figure.layout.title.subtitle.text.count("SIMULATED DATA") == 1
    assert not notes.is_marked(draw(target="b", provenance=MEASURED))
    assert notes.is_marked(forest.forest_figure(empty_forest(), PROVENANCE))


def test_few_personas_are_grey_and_carry_a_dagger():
    few = [{**row, "status": "low_n"} if i == 0 else row for i, row in enumerate(rows())]
    figure = draw(target="b", forest={**data.forest(), "rows": few}, sort="name")
    place = next(i for i, text in enumerate(trace(figure, "Trait").text) if text.endswith("†"))
    squares = trace(figure, "trait")
    assert squares.marker.color[list(squares.y).index(place)] == "#8a8a8a"
    assert "†" in caption(figure)


def test_a_row_without_a_delta_keeps_its_text():
    nothing = dict.fromkeys(
        ("delta", "se", "ci_low", "ci_high", "p_value", "q_value", "weight_percent")
    )
    bare = [
        {**row, **nothing, "status": "no_data"} if i == 0 else row for i, row in enumerate(rows())
    ]
    figure = draw(target="b", forest={**data.forest(), "rows": bare})
    assert len(trace(figure, "trait").x) == 7
    assert "no estimate" in trace(figure, "Delta").text


def test_compact_forests_have_three_columns():
    figure = draw(target="b", compact=True)
    assert [t.name for t in figure.data if t.mode == "text"] == ["Trait", "Delta", "q"]


def test_strict_correction_decides_by_max_t():
    strict = [{**row, "p_max_t": 0.01 if i == 0 else 0.9} for i, row in enumerate(rows())]
    figure = draw(target="b", forest={**data.forest(), "rows": strict}, correction="max_t")
    squares = trace(figure, "trait")
    filled = [
        i for i, s in zip(squares.customdata, squares.marker.symbol, strict=True) if s == "square"
    ]
    assert filled == [strict[0]["trait_id"]]
    assert "p max-T" in [found.name for found in figure.data]


# -- deltas, omnibus, order, distributions --------------------------------------------------------


def test_deltas_hold_estimates_intervals_and_verdicts():
    table = data.deltas()
    figure = deltas.deltas_figure(table)
    dots = trace(figure, "delta")
    tested = sorted((r for r in table["rows"] if r["tested"]), key=lambda r: -r["delta"])
    assert list(dots.x) == [row["delta"] for row in tested]
    assert list(dots.error_x.array) == pytest.approx([r["ci_high"] - r["delta"] for r in tested])
    assert list(dots.marker.symbol) == [
        "circle" if row["significant"] else "circle-open" for row in tested
    ]
    words = trace(figure, "verdict").text
    assert words[0] == "baseline"
    for row, text in zip(tested, words[1:], strict=True):
        assert deltas.VERDICTS[row["verdict"]] in text
    low, high = figure.layout.xaxis.range
    assert low == -high


def test_adjusted_deltas_are_drawn_with_unadjusted_ones():
    shown = data.adjusted()["rows"]
    figure = deltas.adjusted_figure(shown)
    assert list(trace(figure, "unadjusted").x) == [row["delta"] for row in shown]
    adjusted = trace(figure, "adjusted")
    assert list(adjusted.x) == [row["adjusted_delta"] for row in shown]


def test_heat_map_shows_the_bias_index_and_stars():
    overall, categories = data.omnibus()
    figure = omnibus.omnibus_heatmap(overall, categories)
    (heat,) = figure.data
    assert list(heat.x) == ["all traits", *categories]
    row = overall["attributes"][0]
    assert heat.z[0][0] == row["sd_between"]
    assert heat.text[0][0].endswith("*") is (row["significant"] is True)
    assert heat.z[0][1] == categories["competence"]["attributes"][0]["sd_between"]


def test_bias_index_bars_are_hollow_without_significance():
    overall, _ = data.omnibus()
    hollow = [{**overall["attributes"][0], "significant": False}]
    (bars,) = omnibus.bias_index_figure(hollow).data
    assert bars.x[0] == hollow[0]["sd_between"]
    assert bars.marker.color[0] == "rgba(0,0,0,0)"


def test_agreement_table_counts_pairs_and_frames_the_diagonal():
    table = [[int(i == j) * 3 + int(i == 0) for j in range(5)] for i in range(5)]
    figure = order_effects.agreement_table_figure(table)
    (heat,) = figure.data
    assert heat.z[0][0] == 4 / 20
    assert heat.text[1][1].startswith("3")
    assert len(figure.layout.shapes) == 5


def test_order_figures_hold_their_rows():
    found = data.order()
    (dots,) = order_effects.shift_by_trait_figure(found["by_case"]).data
    assert list(dots.x) == [row["mean_diff"] for row in found["by_case"]]
    (dots,) = order_effects.shift_by_category_figure(found["by_trait_category"]).data
    assert list(dots.x) == [row["mean_diff"] for row in found["by_trait_category"]]
    (dots,) = order_effects.agreement_figure(found["agreement"]).data
    assert dots.x[0] == found["agreement"]["kappa"]["quadratic"]["value"]
    bars = order_effects.digits_figure(found["digits"]).data
    assert [list(bar.customdata) for bar in bars] == [
        found["digits"]["counts_in"],
        found["digits"]["counts_rev"],
    ]


def test_distribution_bars_are_mean_probabilities():
    summary = data.distribution()
    figure = distributions.distribution_figure(summary)
    assert list(figure.data[0].y) == pytest.approx([0.05, 0.15, 0.3, 0.25, 0.25])
    assert figure.layout.shapes[0].x0 == pytest.approx(summary["expected"])
    stacked = distributions.distributions_by_figure(
        [{**summary, "trait_category": "warmth"}], "trait_category"
    )
    assert sum(bar.x[0] for bar in stacked.data) == pytest.approx(1)


def empty_forest():
    return {**data.forest(), "rows": [], "targets": []}


def empty_figures():
    overall = {**data.omnibus()[0], "attributes": []}
    nothing = {**data.distribution(), "n": 0, "probabilities": [None] * 5, "expected": None}
    no_agreement = {
        name: {"value": None, "se": None, "ci_low": None, "ci_high": None}
        for name in data.order()["agreement"]
    }
    no_agreement["kappa"] = {"quadratic": no_agreement["pearson"]}
    return {
        "forest": forest.forest_figure(empty_forest(), PROVENANCE),
        "filtered": draw(target="b", rows=[]),
        "deltas": deltas.deltas_figure({**data.deltas(), "rows": [], "n": 0}),
        "one category": deltas.deltas_figure({**data.deltas(), "rows": data.deltas()["rows"][:1]}),
        "adjusted": deltas.adjusted_figure([]),
        "pairs": deltas.counterfactual_figure([]),
        "heat map": omnibus.omnibus_heatmap(overall, {}),
        "bias index": omnibus.bias_index_figure([]),
        "table": order_effects.agreement_table_figure([[0] * 5] * 5),
        "agreement": order_effects.agreement_figure(no_agreement),
        "shift": order_effects.shift_by_trait_figure([]),
        "digits": order_effects.digits_figure({"bins": ["1"], "counts_in": [0], "counts_rev": [0]}),
        "distribution": distributions.distribution_figure(nothing),
        "distributions": distributions.distributions_by_figure([nothing], "label"),
    }


@pytest.mark.parametrize("name", list(empty_figures()))
def test_nothing_gives_an_empty_titled_figure(name):
    figure = empty_figures()[name]
    assert isinstance(figure, go.Figure)
    assert not figure.data
    assert figure.layout.title.text
    assert figure.layout.annotations[0].text.endswith(".")


def test_untrusted_text_is_never_markup():
    names = {"label": HOSTILE, "category": HOSTILE, "baseline": HOSTILE, "trait_category": HOSTILE}
    hostile = {
        **data.forest(),
        "attribute": HOSTILE,
        "baseline": HOSTILE,
        "targets": [HOSTILE],
        "rows": [{**row, **names, "case_id": HOSTILE} for row in rows()],
        "pooled": [{**data.forest()["overall"], "category": HOSTILE}],
    }
    strange = provenance.Provenance(
        1, HOSTILE, HOSTILE, HOSTILE, "ab", HOSTILE, False, False, 1, 1, 1, None
    )
    table = {
        **data.deltas(),
        "attribute": HOSTILE,
        "rows": [{**row, "category": HOSTILE} for row in data.deltas()["rows"]],
    }
    overall, _ = data.omnibus()
    named = {**overall, "attributes": [{**overall["attributes"][0], "attribute": HOSTILE}]}
    found = [{**row, "label": HOSTILE} for row in data.order()["by_case"]]
    for figure in (
        forest.forest_figure(hostile, strange),
        deltas.deltas_figure(table),
        deltas.adjusted_figure([{**row, "category": HOSTILE} for row in data.adjusted()["rows"]]),
        omnibus.omnibus_heatmap(named, {HOSTILE: named}),
        omnibus.bias_index_figure(named["attributes"]),
        order_effects.shift_by_trait_figure(found),
        distributions.distributions_by_figure([{**data.distribution(), "label": HOSTILE}], "label"),
    ):
        said = texts(figure)
        assert "<a" not in said
        assert "<img" not in said
        assert "$" not in said


def test_two_hundred_categories_fit():
    row = next(row for row in data.deltas()["rows"] if row["tested"])
    many = [{**row, "category": f"category {i}", "is_baseline": False} for i in range(200)]
    figure = deltas.deltas_figure({**data.deltas(), "rows": many})
    assert len(trace(figure, "delta").x) == 200
    assert figure.layout.height > 200 * 28


def test_numbers_are_written_alike_everywhere():
    assert numbers.signed(-0.004) == "+0.00"
    assert numbers.signed(-0.25) == "−0.25"
    assert numbers.signed(None) == numbers.number(None) == numbers.probability(None) == "–"
    assert numbers.probability(0.0004) == "< .001"
    assert numbers.probability(1.0) == "> .999"
    assert numbers.relation(0.0342) == "= .034"
    assert numbers.relation(0.0) == "< .001"
    assert numbers.number(-0.004) == "0.00"
    assert numbers.interval(None, 1.0) == "[no interval]"
    assert forest_lines.VALENCE_MARKS[-1] == "(−)"


# -- rendered -------------------------------------------------------------------------------------

PICTURES = {
    "forest": lambda: draw(target="b"),
    "forest, compact": lambda: draw(target="c", compact=True, sort="effect"),
    "deltas": lambda: deltas.deltas_figure(data.deltas()),
    "adjusted": lambda: deltas.adjusted_figure(data.adjusted()["rows"]),
    "heat map": lambda: omnibus.omnibus_heatmap(*data.omnibus()),
    "bias index": lambda: omnibus.bias_index_figure(data.omnibus()[0]["attributes"]),
    "agreement": lambda: order_effects.agreement_figure(data.order()["agreement"]),
    "agreement table": lambda: order_effects.agreement_table_figure([[9, 1, 0, 0, 0]] * 5),
    "digits": lambda: order_effects.digits_figure(data.order()["digits"]),
    "shift": lambda: order_effects.shift_by_trait_figure(data.order()["by_case"]),
    "distribution": lambda: distributions.distribution_figure(data.distribution()),
}


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", list(PICTURES))
def test_figures_render_in_both_themes(name, theme, tmp_path, pytestconfig):
    require(pictures.pictures_work(), "Chromium")
    picture = files.export_figure(PICTURES[name](), "png", PROVENANCE, theme=theme, scale=1)
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 8_000


def test_the_words_next_to_deltas_have_room_in_pixels():
    """A share of the width would cut them on a narrow screen."""
    figure = deltas.deltas_figure(data.deltas())
    (words,) = [trace for trace in figure.data if trace.name == "verdict"]
    widest = max(text_width(text, SMALL_SIZE) for text in words.text)
    assert figure.layout.margin.r == round(widest) + 16
    assert figure.layout.xaxis.domain is None
