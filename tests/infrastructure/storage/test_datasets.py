from concurrent.futures import ThreadPoolExecutor

import pytest

from benchlib.domain.errors import InvalidInput, NotFound, WrongState
from benchlib.domain.material.personas import PersonaDraft
from benchlib.domain.material.traits import TraitDraft, traits_hash
from benchlib.infrastructure.storage import datasets, traits
from tests.samples import NOW, add_run

ALEX = PersonaDraft("alex", {"gender": "female", "größe": "groß"}, 34, "Alex", "tall", "A life.")
KIM = PersonaDraft("kim", {"gender": "male"})
COPY = PersonaDraft(
    "copy", {"gender": "male", "größe": "groß"}, 34, source_uuid="alex", changed_attribute="gender"
)


def add(store, name, personas, **more):
    with store.write() as session:
        return datasets.add_dataset(
            session, name, "pool", iter(personas), parameters={"seed": 1}, now=NOW, **more
        )


def get(store, dataset_id):
    with store.read() as session:
        return datasets.get_dataset(session, dataset_id)


def test_a_dataset_comes_back_as_it_was(any_store):
    dataset_id = add(any_store, "two", [KIM, ALEX], note="why")
    record = get(any_store, dataset_id)
    assert (record.name, record.kind, record.note, record.n_personas) == ("two", "pool", "why", 2)
    assert record.parameters == {"seed": 1}
    assert record.created_at == NOW
    assert list(datasets.iter_drafts(any_store, dataset_id)) == [KIM, ALEX]
    kim, alex = datasets.iter_personas(any_store, dataset_id)
    assert (alex.uuid, alex.age, alex.name, alex.biography) == ("alex", 34, "Alex", "A life.")
    assert list(alex.attributes.items()) == [("gender", "female"), ("größe", "groß")]
    with any_store.read() as session:
        assert datasets.get_personas(session, [alex.id, kim.id]) == [alex, kim]
        assert datasets.list_datasets(session) == [record]


def test_paging_gives_every_persona_once(any_store):
    drafts = [PersonaDraft(f"p{i}", {"x": str(i % 3)}) for i in range(25)]
    dataset_id = add(any_store, "many", drafts)
    found = list(datasets.iter_personas(any_store, dataset_id, chunk=10))
    assert [persona.uuid for persona in found] == [draft.uuid for draft in drafts]
    later = datasets.iter_personas(any_store, dataset_id, after_position=22, chunk=10)
    assert [persona.uuid for persona in later] == ["p23", "p24"]


def test_the_hash_is_over_content_and_order(any_store):
    one = get(any_store, add(any_store, "one", [KIM, ALEX]))
    same = get(any_store, add(any_store, "same", [KIM, ALEX]))
    turned = get(any_store, add(any_store, "turned", [ALEX, KIM]))
    assert one.content_hash == same.content_hash != turned.content_hash


def test_personas_are_shared_and_never_changed(any_store):
    first = add(any_store, "first", [KIM, ALEX])
    unknown = KIM._replace(attributes={"gender": "male", "origin": "Unknown"})
    second = add(any_store, "second", [ALEX, unknown])
    ids = {p.uuid: p.id for p in datasets.iter_personas(any_store, first)}
    assert {p.uuid: p.id for p in datasets.iter_personas(any_store, second)} == ids
    with pytest.raises(InvalidInput, match="kim is already stored with other content"):
        add(any_store, "third", [PersonaDraft("new", {"gender": "x"}), KIM._replace(age=3)])
    with any_store.read() as session:
        assert [one.name for one in datasets.list_datasets(session)] == ["second", "first"]


@pytest.mark.parametrize("personas", [[], [KIM, KIM], [COPY], [COPY, COPY._replace(uuid="alex")]])
def test_what_is_refused_leaves_nothing_behind(any_store, personas):
    with pytest.raises(InvalidInput):
        add(any_store, "refused", personas)
    with any_store.read() as session:
        assert datasets.list_datasets(session) == []
        with pytest.raises(NotFound):
            datasets.get_personas(session, [1])


def test_names_are_unique(any_store):
    add(any_store, "same", [KIM])
    with pytest.raises(WrongState, match="already a dataset"):
        add(any_store, "same", [ALEX])


def test_links_lead_to_sources_wherever_they_stand(any_store):
    dataset_id = add(any_store, "pair", [COPY, KIM, ALEX])
    assert list(datasets.iter_drafts(any_store, dataset_id)) == [COPY, KIM, ALEX]
    ids = {p.uuid: p.id for p in datasets.iter_personas(any_store, dataset_id)}
    with any_store.read() as session:
        links = datasets.load_links(session, dataset_id)
        none = datasets.load_links(session, 99)
    assert links.to_dict("records") == [
        {
            "persona_id": ids["copy"],
            "source_persona_id": ids["alex"],
            "changed_attribute": "gender",
        }
    ]
    assert none.empty
    assert list(none.columns) == list(links.columns)


def test_the_frame_names_what_is_unknown(any_store):
    young = PersonaDraft("young", {"age_group": "0-9", "gender": "male"}, 3)
    old = PersonaDraft("old", {"age_group": "65+", "origin": "north"}, 80)
    dataset_id = add(any_store, "frame", [old, KIM, young])
    with any_store.read() as session:
        frame = datasets.load_personas(session, dataset_id)
    assert list(frame.columns) == ["persona_id", "uuid", "age", "age_group", "origin", "gender"]
    assert frame["age"].tolist()[::2] == [80, 3]
    assert frame["age"].isna().tolist() == [False, True, False]
    assert frame["age_group"].tolist() == ["65+", "Unknown", "0-9"]
    assert list(frame["age_group"].cat.categories) == ["0-9", "65+", "Unknown"]
    assert frame["gender"].tolist() == ["Unknown", "male", "male"]
    assert frame["origin"].tolist() == ["north", "Unknown", "Unknown"]


def find(store, dataset_id, **asked):
    with store.read() as session:
        found, total = datasets.find_personas(session, dataset_id, **{"where": {}, **asked})
    return [persona.uuid for persona in found], total


def test_personas_are_found_by_attribute_and_text(any_store):
    dataset_id = add(any_store, "find", [ALEX, KIM, PersonaDraft("100%", {"gender": "male"})])
    assert find(any_store, dataset_id) == (["alex", "kim", "100%"], 3)
    assert find(any_store, dataset_id, offset=1, limit=1) == (["kim"], 3)
    assert find(any_store, dataset_id, where={"größe": "groß"}) == (["alex"], 1)
    assert find(any_store, dataset_id, where={"größe": "Unknown"}) == (["kim", "100%"], 2)
    assert find(any_store, dataset_id, where={"gender": "male"}, limit=1) == (["kim"], 2)
    assert find(any_store, dataset_id, search="ALE") == (["alex"], 1)
    assert find(any_store, dataset_id, search="life") == (["alex"], 1)
    assert find(any_store, dataset_id, search="%") == (["100%"], 1)
    assert find(any_store, dataset_id, search="' OR 1=1 --") == ([], 0)


def test_deleting_takes_the_personas_that_nobody_else_has(any_store):
    first = add(any_store, "first", [ALEX, KIM, COPY])
    second = add(any_store, "second", [KIM])
    ids = {p.uuid: p.id for p in datasets.iter_personas(any_store, first)}
    with any_store.write() as session:
        datasets.delete_dataset(session, first)
    with any_store.read() as session:
        assert datasets.get_personas(session, [ids["kim"]])[0].uuid == "kim"
        for gone in ("alex", "copy"):
            with pytest.raises(NotFound):
                datasets.get_personas(session, [ids[gone]])
        with pytest.raises(NotFound):
            datasets.get_dataset(session, first)
        assert datasets.get_dataset(session, second).n_personas == 1


def test_a_dataset_with_runs_stays(any_store):
    run_id = add_run(any_store)
    with any_store.read() as session:
        (dataset,) = datasets.list_datasets(session)
        assert datasets.dataset_in_use(session, dataset.id)
        assert not datasets.dataset_in_use(session, dataset.id + 1)
    with pytest.raises(WrongState, match="used by runs"), any_store.write() as session:
        datasets.delete_dataset(session, dataset.id)
    assert run_id
    assert get(any_store, dataset.id) == dataset


def test_two_at_once_share_their_personas(any_store):
    """Both may come to the same new personas at the same moment; one writes, both have them."""
    drafts = [PersonaDraft(f"p{i}", {"x": "y"}) for i in range(200)]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda name: add(any_store, name, drafts), ["one", "two"]))
    with any_store.read() as session:
        one, two = datasets.list_datasets(session)
    assert one.content_hash == two.content_hash


WARM = TraitDraft(
    "warm",
    {"en": "warm", "de": "herzlich"},
    {"en": "How {adjective}?", "de": "Wie {adjective}?"},
    "warmth",
    1,
)
COLD = TraitDraft("cold", {"en": "cold"}, {"en": "How {adjective}?"}, "warmth", -1, active=False)


def add_traits(store, *drafts):
    with store.write() as session:
        return traits.add_traits(session, drafts, now=NOW)


def catalogue(store, **asked):
    with store.read() as session:
        return traits.list_traits(session, **asked)


def edit(store, trait_id, draft):
    with store.write() as session:
        return traits.edit_trait(session, trait_id, draft, now=NOW)


def test_traits_come_back_as_they_were(any_store):
    warm_id, cold_id = add_traits(any_store, WARM, COLD)
    warm, cold = catalogue(any_store)
    assert (warm.id, cold.id) == (warm_id, cold_id)
    assert (warm.adjective, warm.valence, warm.version) == (WARM.adjective, 1, 1)
    assert [trait.case_id for trait in catalogue(any_store, active_only=True)] == ["warm"]
    with any_store.read() as session:
        assert traits.get_traits(session, [cold_id, warm_id, cold_id]) == [cold, warm, cold]
        with pytest.raises(NotFound):
            traits.get_traits(session, [warm_id, 99])


def test_editing_leaves_old_versions_as_they_were(any_store):
    warm_id, cold_id = add_traits(any_store, WARM, COLD)
    before = catalogue(any_store)
    warmer = TraitDraft("warm", {"en": "warmer"}, WARM.question, "warmth", 1)
    new_id = edit(any_store, warm_id, warmer)
    assert [(t.id, t.version) for t in catalogue(any_store)] == [(new_id, 2), (cold_id, 1)]
    with any_store.read() as session:
        old = traits.get_traits(session, [warm_id, cold_id])
    assert traits_hash(old) == traits_hash(before)
    assert not old[0].active  # offered no longer, but still what it was
    with pytest.raises(WrongState, match="newer version"):
        edit(any_store, warm_id, warmer)


def test_an_edit_that_changes_nothing_makes_no_version(any_store):
    (warm_id,) = add_traits(any_store, WARM)
    assert edit(any_store, warm_id, WARM) == warm_id
    assert add_traits(any_store, WARM) == [warm_id]
    assert [trait.version for trait in catalogue(any_store)] == [1]


def test_adding_a_known_trait_with_other_words_is_an_edit(any_store):
    (warm_id,) = add_traits(any_store, WARM)
    new_id, cold_id = add_traits(
        any_store, TraitDraft("warm", {"en": "kind"}, WARM.question, "warmth", 1), COLD
    )
    assert [trait.id for trait in catalogue(any_store)] == [new_id, cold_id]
    assert new_id != warm_id


def test_a_trait_keeps_its_name(any_store):
    (warm_id,) = add_traits(any_store, WARM)
    with pytest.raises(InvalidInput, match="stays"):
        edit(any_store, warm_id, COLD)
    with pytest.raises(InvalidInput, match="occurs twice"):
        add_traits(any_store, COLD, COLD)
    with pytest.raises(NotFound):
        edit(any_store, 99, WARM)


def test_traits_are_switched_on_and_off(any_store):
    (cold_id,) = add_traits(any_store, COLD)
    with any_store.write() as session:
        traits.set_trait_active(session, cold_id, True)
    assert [trait.id for trait in catalogue(any_store, active_only=True)] == [cold_id]
    with any_store.write() as session:
        traits.set_trait_active(session, cold_id, False)
    assert catalogue(any_store, active_only=True) == []
