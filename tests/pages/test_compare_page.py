"""The page that compares runs."""

import pytest

from tests.pages.conftest import figure, texts

BY = "Benjamini–Yekutieli"


@pytest.fixture
def two_runs(make_house):
    house = make_house().fill(n_personas=24)
    return house, [house.finished(seed=seed) for seed in (1, 2)]


def captions(at):
    return " ".join(found.value for found in at.caption)


def frame(at, *columns):
    """The table that has these columns."""
    (found,) = [table.value for table in at.dataframe if set(columns) <= set(table.value)]
    return found


def test_nothing_is_compared_before_two_runs_are_chosen(two_runs, open_page):
    _house, (first, second) = two_runs
    at = open_page("compare")
    assert "Choose two to eight runs" in at.info[0].value
    assert not at.get("plotly_chart")
    at.multiselect("compare_runs").set_value([second, first]).run()
    assert not at.exception
    assert at.query_params["runs"] == f"{second},{first}"
    found = frame(at, "run_id", "role")
    assert found["run_id"].tolist() == [second, first]
    assert found["role"].tolist() == ["reference", "compared"]


def test_the_address_restores_a_comparison(two_runs, open_page):
    house, (first, second) = two_runs
    at = open_page("compare", runs=f"{first},{second}", attribute="gender", baseline="male")
    assert at.multiselect("compare_runs").value == [first, second]
    levels = house.service.analysis.compare_metrics([first, second])["levels"]["rows"]
    found = frame(at, "mean_reference", "difference")
    assert found["trait_category"].tolist() == ["all", "competence", "warmth"]
    assert found["difference"].tolist() == [row["difference"] for row in levels]
    drawn = figure(at, "levels_figure")
    dots = next(trace for trace in drawn["data"] if trace["name"] == "delta")
    assert dots["x"] == [row["difference"] for row in levels]
    assert "SIMULATED DATA" in drawn["layout"]["title"]["subtitle"]["text"]
    (row,) = house.service.analysis.compare_deltas([first, second], "gender", "male")["data"][
        "gender"
    ]["rows"]
    shown = frame(at, "delta_reference", "delta")
    assert shown["category"].tolist() == ["female"]
    for name in ("delta_reference", "delta", "difference", "ci_low", "p_value", "q_value", "n_cat"):
        assert shown[name].tolist() == [row[name]], name
    assert figure(at, "delta_differences_figure")["data"]
    assert frame(at, "What", f"Run {first}")["What"].tolist() == ["Seed"]
    assert "all level differences of the comparison" in captions(at)
    assert "all differences of deltas of the comparison" in captions(at)
    assert "simulated data" in captions(at)
    labels = [found.label for found in at.expander]
    assert "How is this computed?" in labels
    assert sum(label.startswith(f"Data quality of run {first}: ") for label in labels) == 1


def test_a_rater_does_not_differ_by_which_questions_were_asked_in_both_orders(
    make_house, open_page
):
    house = make_house().fill(n_personas=24)
    some, none = (house.finished(dual_fraction=share) for share in (0.2, 0.0))
    at = open_page("compare", runs=f"{some},{none}", attribute="gender", sesoi="0.2")
    for name in ("mean_reference", "delta_reference"):
        found = frame(at, name, "verdict")
        assert found["difference"].tolist() == pytest.approx([0] * len(found), abs=1e-9)
        assert set(found["verdict"]) == {"equivalent"}
    for name in ("levels_figure", "delta_differences_figure"):
        (band,) = [
            shape for shape in figure(at, name)["layout"]["shapes"] if shape.get("name") == "sesoi"
        ]
        assert (band["x0"], band["x1"]) == (-0.2, 0.2)


def test_a_category_and_the_correction_are_taken(two_runs, open_page):
    _house, (first, second) = two_runs
    at = open_page("compare", runs=f"{first},{second}", trait_category="warmth", by=BY)
    assert frame(at, "mean_reference")["trait_category"].tolist() == ["warmth"]
    assert "Benjamini–Yekutieli over" in captions(at)


def test_runs_that_share_nothing_say_so(two_runs, open_page):
    house, (first, _) = two_runs
    waiting = house.queue()
    at = open_page("compare", runs=f"{first},{waiting}")
    assert "No question was rated in all of these runs" in at.error[0].value
    assert not at.get("plotly_chart")


def test_runs_that_are_gone_are_named(two_runs, open_page):
    _house, (first, second) = two_runs
    at = open_page("compare", runs=f"{first},99,{second}")
    assert "do not exist" in at.warning[0].value
    assert at.multiselect("compare_runs").value == [first, second]


def test_equal_configurations_say_so_and_partial_runs_are_marked(two_runs, open_page):
    house, (first, _) = two_runs
    partial = house.finished(seed=1, simulated_fault_rate=0.3, max_attempts=1)
    at = open_page("compare", runs=f"{first},{partial}")
    assert "The configurations and manifests of these runs do not differ." in texts(at)
    assert frame(at, "preliminary")["preliminary"].tolist() == [False, True]
    assert "preliminary" in captions(at)


def test_read_only_compares(make_house, open_page):
    house = make_house().fill(n_personas=12)
    ids = [house.finished(seed=seed) for seed in (1, 2)]
    make_house(read_only=True)
    at = open_page("compare", runs=",".join(map(str, ids)))
    assert figure(at, "levels_figure")["data"]
