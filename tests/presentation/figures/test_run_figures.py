"""Figures say what the data say, and nothing of what is written in the data."""

import json

import plotly.graph_objects as go
import pytest

from benchlib.domain.analysis.metrics import (
    compute_rating_histogram,
    compute_trait_category_histograms,
)
from benchlib.presentation.figures import histogram, means, theme
from tests.domain.frames import grid_of_answers

HOSTILE = '<a href="https://example.org">x</a><img src=x onerror=alert(1)> $x$\nnext'


def mean_row(category, mean, **changes):
    return {
        "category": category,
        "count": 120,
        "mean": mean,
        "mean_ratings": mean,
        "n_personas": 40,
        "n_missing": 0,
        "se": 0.05,
        "ci_low": None if mean is None else mean - 0.1,
        "ci_high": None if mean is None else mean + 0.2,
        "status": "ok",
        **changes,
    }


def texts(figure):
    """All strings a browser would get."""
    return json.dumps(json.loads(figure.to_json()), ensure_ascii=False)


def test_many_means_leave_no_empty_stretch_above_them():
    rows = [mean_row(f"job {i}", 3 + i / 1_000) for i in range(200)]
    axis = means.means_figure(rows, "job", "job 0").layout.yaxis
    assert axis.range == (199.6, -0.6)  # half a row of air at either end


def test_labels_get_their_margin_and_a_hidden_axis_gets_none():
    rows = [mean_row("x" * 40, 3), mean_row("y", 3)]
    figure = theme.leave_room(means.means_figure(rows, "job", None))
    label = "x" * 27 + "… (n = 40)"  # 32 wide characters and 5 narrow ones
    assert figure.layout.margin.l == round(theme.text_width(label, 12)) + 34
    assert theme.text_width(label, 12) == pytest.approx(12 * (32 * 0.52 + 5 * 0.3))
    titled = theme.framed_figure("shares").update_yaxes(title_text="Share")
    assert theme.leave_room(titled).layout.margin.l == round(12 * (3 * 0.52 + 0.82)) + 20 + 34
    hidden = theme.empty_figure("nothing", "Nothing.")
    assert theme.leave_room(hidden).layout.margin.l == 8


def test_tags_take_no_room_and_wide_letters_take_more():
    assert theme.text_width("<b>a&lt;</b>", 10) == pytest.approx(2 * 5.2)
    assert theme.text_width("職業", 10) == 20


def test_histogram_draws_shares_and_tells_counts_on_hover():
    counted = compute_rating_histogram(grid_of_answers([1, 2, 3, 3, 4, 5]))
    figure = histogram.rating_histogram_figure(counted)
    (bars,) = figure.data
    assert list(bars.x) == ["1", "2", "3", "4", "5"]
    assert list(bars.y) == pytest.approx([1 / 6, 1 / 6, 2 / 6, 1 / 6, 1 / 6])
    assert list(bars.customdata) == [1, 1, 2, 1, 1]
    assert list(bars.text) == ["16.7%", "16.7%", "33.3%", "16.7%", "16.7%"]
    assert "6 answers" in figure.layout.title.subtitle.text


def test_trait_categories_are_rows_whose_shares_sum_to_one():
    grid = grid_of_answers([1, 2, 5, 5], ["warmth", "warmth", "morality", "morality"])
    figure = histogram.trait_category_figure(compute_trait_category_histograms(grid))
    assert [bar.name for bar in figure.data] == ["1", "2", "3", "4", "5"]
    assert list(figure.data[0].y) == ["morality", "warmth"]
    for row in range(2):
        assert sum(bar.x[row] for bar in figure.data) == pytest.approx(1)
    assert list(figure.data[4].x) == [1.0, 0.0]
    assert list(figure.data[4].customdata[0]) == ["morality", 2, 2]


def test_tally_turns_the_reversed_scale():
    figure = histogram.tally_figure({"in": [1, 0, 0, 0, 2], "rev": [7, 0, 0, 0, 0]})
    as_is, turned = figure.data
    assert list(as_is.y) == [1, 0, 0, 0, 2]
    assert list(turned.y) == [0, 0, 0, 0, 7]  # digit 1 of the reversed scale means "very"
    assert "10 answers" in figure.layout.title.subtitle.text


def test_answer_distribution_fills_the_digit_taken():
    figure = histogram.answer_distribution_figure([0.1, 0.2, 0.5, 0.1, 0.1], 3)
    (bars,) = figure.data
    assert list(bars.y) == [0.1, 0.2, 0.5, 0.1, 0.1]
    filled = [colour == theme.MAIN for colour in bars.marker.color]
    assert filled == [False, False, True, False, False]


def test_means_show_asymmetric_intervals_and_mark_small_groups():
    rows = [mean_row("female", 3.0), mean_row("male", 3.5, n_personas=2, status="low_n")]
    figure = means.means_figure(rows, "gender", baseline="female")
    (dots,) = figure.data
    assert list(dots.x) == [3.0, 3.5]
    assert list(dots.y) == ["female (n = 40)", "male (n = 2)"]
    assert list(dots.error_x.array) == pytest.approx([0.2, 0.2])
    assert list(dots.error_x.arrayminus) == pytest.approx([0.1, 0.1])
    assert list(dots.marker.symbol) == ["circle", "circle-open"]
    assert "40 personas, 120 answers" in dots.customdata[0]
    assert "fewer than 10 personas" in dots.customdata[1]
    (line,) = figure.layout.shapes
    assert line.x0 == 3.0


def test_means_without_interval_keep_their_dot():
    rows = [mean_row("one", 4.0, ci_low=None, ci_high=None, n_personas=1, status="n_lt_2")]
    figure = means.means_figure(rows, "origin")
    assert list(figure.data[0].error_x.array) == [None]
    low, high = figure.layout.xaxis.range
    assert low < 4.0 < high


def test_means_leave_out_and_count_what_has_no_ratings():
    rows = [mean_row("a", 3.0), mean_row("b", None, n_personas=0, status="no_data")]
    figure = means.means_figure(rows, "origin")
    assert len(figure.data[0].x) == 1
    assert "1 without ratings not shown" in figure.layout.title.subtitle.text


def test_long_names_that_begin_alike_stay_apart():
    rows = [mean_row("x" * 60 + tail, 3.0) for tail in "ab"]
    figure = means.means_figure(rows, "origin")
    assert len(set(figure.data[0].y)) == 2


@pytest.mark.parametrize(
    "figure",
    [
        histogram.rating_histogram_figure(compute_rating_histogram(grid_of_answers([]))),
        histogram.trait_category_figure([]),
        histogram.tally_figure({}),
        histogram.answer_distribution_figure(None, 3),
        means.means_figure([], "gender"),
    ],
)
def test_nothing_gives_an_empty_titled_figure(figure):
    assert isinstance(figure, go.Figure)
    assert not figure.data
    assert figure.layout.title.text
    assert figure.layout.annotations[0].text


def test_untrusted_text_is_never_markup():
    rows = [mean_row(HOSTILE, 3.0)]
    counts = [{"category": HOSTILE, "bins": ["1"], "counts": [3], "shares": [1.0]}]
    for figure in (means.means_figure(rows, HOSTILE), histogram.trait_category_figure(counts)):
        said = texts(figure)
        assert "<a" not in said
        assert "<img" not in said
        assert "$" not in said


def test_figures_bring_no_background_and_no_text_colour_of_their_own():
    figure = theme.framed_figure("Title")
    assert figure.layout.paper_bgcolor == "rgba(0,0,0,0)"
    assert figure.layout.plot_bgcolor == "rgba(0,0,0,0)"
    assert figure.layout.font.color is None
