import subprocess
import sys
from collections import Counter
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats.contingency import association

from benchlib.application.dataset_designs import (
    BalancedDesign,
    CounterfactualDesign,
    FactorialDesign,
    PoolDesign,
    RealityDesign,
    parse_factors,
)
from benchlib.application.dataset_service import DatasetService
from benchlib.application.sample_data import (
    SAMPLE_FACTORS,
    sample_pairs,
    sample_personas,
    sample_traits,
)
from benchlib.domain.errors import InvalidInput, NotFound, ReadOnly, WrongState
from benchlib.domain.material.traits import TraitDraft
from benchlib.infrastructure.storage import datasets
from benchlib.infrastructure.storage.database import open_store
from tests.domain.frames import law
from tests.samples import NOW

TABLE = b"uuid,gender,age,origin\na,female,34,north\nb,male,,\nc,male,70,=1+1\n"


@pytest.fixture
def service(any_store):
    return DatasetService(any_store, now=lambda: NOW)


def personas(service, dataset_id):
    return list(datasets.iter_drafts(service._store, dataset_id))


def test_the_sample_is_balanced_and_orthogonal():
    drafts = sample_personas()
    assert len(drafts) == 300
    assert len({draft.uuid for draft in drafts}) == 300
    columns = {name: [draft.attributes[name] for draft in drafts] for name in SAMPLE_FACTORS}
    assert len(columns) == 9
    for name, values in columns.items():
        counts = Counter(values)
        assert set(counts) == set(SAMPLE_FACTORS[name])
        assert len(set(counts.values())) == 1
    tables = [pd.crosstab(np.array(a), np.array(b)) for a, b in combinations(columns.values(), 2)]
    assert max(association(table, method="cramer") for table in tables) < 0.08
    assert min(draft.age for draft in drafts) == 18
    assert len({draft.age for draft in drafts}) > 60
    assert not any(draft.name or draft.biography for draft in drafts)


def test_the_sample_pairs_differ_in_gender_only():
    drafts = sample_pairs()
    by_uuid = {draft.uuid: draft for draft in drafts}
    copies = [draft for draft in drafts if draft.source_uuid]
    assert (len(drafts), len(copies)) == (120, 60)
    for copy in copies:
        source = by_uuid[copy.source_uuid]
        assert {
            name for name in SAMPLE_FACTORS if copy.attributes[name] != source.attributes[name]
        } == {"gender"}
        assert copy.age == source.age
    assert Counter(copy.attributes["gender"] for copy in copies) == {"female": 30, "male": 30}


def test_the_sample_traits_are_in_balance_in_both_languages():
    traits = sample_traits()
    assert len(traits) == 36
    for category in ("competence", "warmth", "morality", "confidence"):
        valences = Counter(trait.valence for trait in traits if trait.category == category)
        assert valences[1] == valences[-1] >= 2
        assert valences[0] == 0
    for language in ("en", "de"):
        assert len({trait.adjective[language] for trait in traits}) == 36
        assert all("{adjective}" in trait.question[language] for trait in traits)


def test_sample_data_is_the_same_everywhere_and_loaded_once(service):
    service.load_sample_data()
    service.load_sample_data()
    found = {one.name: (one.kind, one.n_personas) for one in service.list_datasets()}
    assert found == {
        "Sample: factorial": ("factorial", 300),
        "Sample: gender pairs": ("counterfactual", 120),
    }
    # A change here means that runs on the sample no longer compare with earlier ones.
    assert service.list_datasets()[0].content_hash.startswith("4eff99db340a1d76")
    assert len(service.list_traits()) == 36
    assert service.trait_categories() == [
        *("competence", "warmth", "morality", "confidence", "temperament")
    ]


def test_sample_data_does_not_come_back_beside_own_data(service):
    service.load_sample_data()
    for dataset in service.list_datasets()[1:]:
        service.delete_dataset(dataset.id)
    service.load_sample_data()
    assert len(service.list_datasets()) == 1


LOAD = """
import sys
from benchlib.application.dataset_service import DatasetService
from benchlib.infrastructure.storage.database import open_store
store = open_store(sys.argv[1])
sys.stdin.readline()
DatasetService(store).load_sample_data()
"""


@pytest.mark.parametrize(
    "backend", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]
)
def test_two_processes_load_sample_data_at_once(backend, tmp_path, request):
    url = f"sqlite:///{tmp_path / 'store.db'}"
    if backend == "postgresql":
        url = request.getfixturevalue("postgres_url")
    command = [sys.executable, "-c", LOAD, url]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE) as one,
        subprocess.Popen(command, stdin=subprocess.PIPE) as other,
    ):
        for child in (one, other):
            child.stdin.write(b"go\n")
            child.stdin.flush()
        assert (one.wait(600), other.wait(600)) == (0, 0)
    store = open_store(url)
    service = DatasetService(store)
    assert (len(service.list_datasets()), len(service.list_traits())) == (2, 36)
    store.close()


def test_import_keeps_values_as_they_are(service):
    dataset_id = service.import_personas(TABLE, "t\x00.csv", " Lab ", note="ours")
    record = service.get_dataset(dataset_id)
    assert (record.name, record.kind, record.note, record.created_at) == (
        "Lab",
        "imported",
        "ours",
        NOW,
    )
    assert record.parameters["file"] == "t·.csv"
    assert record.parameters["form"] == "CSV, utf-8, comma"
    assert personas(service, dataset_id)[2].attributes["origin"] == "=1+1"


def test_preview_tells_what_import_will_do(service):
    preview = service.preview_personas(TABLE)
    dataset_id = service.import_personas(TABLE, "t.csv", "Lab")
    fresh = DatasetService(service._store)  # computes from the store, not from the file
    assert preview.composition == fresh.get_composition(dataset_id)
    assert preview.composition == service.get_composition(dataset_id)
    assert list(preview.first) == personas(service, dataset_id)
    composition = preview.composition
    assert (composition["youngest"], composition["oldest"], composition["n_ages"]) == (34, 70, 2)
    by_name = {one["attribute"]: one for one in composition["attributes"]}
    assert by_name["origin"] == {
        "attribute": "origin",
        "n_missing": 1,
        "categories": [
            {"category": "=1+1", "count": 1, "share": 1 / 3},
            {"category": "north", "count": 1, "share": 1 / 3},
            {"category": "Unknown", "count": 1, "share": 1 / 3},
        ],
    }
    assert by_name["age_group"]["n_missing"] == 1


def test_import_is_all_or_nothing(service):
    with pytest.raises(InvalidInput, match='Row 3, column "age": "x"'):
        service.import_personas(b"gender,age\nf,1\nm,x\n", "t.csv", "Lab")
    with pytest.raises(InvalidInput, match="name of 1 to 100"):
        service.import_personas(TABLE, "t.csv", " \n")
    assert service.list_datasets() == []
    service.import_personas(TABLE, "t.csv", "Lab")
    with pytest.raises(WrongState, match="already a dataset"):
        service.import_personas(b"gender\nf\n", "t.csv", "Lab")
    with pytest.raises(InvalidInput, match="a is already stored with other content"):
        service.import_personas(TABLE.replace(b"34", b"35"), "t.csv", "Lab 2")
    assert len(service.list_datasets()) == 1


@pytest.mark.parametrize("file_format", ["csv", "parquet"])
def test_export_reads_back_to_the_same_dataset(service, file_format):
    service.load_sample_data()
    lab = service.import_personas(TABLE, "t.csv", "Lab")
    for dataset in service.list_datasets():
        content = service.export_personas(dataset.id, file_format)
        again = service.import_personas(content, "again", f"{dataset.name} again")
        assert service.get_dataset(again).content_hash == dataset.content_hash
    assert b"'=1+1" in service.export_personas(lab)
    with pytest.raises(InvalidInput, match="no format"):
        service.export_personas(lab, "xlsx")
    with pytest.raises(NotFound):
        service.export_personas(99)


def test_personas_are_paged_and_filtered(service):
    dataset_id = service.import_personas(TABLE, "t.csv", "Lab")
    page = service.list_personas(dataset_id, where={"gender": "male"}, limit=1)
    assert ([p.uuid for p in page.personas], page.total) == (["b"], 2)
    assert service.list_personas(dataset_id, search=" a\x00 ").total == 1
    with pytest.raises(InvalidInput, match='no attribute "shoe"; it has gender, origin'):
        service.list_personas(dataset_id, where={"shoe": "x"})
    for wrong in ({"limit": 0}, {"limit": 1_001}, {"offset": -1}):
        with pytest.raises(InvalidInput):
            service.list_personas(dataset_id, **wrong)
    with pytest.raises(NotFound):
        service.list_personas(99)


def test_designs(service):
    service.load_sample_data()
    sample = next(one.id for one in service.list_datasets() if one.kind == "factorial")
    pairs = next(one.id for one in service.list_datasets() if one.kind == "counterfactual")

    def build(design, name):
        dataset_id = service.build_dataset(design, name, "by design")
        return service.get_dataset(dataset_id), personas(service, dataset_id)

    pool, drafts = build(PoolDesign((sample, pairs), {"gender": ("female", "male")}), "pool")
    assert (pool.kind, pool.n_personas) == ("pool", 200)  # the pairs' sources are in the sample
    assert pool.parameters["where"] == {"gender": ["female", "male"]}
    assert pool.parameters["content_hashes"] == [
        service.get_dataset(sample).content_hash,
        service.get_dataset(pairs).content_hash,
    ]
    balanced, drafts = build(BalancedDesign((sample,), "occupation", 7, seed=3), "balanced")
    assert (balanced.kind, balanced.n_personas) == ("balanced", 70)
    same, _ = build(BalancedDesign((sample,), "occupation", 7, seed=3), "balanced again")
    assert same.content_hash == balanced.content_hash
    factors = {"gender": ("female", "male"), "age_group": ("20-29", "65+")}
    factorial, drafts = build(FactorialDesign(factors), "factorial")
    assert (factorial.kind, factorial.n_personas) == ("factorial", 4)
    assert factorial.parameters["youngest"] == 18
    copied, drafts = build(
        CounterfactualDesign((sample,), "gender", ("female", "male"), n_sources=10), "copies"
    )
    assert (copied.kind, copied.n_personas) == ("counterfactual", 20)
    assert service.get_composition(copied.id)["n_counterfactuals"] == 10
    shares = {"gender": {"female": 0.5, "male": 0.48, "non-binary": 0.02}}
    reality, drafts = build(RealityDesign((sample,), shares, 100), "reality")
    assert Counter(draft.attributes["gender"] for draft in drafts) == {
        "female": 50,
        "male": 48,
        "non-binary": 2,
    }
    assert reality.kind == "reality"


@pytest.mark.parametrize(
    ("design", "error"),
    [
        (PoolDesign(()), InvalidInput),
        (PoolDesign((99,)), NotFound),
        (PoolDesign((1,), {"gender": ("nobody",)}), InvalidInput),
        (BalancedDesign((1,), "gender", seed=-1), InvalidInput),
        (CounterfactualDesign((1,), "gender", ("female", "male"), n_sources=3), InvalidInput),
        (CounterfactualDesign((1,), "gender", ()), InvalidInput),
        (RealityDesign((1,), {}, 5), InvalidInput),
        (FactorialDesign({}), InvalidInput),
    ],
)
def test_designs_that_cannot_be(service, design, error):
    service.import_personas(TABLE, "t.csv", "Lab")
    with pytest.raises(error):
        service.build_dataset(design, "new")
    assert len(service.list_datasets()) == 1


def test_texts_that_give_the_attribute_away_are_left_out(service):
    table = b"gender,name\nfemale,Anna\nmale,Jan\n"
    source = service.import_personas(table, "t.csv", "named")
    for keep_texts, names in ((False, {None}), (True, {"Anna", "Jan"})):
        design = CounterfactualDesign(
            (source,), "gender", ("female", "male"), keep_texts=keep_texts
        )
        dataset_id = service.build_dataset(design, f"keep {keep_texts}")
        assert {draft.name for draft in personas(service, dataset_id)} == names


def test_factors_are_read_from_lines():
    assert parse_factors(" gender : female, male,\n\nage_group: 20-29\n") == {
        "gender": ("female", "male"),
        "age_group": ("20-29",),
    }
    for text in ("gender", "gender:", ": x", "a: x\na: y"):
        with pytest.raises(InvalidInput, match="Line"):
            parse_factors(text)


def test_traits_are_imported_edited_and_exported(service):
    service.load_sample_data()
    exported = service.export_traits()
    changed = exported.replace(b"kompetent,", "fähig,".encode(), 1)
    changed += b"new,new,neu,,,style,0,false\r\n"
    preview = service.preview_traits(changed)
    assert (preview.new, preview.changed, len(preview.unchanged)) == (("new",), ("competent",), 35)
    service.import_traits(changed)
    traits = {trait.case_id: trait for trait in service.list_traits()}
    assert traits["competent"].version == 2
    assert traits["competent"].adjective["de"] == "fähig"
    assert not traits["new"].active
    assert service.export_traits() == changed.replace(
        b",,,style", b",How {adjective} is this person?,Wie {adjective} ist diese Person?,style"
    )
    again = service.preview_traits(service.export_traits("parquet"))
    assert (again.new, again.changed) == ((), ())


def test_traits_of_a_form(service):
    draft = TraitDraft("kind", {"en": " kind ", "de": ""}, {}, "warmth", 1)
    trait_id = service.add_trait(draft)
    (trait,) = service.list_traits()
    assert (trait.id, trait.adjective) == (trait_id, {"en": "kind"})
    assert trait.question == {"en": "How {adjective} is this person?"}
    with pytest.raises(InvalidInput, match='has a trait "kind"'):
        service.add_trait(draft)
    with pytest.raises(InvalidInput, match="Nothing was imported"):
        service.edit_trait(trait_id, TraitDraft("kind", {}, {}, "", 1))
    service.set_trait_active(trait_id, False)
    assert service.list_traits(active_only=True) == []
    newer = service.edit_trait(trait_id, TraitDraft("kind", {"en": "nice"}, {}, "", 1))
    assert newer != trait_id


@pytest.mark.parametrize(
    "write",
    [
        lambda s: s.load_sample_data(),
        lambda s: s.import_personas(TABLE, "t.csv", "Lab"),
        lambda s: s.build_dataset(FactorialDesign({"a": ("b",)}), "new"),
        lambda s: s.delete_dataset(1),
        lambda s: s.import_traits(b"case_id,adjective_en,valence\na,a,1\n"),
        lambda s: s.add_trait(TraitDraft("a", {"en": "a"}, {}, "", 1)),
        lambda s: s.edit_trait(1, TraitDraft("a", {"en": "a"}, {}, "", 1)),
        lambda s: s.set_trait_active(1, False),
    ],
)
def test_read_only_refuses_every_write_and_shows_everything(store, write):
    full = DatasetService(store)
    full.load_sample_data()
    service = DatasetService(store, read_only=True)
    before = (service.list_datasets(), service.list_traits())
    with pytest.raises(ReadOnly):
        write(service)
    assert (service.list_datasets(), service.list_traits()) == before
    assert service.get_composition(2)["n_personas"] == 300
    assert service.preview_personas(service.export_personas(1)).composition["n_personas"] == 120
    assert service.preview_traits(service.export_traits()).new == ()


@pytest.fixture(scope="module")
def fuzzed(new_store, tmp_path_factory):
    store = new_store(tmp_path_factory.mktemp("fuzz"))
    yield DatasetService(store)
    store.close()


cells = st.text(st.characters(exclude_categories=("Cs",)), max_size=6) | st.sampled_from(
    ["=1+1", "'=1", "-3", "34", "200", '"', 'a"b', "a;b,c\td", "\u202eabc", "\n", "Unknown"]
)


@law
@given(
    st.lists(cells, min_size=1, max_size=4, unique_by=str.casefold),
    st.data(),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_any_table_is_imported_whole_or_not_at_all(fuzzed, names, data, delimiter, encoding):
    row = st.lists(cells, min_size=len(names), max_size=len(names))
    rows = data.draw(st.lists(row, max_size=6))
    quote = data.draw(st.booleans())

    def line(values):
        if quote:
            values = ['"' + value.replace('"', '""') + '"' for value in values]
        return delimiter.join(values)

    content = "\n".join(map(line, [names, *rows])).encode(encoding)
    try:
        dataset_id = fuzzed.import_personas(content, "t.csv", "fuzz")
    except InvalidInput:
        assert fuzzed.list_datasets() == []
    else:
        record = fuzzed.get_dataset(dataset_id)
        for file_format in ("csv", "parquet"):
            exported = fuzzed.export_personas(dataset_id, file_format)
            again = fuzzed.import_personas(exported, "t", file_format)
            assert fuzzed.get_dataset(again).content_hash == record.content_hash
        assert fuzzed.get_composition(dataset_id)["n_personas"] == record.n_personas
    for dataset in fuzzed.list_datasets():
        fuzzed.delete_dataset(dataset.id)
    with fuzzed._store.read() as session, pytest.raises(NotFound):
        datasets.get_personas(session, [1])
