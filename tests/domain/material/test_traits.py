import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchlib.domain.errors import InvalidInput
from benchlib.domain.material.traits import (
    DEFAULT_QUESTIONS,
    TRAIT_COLUMNS,
    TraitDraft,
    check_trait,
    check_traits,
    same_wording,
    trait_row,
    traits_hash,
)
from benchlib.domain.records import TraitRecord
from tests.domain.frames import law

KIND = TraitDraft(
    "kind",
    {"en": "kind", "de": "nett"},
    {"en": "How {adjective} is this person?", "de": "Wie {adjective} ist diese Person?"},
    "warmth",
    1,
)


def check(**columns):
    return check_traits(
        pd.DataFrame(columns, dtype="str", index=range(2, 2 + len(columns["case_id"])))
    )


def refusal(**columns):
    with pytest.raises(InvalidInput) as caught:
        check(**columns)
    return str(caught.value)


def test_a_table_of_few_columns_is_filled_up():
    (trait,) = check(case_id=["kind"], adjective_en=["kind"], valence=["+1"])
    assert trait == TraitDraft(
        "kind", {"en": "kind"}, {"en": DEFAULT_QUESTIONS["en"]}, "Unknown", 1, True
    )


@pytest.mark.parametrize(
    ("text", "valence"), [("1", 1), ("+1", 1), ("1.0", 1), ("0", 0), ("-1", -1), ("-1.0", -1)]
)
def test_valences(text, valence):
    assert check(case_id=["a"], adjective_de=["x"], valence=[text])[0].valence == valence


def test_all_problems_are_reported():
    text = refusal(
        case_id=["kind", "kind", "<b>"],
        adjective_en=["kind", "", "x"],
        question_en=["How?", "", "{adjective} {adjective}"],
        valence=["2", "", "1"],
        active=["maybe", "", "no"],
    )
    for part in (
        "the table has 8 problems",
        'Row 2, column "question_en": "How?"; a question holds {adjective} exactly once',
        'Row 2, column "valence": "2"; allowed are 1 (favourable), -1 (unfavourable)',
        'Row 2, column "active": "maybe"; allowed are true and false',
        'Row 3, column "case_id": "kind" is in row 2 too',
        'Row 3, column "adjective_en": empty; a trait needs an adjective',
        'Row 3, column "valence": empty',
        'Row 4, column "case_id": "<b>"; use letters, digits',
    ):
        assert part in text


def test_unknown_and_missing_columns_are_named():
    assert 'The column "colour" is not known' in refusal(
        case_id=["a"], adjective_en=["a"], valence=["1"], colour=["x"]
    )
    text = refusal(case_id=["a"])
    assert "The column valence is missing" in text
    assert "A column adjective_en or adjective_de is missing" in text


def test_a_form_is_checked_by_the_same_rules():
    assert check_trait(KIND) == KIND
    with pytest.raises(InvalidInput, match="exactly once"):
        check_trait(TraitDraft("a", {"en": "a"}, {"en": "How?"}, "", 1))


def test_the_hash_is_over_content_only():
    record = TraitRecord(7, "kind", KIND.adjective, KIND.question, "warmth", 1, False, 3)
    assert same_wording(record, KIND)
    assert traits_hash([record]) == traits_hash([KIND])
    swapped = TraitDraft("kind", dict(reversed(KIND.adjective.items())), KIND.question, "warmth", 1)
    assert traits_hash([swapped]) == traits_hash([KIND])
    assert traits_hash([TraitDraft("kind", KIND.adjective, KIND.question, "warmth", -1)]) != (
        traits_hash([KIND])
    )
    assert traits_hash([]) != traits_hash([KIND])


words = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=10).filter(
    lambda text: text.strip() == text
)


@law
@given(
    st.lists(
        st.builds(
            TraitDraft,
            st.from_regex(r"[a-z][a-z0-9 .-]{0,8}[a-z0-9]", fullmatch=True),
            st.fixed_dictionaries({"en": words, "de": words}),
            st.just(DEFAULT_QUESTIONS),
            words,
            st.sampled_from([-1, 0, 1]),
            st.booleans(),
        ),
        min_size=1,
        max_size=6,
        unique_by=lambda trait: trait.case_id,
    )
)
def test_what_was_checked_reads_back_the_same(drafts):
    def through(traits):
        rows = [trait_row(trait) for trait in traits]
        return check_traits(pd.DataFrame(rows, columns=list(TRAIT_COLUMNS), dtype="str"))

    once = through(drafts)
    assert through(once) == once
    assert [trait.case_id for trait in once] == [trait.case_id for trait in drafts]
