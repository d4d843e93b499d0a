"""The analysis pages on real runs, and on data sets in which something is missing."""

import pytest
from sqlalchemy import text

from benchlib.application.analysis import detail_panels
from benchlib.domain.material.personas import PersonaDraft
from benchlib.domain.material.traits import TraitDraft
from benchlib.infrastructure.storage import datasets, traits
from benchlib.presentation.figures.deltas import deltas_figure
from benchlib.presentation.figures.notes import SIMULATED
from tests.pages.conftest import build_house, figure, metric
from tests.samples import NOW

PAGES = ("deltas", "forest", "omnibus", "order_effects")


def add_personas(house, groups, name="made"):
    people = [PersonaDraft(f"{name}-{i}", {"group": group}) for i, group in enumerate(groups)]
    with house.store.write() as session:
        return datasets.add_dataset(session, name, "imported", people, parameters={}, now=NOW)


def add_traits_of(house, valences):
    drafts = [
        TraitDraft(
            case_id=f"trait-{i}",
            adjective={"en": f"trait{i}", "de": f"merkmal{i}"},
            question={"en": "How {adjective} is this person?", "de": "Wie {adjective}?"},
            category=("competence", "warmth")[i % 2],
            valence=valence,
        )
        for i, valence in enumerate(valences)
    ]
    with house.store.write() as session:
        traits.add_traits(session, drafts, now=NOW)


def made_run(make_house, groups, valences=(1, -1, 1, -1), **fields):
    house = make_house()
    dataset = add_personas(house, groups)
    add_traits_of(house, valences)
    return house, house.finished(dataset_id=dataset, **fields)


@pytest.fixture(scope="module")
def grouped_run(prepare):
    groups = [("a", "b", "c")[i % 3] for i in range(30)]
    return prepare(lambda store: made_run(lambda: build_house(store), groups))


@pytest.fixture
def grouped(make_house, grouped_run):
    """A simulated run of 30 personas in three groups."""
    return make_house(like=grouped_run), 1


def captions(at):
    return " ".join(found.value for found in at.caption)


def infos(at):
    return " ".join(found.value for found in at.info)


def labels(at):
    return [found.label for found in at.expander]


@pytest.mark.parametrize("page", PAGES)
def test_every_page_tells_what_it_rests_on(grouped, open_page, page):
    at = open_page(page, run=grouped[1])
    said = captions(at)
    assert "30 personas" in said
    assert "missing" in said
    assert "simulated data" in said
    assert any(label.startswith("How is this computed") for label in labels(at))
    assert any(label.startswith("Data quality of this run: ") for label in labels(at))


def test_deltas_name_the_family_and_the_verdict(grouped, open_page):
    at = open_page("deltas", run=grouped[1], attribute="group", baseline="b")
    assert "Benjamini–Hochberg over" in captions(at)
    assert "all deltas of the run" in captions(at)
    (frame,) = [table.value for table in at.dataframe]
    assert list(frame["category"]) == ["a", "b", "c"]
    assert frame.set_index("category")["delta"].isna().to_dict() == {
        "a": False,
        "b": True,
        "c": False,
    }
    drawn = figure(at, "deltas_figure")
    assert "against b" in drawn["layout"]["title"]["text"]
    assert "SIMULATED" in drawn["layout"]["title"]["subtitle"]["text"]


def test_the_correction_can_be_switched(grouped, open_page):
    at = open_page("deltas", run=grouped[1], by="Benjamini–Yekutieli")
    assert "Benjamini–Yekutieli over" in captions(at)


def test_adjusted_deltas_and_pairs_wait_until_they_are_asked_for(grouped, open_page):
    closed = open_page("deltas", run=grouped[1])
    assert len(closed.get("plotly_chart")) == 1
    opened = open_page("deltas", run=grouped[1], adjusted="true", pairs="true")
    assert figure(opened, "adjusted_figure")["data"]
    assert "The dataset of this run has no counterfactual pairs." in [t.value for t in opened.text]


def test_an_address_restores_the_forest(grouped, open_page):
    at = open_page(
        "forest",
        run=grouped[1],
        attribute="group",
        baseline="c",
        target=["a", "b"],
        sort="name",
        find="trait-1",
        compact="true",
    )
    drawn = figure(at, "forest_figure_0")
    assert drawn["layout"]["title"]["text"].startswith("group: a against c")
    assert "showing 1 of 4" in drawn["layout"]["title"]["subtitle"]["text"]
    assert [t["name"] for t in drawn["data"] if t["mode"] == "text"] == ["Trait", "Delta", "q"]
    assert figure(at, "forest_figure_1")["layout"]["title"]["text"].startswith("group: b")


def test_a_forest_offers_strict_and_textbook_methods(grouped, open_page):
    at = open_page("forest", run=grouped[1], max_t="true", methods=["REML"])
    names = [found["name"] for found in figure(at, "forest_figure_0")["data"]]
    assert "p max-T" in names
    notes = figure(at, "forest_figure_0")["layout"]["annotations"]
    assert any("REML" in note["text"] for note in notes)


def test_a_forest_shows_only_traits_of_a_valence(grouped, open_page):
    at = open_page("forest", run=grouped[1], only=["favourable"])
    subtitle = figure(at, "forest_figure_0")["layout"]["title"]["subtitle"]["text"]
    assert "showing 2 of 4" in subtitle
    shown = next(table.value for table in at.dataframe if "label" in table.value)
    assert sorted(set(shown["valence"])) == ["favourable", "unfavourable"]


def test_the_overview_counts_significant_attributes(grouped, open_page):
    at = open_page("omnibus", run=grouped[1])
    assert metric(at, "Attributes") == "1"
    assert figure(at, "bias_heatmap")["data"][0]["type"] == "heatmap"


@pytest.mark.parametrize("tab", ["Agreement", "By trait", "Response styles", "Distributions"])
def test_every_tab_of_order_effects_has_content(grouped, open_page, tab):
    at = open_page("order_effects", run=grouped[1], tab=tab)
    assert at.get("plotly_chart") or at.dataframe
    assert "30 personas" in captions(at)


def test_order_effects_tell_every_number_with_its_interval(grouped, open_page):
    house, run_id = grouped
    at = open_page("order_effects", run=run_id)
    order = house.service.get_order_metrics(run_id)
    (frame,) = [table.value for table in at.dataframe]
    shown_rows = frame.set_index("measure")
    assert shown_rows.loc["Mean difference"].tolist() == [
        order["obe"][name] for name in ("mean_diff", "ci_low", "ci_high")
    ]
    kappa = order["agreement"]["kappa"]["quadratic"]
    assert shown_rows.loc["Cohen's kappa, quadratic", "ci_low"] == kappa["ci_low"]
    assert f"χ²({order['agreement']['bowker']['df']}) = " in captions(at)


def test_the_overview_tells_where_the_spread_comes_from(grouped, open_page):
    house, run_id = grouped
    at = open_page("omnibus", run=run_id, spread="true")
    parts = house.service.analysis.get_panel(detail_panels.variance_components, run_id)
    assert metric(at, "Personas") == f"{parts['var_persona'] ** 0.5:.2f}"
    assert metric(at, "Design effect") == f"× {parts['design_effect']:.1f}"


def test_distributions_state_the_gain_in_precision(grouped, open_page):
    at = open_page("order_effects", run=grouped[1], tab="Distributions")
    assert metric(at, "Gain in precision").startswith("×")
    assert any("are worth" in text.value for text in at.text)


def test_a_run_without_probabilities_says_so(make_house, open_page):
    _, run_id = made_run(make_house, ["a", "b"] * 5, answer_mode="rating")
    at = open_page("order_effects", run=run_id, tab="Distributions")
    assert "came without probabilities" in infos(at)


# -- data sets in which something is missing ------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_a_queued_run_without_answers_leads_on(house, open_page, page):
    at = open_page(page, run=house.queue())
    assert "no answers yet" in infos(at)
    assert not at.get("plotly_chart")


@pytest.mark.parametrize("page", PAGES)
def test_an_attribute_with_one_category_is_explained(make_house, open_page, page):
    _, run_id = made_run(make_house, ["only"] * 8)
    at = open_page(page, run=run_id)
    checks = {
        "deltas": lambda: (
            "All personas are in one category"
            in figure(at, "deltas_figure")["layout"]["annotations"][0]["text"]
        ),
        "forest": lambda: "this attribute has one category" in infos(at),
        "omnibus": lambda: (
            "No attribute has two groups"
            in figure(at, "bias_index")["layout"]["annotations"][0]["text"]
        ),
        "order_effects": lambda: metric(at, "Pairs") != "0",
    }
    assert checks[page]()


@pytest.mark.parametrize("page", PAGES)
def test_two_hundred_categories_fit_on_a_page(make_house, open_page, page):
    _, run_id = made_run(make_house, [f"group {i % 200:03d}" for i in range(400)], valences=(1, -1))
    at = open_page(page, run=run_id)
    if page == "deltas":
        assert len(figure(at, "deltas_figure")["data"][0]["x"]) == 200


@pytest.mark.parametrize("page", PAGES)
def test_one_persona_gives_no_tests_and_no_crash(make_house, open_page, page):
    _, run_id = made_run(make_house, ["alone"])
    assert "1 persona ·" in captions(open_page(page, run=run_id)).replace("\\", "")


@pytest.mark.parametrize("page", PAGES)
def test_a_run_that_lost_every_answer_says_so(make_house, open_page, page):
    _, run_id = made_run(make_house, ["a", "b"] * 3, simulated_fault_rate=1.0, max_attempts=1)
    assert "ended without a rating: " in infos(open_page(page, run=run_id))


def test_without_pairs_order_effects_tell_how_to_get_them(make_house, open_page):
    _, run_id = made_run(make_house, ["a", "b"] * 5, dual_fraction=0.0)
    at = open_page("order_effects", run=run_id)
    assert "Asked in both orders" in infos(at)
    assert metric(at, "Pairs") == "0"
    assert metric(at, "Position shift") == "–"


@pytest.mark.parametrize("page", ["deltas", "forest", "omnibus"])
def test_only_neutral_traits_lead_to_the_switch(make_house, open_page, page):
    _, run_id = made_run(make_house, ["a", "b"] * 10, valences=(0, 0, 0))
    assert "Neutral traits" in infos(open_page(page, run=run_id))
    at = open_page(page, run=run_id, neutral="true")
    assert not at.info
    assert at.get("plotly_chart")


def test_personas_without_attributes_have_no_groups(make_house, open_page):
    house = make_house()
    people = [PersonaDraft(f"p-{i}", {}) for i in range(4)]
    with house.store.write() as session:
        datasets.add_dataset(session, "bare", "imported", people, parameters={}, now=NOW)
    add_traits_of(house, (1, -1))
    run_id = house.finished()
    for page in ("deltas", "forest"):
        assert "no groups to compare" in infos(open_page(page, run=run_id))


def test_names_of_groups_are_never_markdown(make_house, open_page):
    hostile = "[x](http://example.org) <b>y</b>"
    _, run_id = made_run(make_house, [hostile, "plain"] * 5)
    at = open_page("deltas", run=run_id, adjusted="true")
    assert all("](http" not in found.value for found in [*at.markdown, *at.caption])
    assert "<b>y" not in str(figure(at, "deltas_figure")["layout"])


def test_a_figure_is_drawn_once_for_all_sessions_and_anew_for_other_numbers(
    house, open_page, monkeypatch
):
    drawn = []

    def counted(deltas):
        drawn.append(deltas["attribute"])
        return deltas_figure(deltas)

    monkeypatch.setattr("benchlib.presentation.figures.deltas.deltas_figure", counted)
    run_id = house.finished()
    first = open_page("deltas", run=run_id, attribute="gender")
    second = open_page("deltas", run=run_id, attribute="gender")
    assert drawn == ["gender"]
    seen = figure(second, "deltas_figure")
    assert seen == figure(first, "deltas_figure")
    assert seen["layout"]["title"]["subtitle"]["text"].startswith(SIMULATED)
    open_page("deltas", run=run_id, attribute="origin")
    with house.store.write() as session:
        edit = "UPDATE benchmarkresult SET rating_raw = 1 + persona_id % 5, p1 = NULL"
        session.connection().execute(text(edit))
    third = open_page("deltas", run=run_id, attribute="gender")
    assert drawn == ["gender", "origin", "gender"]
    assert figure(third, "deltas_figure") != seen
