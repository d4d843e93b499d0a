"""Datasets and traits: what is shown is what is stored; untrusted text is shown literally."""

import pytest

from benchlib.application.dataset_service import DatasetService
from benchlib.domain.material.traits import TraitDraft
from tests.pages.conftest import metric, settled, texts

EVIL = ("[x](http://evil.example)", "<script>alert(1)</script>", ":material/home: $x$")
TABLE = f"gender,age,name,biography\nfemale,34,{EVIL[0]},{EVIL[1]}\nmale,70,,{EVIL[2]}\n".encode()
CSV = "text/csv"


@pytest.fixture(scope="module")
def sample_data(prepare):
    return prepare(lambda store: DatasetService(store).load_sample_data())


@pytest.fixture
def filled(make_house, sample_data):
    return make_house(like=sample_data)


def names(house):
    return [dataset.name for dataset in house.datasets.list_datasets()]


def frame(at, column):
    """The first table with this column."""
    return next(found.value for found in at.dataframe if column in found.value)


def markdown_of(at):
    """Everything of the page that is read as Markdown."""
    kinds = ("markdown", "caption", "info", "warning", "error", "title", "subheader")
    return "\n".join(found.value for kind in kinds for found in getattr(at, kind))


def test_an_empty_store_says_what_to_do(make_house, open_page):
    make_house()
    assert "import or build one" in open_page("datasets").info[0].value
    assert "add or import some" in open_page("traits").info[0].value


def test_a_dataset_is_shown_with_its_composition_and_personas(filled, open_page):
    at = open_page("datasets", dataset=2, attribute="age_group", page=2)
    assert frame(at, "kind")["name"].tolist() == names(filled)
    assert (metric(at, "Personas"), metric(at, "Ages")) == ("300", "18 to 90")
    counts = frame(at, "share")
    assert counts["category"].tolist() == ["10-19", "20-29", "30-44", "45-64", "65+"]
    assert counts["count"].tolist() == [60] * 5
    shown = frame(at, "uuid")
    expected = filled.datasets.list_personas(2, offset=50, limit=50).personas
    assert shown["uuid"].tolist() == [persona.uuid for persona in expected]


def test_personas_are_filtered_by_the_address(filled, open_page):
    at = open_page("datasets", dataset=2, personas=["gender = female", "religion = Jewish"])
    shown = frame(at, "uuid")
    assert set(shown["gender"]) == {"female"}
    assert set(shown["religion"]) == {"Jewish"}
    assert any(found.value.startswith(f"{len(shown)} of 300") for found in at.caption)


def test_an_address_of_a_dataset_that_is_gone(filled, open_page):
    at = open_page("datasets", dataset=99)
    assert "does not exist" in at.warning[0].value
    assert at.query_params["dataset"] in (["2"], "2")


def test_a_file_is_shown_before_it_is_imported_and_then_opened(filled, open_page):
    at = open_page("datasets", datasets_tab="Import")
    at.file_uploader(key="datasets_file").upload("my lab.csv", TABLE, CSV)
    settled(at.run())
    assert metric(at, "Personas") == "2"
    assert frame(at, "Attribute")["Categories"].tolist() == [
        "female (1), male (1)",
        "30-44 (1), 65+ (1)",
    ]
    assert len(names(filled)) == 2  # nothing is stored yet
    settled(at.button(key="datasets_import").click().run())
    assert names(filled)[0] == "my lab"
    assert frame(at, "uuid")["biography"].tolist() == list(EVIL[1:])
    assert not any(evil in markdown_of(at) for evil in EVIL)


def test_a_bad_file_is_refused_with_row_and_column(filled, open_page):
    at = open_page("datasets", datasets_tab="Import")
    at.file_uploader(key="datasets_file").upload("bad.csv", b"gender,age\nf,[x](y)\n", CSV)
    settled(at.run())
    assert "Row 2" in at.error[0].value
    assert "[x](y)" not in at.error[0].value  # escaped
    assert not [found for found in at.button if found.key == "datasets_import"]


def test_an_encoding_can_be_named(filled, open_page):
    at = open_page("datasets", datasets_tab="Import")
    at.file_uploader(key="datasets_file").upload("a.csv", "größe\ngroß\n".encode("cp1252"), CSV)
    settled(at.run())
    assert "name its encoding" in at.error[0].value
    settled(at.selectbox(key="datasets_encoding").select("Windows-1252 (Western Europe)").run())
    assert frame(at, "Attribute")["Attribute"].tolist() == ["größe"]


@pytest.mark.parametrize("design", ["pool", "balanced", "factorial", "counterfactual", "reality"])
def test_a_dataset_is_built_by_design(filled, open_page, design):
    at = open_page("datasets", datasets_tab="Build")
    settled(at.selectbox(key="datasets_design").select(design).run())
    if design == "factorial":
        at.number_input(key="datasets_n_factorial").set_value(60)
    if design == "counterfactual":
        at.number_input(key="datasets_n_sources").set_value(10)
    at.text_input(key="datasets_build_name").set_value("Mine")
    settled(at.run())
    settled(at.button(key="datasets_build").click().run())
    assert not at.error
    made = filled.datasets.list_datasets()[0]
    sizes = {"pool": 300, "balanced": 300, "factorial": 60, "counterfactual": 20, "reality": 100}
    assert (made.name, made.kind, made.n_personas) == ("Mine", design, sizes[design])
    assert metric(at, "Personas") == str(sizes[design])


def test_a_design_that_cannot_be_says_why(filled, open_page):
    at = open_page("datasets", datasets_tab="Build")
    settled(at.selectbox(key="datasets_design").select("factorial").run())
    settled(at.text_area(key="datasets_factors").set_value("gender").run())
    assert "names no categories" in at.error[0].value


def test_deleting_asks_first(filled, open_page):
    at = open_page("datasets", dataset=1)
    assert len(names(filled)) == 2
    settled(at.button(key="datasets_delete_yes").click().run())
    assert names(filled) == ["Sample: factorial"]


def test_a_dataset_with_runs_is_kept_and_says_so(house, open_page):
    house.queue()
    at = open_page("datasets", dataset=1)
    settled(at.button(key="datasets_delete_yes").click().run())
    assert "used by runs" in at.error[0].value
    assert names(house) == ["six"]


def test_downloads_are_offered(filled, open_page):
    for page in ("datasets", "traits"):
        labels = [found.label for found in open_page(page).download_button]
        assert labels == ["Download CSV", "Download Parquet"]


def test_read_only_shows_everything_and_offers_no_write(filled, make_house, open_page):
    make_house(read_only=True)
    for page in ("datasets", "traits"):
        at = open_page(page)
        assert not at.button
        assert not at.file_uploader
        assert at.dataframe


def test_the_catalogue_is_shown_in_both_languages(filled, open_page):
    at = open_page("traits", category=["warmth"])
    shown = frame(at, "german")
    assert shown["english"].tolist()[0] == "warm-hearted"
    assert shown["german"].tolist()[0] == "warmherzig"
    assert len(shown) == 10
    assert len(frame(open_page("traits", q="ehrlich"), "german")) == 2


def test_editing_a_trait_makes_a_new_version(filled, open_page):
    at = open_page("traits", trait="clumsy")
    assert texts(at)[0] == "clumsy, version 1"
    trait = next(t for t in filled.datasets.list_traits() if t.case_id == "clumsy")
    at.text_input(key=f"traits_edit_{trait.id}_adjective_de").set_value(EVIL[0])
    settled(at.run())
    settled(at.button(key="traits_save").click().run())
    newer = next(t for t in filled.datasets.list_traits() if t.case_id == "clumsy")
    assert (newer.version, newer.adjective["de"]) == (2, EVIL[0])
    assert texts(at)[0] == "clumsy, version 2"
    assert EVIL[0] not in markdown_of(at)


def test_an_edit_that_breaks_a_rule_says_so(filled, open_page):
    at = open_page("traits", trait="clumsy")
    trait = next(t for t in filled.datasets.list_traits() if t.case_id == "clumsy")
    at.text_input(key=f"traits_edit_{trait.id}_question_en").set_value("How?")
    settled(at.run())
    settled(at.button(key="traits_save").click().run())
    assert "exactly once" in at.error[0].value
    assert filled.datasets.list_traits()[7].version == 1


def test_a_trait_is_added(filled, open_page):
    at = open_page("traits", traits_tab="Add")
    at.text_input(key="traits_add_case_id").set_value("punctual")
    at.text_input(key="traits_add_adjective_en").set_value("punctual")
    at.selectbox(key="traits_add_category").select("competence")
    settled(at.run())
    settled(at.button(key="traits_add").click().run())
    assert not at.error
    added = filled.datasets.list_traits()[-1]
    assert (added.case_id, added.category, added.valence) == ("punctual", "competence", 1)


def test_traits_are_imported_after_a_look(filled, open_page):
    filled.datasets.add_trait(TraitDraft("calm", {"en": "calm"}, {}, "warmth", 1))
    content = b"case_id,adjective_en,category,valence\nnew,new,warmth,1\ncalm,quiet,warmth,1\n"
    at = open_page("traits", traits_tab="Import")
    at.file_uploader(key="traits_file").upload("t.csv", content, CSV)
    settled(at.run())
    assert texts(at) == ["New: new", "New version: calm", "Unchanged: none"]
    settled(at.button(key="traits_import").click().run())
    assert texts(at) == ["New: none", "New version: none", "Unchanged: new, calm"]
    assert [trait.case_id for trait in filled.datasets.list_traits()][-2:] == ["calm", "new"]
