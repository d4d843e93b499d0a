import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchlib.domain.material.text_tables import guard_formula, unguard_formula
from tests.domain.frames import law

STARTS = ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"]

odd = st.text(
    st.characters(exclude_categories=("Cs",)) | st.sampled_from("'=+-@;,\t\"\r\n＝"), max_size=8
)


@pytest.mark.parametrize("start", STARTS)
def test_a_text_that_a_spreadsheet_might_run_gets_a_quote(start):
    assert guard_formula(f"{start}1") == f"'{start}1"
    assert guard_formula(f"1{start}1") == f"1{start}1"
    # Else this text and the one before would read back the same.
    assert guard_formula(f"'{start}1") == f"''{start}1"


@law
@given(odd)
def test_guarding_can_be_undone(text):
    guarded = guard_formula(text)
    assert unguard_formula(guarded) == text
    assert not guarded.startswith(tuple(STARTS))
