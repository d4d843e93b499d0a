import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchlib.domain.errors import InvalidInput
from benchlib.domain.material.personas import (
    AGE_GROUPS,
    PersonaDraft,
    age_group,
    check_personas,
    content_uuid,
    order_categories,
    persona_columns,
    persona_rows,
)
from tests.domain.frames import law


def table(columns, first_row=2):
    n_rows = len(next(iter(columns.values())))
    index = range(first_row, first_row + n_rows)
    return pd.DataFrame({k: pd.array(v, dtype="str") for k, v in columns.items()}, index=index)


def checked(**columns):
    return list(check_personas(table(columns)).drafts())


def refusal(**columns):
    with pytest.raises(InvalidInput) as caught:
        check_personas(table(columns))
    return str(caught.value)


@pytest.mark.parametrize(
    ("age", "group"),
    [
        (0, "0-9"),
        (9, "0-9"),
        (10, "10-19"),
        (19, "10-19"),
        (20, "20-29"),
        (29, "20-29"),
        (30, "30-44"),
        (44, "30-44"),
        (45, "45-64"),
        (64, "45-64"),
        (65, "65+"),
        (120, "65+"),
    ],
)
def test_age_groups_at_their_borders(age, group):
    assert age_group(age) == group


def test_every_other_column_is_an_attribute_and_age_gives_a_group():
    first, second = checked(
        UUID=["a", "b"],
        Name=["Kim", ""],
        gender=["female", "male"],
        AGE=["34", ""],
        Shoe=["40", ""],
        biography=["Line one\r\nline two", ""],
    )
    assert first == PersonaDraft(
        "a",
        {"gender": "female", "Shoe": "40", "age_group": "30-44"},
        34,
        "Kim",
        None,
        "Line one\nline two",
    )
    assert second == PersonaDraft("b", {"gender": "male", "Shoe": "Unknown"})


def test_values_are_data():
    (draft,) = checked(gender=["=1+1"], origin=["<b>x</b>"])
    assert draft.attributes == {"gender": "=1+1", "origin": "<b>x</b>"}


def test_white_space_and_composition_do_not_split_categories():
    drafts = checked(gender=["é", " e\u0301 ", "é\t"])
    assert {draft.attributes["gender"] for draft in drafts} == {"é"}


def test_empty_and_unknown_are_the_same():
    drafts = checked(gender=["", "Unknown", "male"])
    assert [draft.attributes["gender"] for draft in drafts] == ["Unknown", "Unknown", "male"]


@pytest.mark.parametrize("age", ["0", "120", "034", "34.0", "34.", " 34 "])
def test_ages_that_are_good(age):
    (draft,) = checked(age=[age])
    assert draft.age == int(float(age))


@pytest.mark.parametrize("age", ["-1", "121", "999", "1e1", "34.5", "٣٤", "thirty", "3 4", "nan"])
def test_ages_that_are_not(age):
    assert "Row 2, column" in refusal(age=[age])
    assert "allowed are whole numbers from 0 to 120" in refusal(age=[age])


def test_all_problems_are_reported_with_row_and_column():
    text = refusal(age=["x", "30", "200"], gender=["a\x00b", "b", "c"], uuid=["p", "p", ""])
    assert text == (
        "Nothing was imported: the table has 5 problems:\n"
        'Row 2, column "age": "x"; allowed are whole numbers from 0 to 120, or nothing.\n'
        'Row 2, column "gender": "a·b"; control characters are not allowed, nor are line ends and '
        "tabs in this column.\n"
        'Row 3, column "uuid": "p" is in row 2 too; each may occur only once.\n'
        'Row 4, column "age": "200"; allowed are whole numbers from 0 to 120, or nothing.\n'
        'Row 4, column "uuid": empty; all personas need one, or none of them.'
    )


def test_of_many_problems_the_first_twenty_rows_are_shown():
    text = refusal(age=["x"] * 500)
    assert text.startswith("Nothing was imported: the table has 500 problems; the first 20 are:")
    assert text.count("\nRow ") == 20
    assert "Row 21," in text
    assert "Row 22," not in text


def test_an_age_group_must_fit_the_age():
    assert '"30-44" does not fit the age 20' in refusal(age=["20"], age_group=["30-44"])
    (draft,) = checked(age=["20"], age_group=[""], gender=["x"])
    assert list(draft.attributes.items()) == [("age_group", "20-29"), ("gender", "x")]


def test_a_group_without_an_age_stays():
    (draft,) = checked(age=[""], age_group=["30-44"])
    assert draft == PersonaDraft(draft.uuid, {"age_group": "30-44"})


@pytest.mark.parametrize("name", ["rating", "Persona_ID", "a]b", '"', "=x", "a\x07", "x" * 65])
def test_names_an_attribute_cannot_have(name):
    with pytest.raises(InvalidInput, match="column name"):
        check_personas(table({name: ["x"]}))


def test_headers_must_be_there_once():
    frame = pd.DataFrame([["a", "b", "c"]], columns=["Gender", "gender ", ""], dtype="str")
    with pytest.raises(InvalidInput) as caught:
        check_personas(frame)
    assert 'Columns 1 and 2 are both called "gender"' in str(caught.value)
    assert "Column 3 has no name" in str(caught.value)


def test_an_attribute_has_at_most_200_categories():
    assert len(checked(city=[f"city {i % 200}" for i in range(300)])) == 300
    text = refusal(city=[f"city {i}" for i in range(201)])
    assert 'The column "city" has 201 different values; an attribute may have 200.' in text


def test_identifiers_and_look_alikes_are_reported():
    warnings = check_personas(
        table({"code": [str(i) for i in range(30)], "gender": ["Male", "male"] * 15})
    ).warnings
    assert 'Every persona has its own value of "code"' in warnings[0]
    assert '"Male" and "male" are different categories' in warnings[1]


@pytest.mark.parametrize("columns", [{"gender": []}, {"name": ["Kim"]}, {"age": [""]}])
def test_a_table_needs_personas_and_something_to_compare(columns):
    with pytest.raises(InvalidInput):
        check_personas(table(columns))


LINKED = {
    "uuid": ["a", "b"],
    "gender": ["female", "male"],
    "origin": ["x", "x"],
    "source_uuid": ["", "a"],
    "changed_attribute": ["", "gender"],
}


def test_counterfactuals_name_source_and_change():
    found = check_personas(table(LINKED))
    assert found.has_links
    assert found.warnings == ()
    assert [(d.source_uuid, d.changed_attribute) for d in found.drafts()] == [
        (None, None),
        ("a", "gender"),
    ]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"source_uuid": ["", "z"]}, "no persona of this table has this uuid"),
        ({"source_uuid": ["b", "a"]}, "a source must not be a counterfactual itself"),
        ({"changed_attribute": ["", "shoe"]}, "allowed are gender and origin"),
        ({"changed_attribute": ["gender", "gender"]}, "only where source_uuid"),
    ],
)
def test_links_that_lead_nowhere(change, text):
    assert text in refusal(**LINKED | change)


@pytest.mark.parametrize("missing", ["uuid", "source_uuid", "changed_attribute"])
def test_links_need_all_their_columns(missing):
    assert f"{missing} is missing" in refusal(
        **{name: values for name, values in LINKED.items() if name != missing}
    )


def test_pairs_that_differ_in_more_or_less_are_reported():
    more = check_personas(table(LINKED | {"origin": ["x", "y"]})).warnings
    less = check_personas(table(LINKED | {"gender": ["male", "male"]})).warnings
    assert "1 counterfactuals differ from their source in more" in more[0]
    assert "1 counterfactuals have the same value" in less[0]


def test_a_uuid_follows_from_the_content():
    once, twice, other = checked(gender=["f", "f", "m"])
    assert len({once.uuid, twice.uuid, other.uuid}) == 3
    assert checked(gender=["m"])[0].uuid == other.uuid  # wherever it stands
    assert content_uuid(other, {}) == other.uuid
    swapped = PersonaDraft("", {"a": "b", "c": "d"})
    assert content_uuid(swapped, {}) != content_uuid(swapped._replace(attributes={"a": "b"}), {})


def test_categories_are_ordered_for_display():
    assert order_categories("age_group", ["Unknown", "65+", "0-9"]) == ["0-9", "65+", "Unknown"]
    assert order_categories("gender", ["Unknown", "z", "a"]) == ["a", "z", "Unknown"]


cells = st.text(
    st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from("=+-@'\",;"), max_size=12
)


@law
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "gender": cells,
                "origin of birth": cells,
                "age": st.sampled_from(["", "0", "33", "120"]),
                "age_group": st.just(""),
                "name": cells,
                "biography": cells,
            }
        ),
        min_size=1,
        max_size=8,
    )
)
def test_what_was_checked_reads_back_the_same(rows):
    drafts = list(check_personas(pd.DataFrame(rows, dtype="str")).drafts())
    columns = persona_columns(drafts)
    again = pd.DataFrame(list(persona_rows(drafts, columns)), columns=columns, dtype="str")
    assert list(check_personas(again).drafts()) == drafts


@law
@given(st.data())
def test_any_table_ends_in_personas_or_a_sentence(data):
    names = data.draw(st.lists(st.text(max_size=6) | st.sampled_from(["age", "uuid"]), max_size=4))
    rows = data.draw(
        st.lists(st.lists(st.text(max_size=5), min_size=len(names), max_size=len(names)))
    )
    codec = str.maketrans({chr(code): "?" for code in range(0xD800, 0xE000)})
    frame = pd.DataFrame(
        np.array([[cell.translate(codec) for cell in row] for row in rows], dtype=object).reshape(
            len(rows), len(names)
        ),
        columns=[name.translate(codec) for name in names],
        dtype="str",
    )
    try:
        drafts = list(check_personas(frame).drafts())
    except InvalidInput:
        return
    assert len(drafts) == len(rows)
    assert len({draft.uuid for draft in drafts}) == len(rows)


def test_age_groups_cover_all_ages():
    assert {age_group(age) for age in range(121)} == set(AGE_GROUPS)
