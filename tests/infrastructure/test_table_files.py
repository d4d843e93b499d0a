import io

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchlib.domain.errors import InvalidInput
from benchlib.infrastructure import table_files
from benchlib.infrastructure.table_files import (
    read_table,
    write_csv,
    write_parquet,
)
from tests.domain.frames import law

TEXT = "name;größe\nJörg;groß\nŁukasz;mały\n"


def rows(content, encoding=None):
    frame = read_table(content, encoding).frame
    return [list(frame.columns), *frame.to_numpy().tolist()]


def refusal(content, encoding=None):
    with pytest.raises(InvalidInput) as caught:
        read_table(content, encoding)
    return str(caught.value)


def parquet(table, **options):
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("written", "named"),
    [
        ("utf-8", None),
        ("utf-8-sig", None),
        ("utf-8-sig", "cp1252"),  # the mark in the file counts more
        ("utf-16", None),
        ("utf-32", None),
        ("utf-16-le", "utf-16-le"),
        ("cp1250", "windows-1250"),
        ("iso8859-2", "latin2"),
    ],
)
def test_encodings(written, named):
    assert rows(TEXT.encode(written), named) == [
        ["name", "größe"],
        ["Jörg", "groß"],
        ["Łukasz", "mały"],
    ]


def test_a_wrong_encoding_is_reported_with_its_line():
    assert "The file is not utf-8 in line 1 (byte 0xf6)" in refusal("größe\n".encode("cp1252"))
    assert "not utf-8 in line 3" in refusal(b"name\nx\n\xff\n")


@pytest.mark.parametrize(
    "name",
    ["zlib", "rot13", "cp437", "punycode", "unicode_escape", "nonsense", "x" * 99, "\x00", "idna"],
)
def test_only_encodings_of_texts_are_taken(name):
    assert "is no known encoding" in refusal(b"name\nx\n", name)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_delimiters_and_line_ends(delimiter, line_end):
    text = line_end.join([delimiter.join(["a", "b"]), delimiter.join(['"x,;\t""y"""', "2"]), ""])
    assert rows(text.encode()) == [["a", "b"], ['x,;\t"y"', "2"]]


def test_a_single_column_needs_no_delimiter():
    assert rows(b"gender\nfemale\n") == [["gender"], ["female"]]


def test_rows_are_numbered_as_a_spreadsheet_does():
    frame = read_table(b'a,b\n1,"two\nlines"\n,\n\n3,4\n').frame
    assert frame.index.tolist() == [2, 5]
    assert frame.to_numpy().tolist() == [["1", "two\nlines"], ["3", "4"]]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "empty"),
        (b" \n\n ", "empty"),
        (b"a,b\n1\n1,2,3\n", "Row 2 has 1 cells, the row of names 2."),
        (b"a,b\n1\n1,2,3\n", "Row 3 has 3 cells, the row of names 2."),
        (b'a,b\n1,"open\n', "never closed"),
        (b'a,b\n1,"x"y\n', "follows a closing double quote"),
        (b"a\n" + b"x" * 200_000, "more than 131,072 characters"),
        (b"a" + b",a" * 300, "301 columns; at most 200"),
        (b"PK\x03\x04rest", "spreadsheet or ZIP"),
        (b"\x1f\x8brest", "gzip"),
        (b"PAR1 and no more", "Parquet file is damaged"),
    ],
)
def test_files_that_cannot_be_read(content, text):
    assert text in refusal(content)


def test_limits_of_size_and_rows(monkeypatch):
    monkeypatch.setattr(table_files, "MAX_ROWS", 3)
    assert len(rows(b"a\n1\n2\n3\n")) == 4
    assert "more than 3 rows" in refusal(b"a\n1\n2\n3\n4\n")
    table = pa.table({"a": ["1", "2", "3", "4"]})
    assert "more than 3 rows" in refusal(parquet(table))
    monkeypatch.setattr(table_files, "MAX_FILE_BYTES", 2**20)
    assert "The file has 2 MiB; at most 1 are allowed" in refusal(b"a\n" + b"x\n" * 2**20)


def test_parquet_of_other_programs():
    frame = pd.DataFrame(
        {
            "age": [34.0, None],
            "n": [1, 2],
            "ok": [True, None],
            "c": pd.Categorical(["x", None]),
            "s": ["=1", "'=1"],
            "none": [None, None],
        },
        index=[7, 9],
    )
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    assert rows(buffer.getvalue()) == [
        ["age", "n", "ok", "c", "s", "none"],
        ["34", "1", "true", "x", "=1", ""],
        ["", "2", "", "", "'=1", ""],
    ]


@pytest.mark.parametrize(
    "column",
    [pa.array([[1]]), pa.array([b"\xff"]), pa.array([{"a": 1}]), pa.array([0], pa.date32())],
)
def test_parquet_holds_texts_and_numbers_only(column):
    assert 'The column "x" holds' in refusal(parquet(pa.table({"x": column})))


def test_invalid_texts_in_parquet_are_refused():
    broken = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff\xfe"]).buffers())
    assert "damaged" in refusal(parquet(pa.table({"x": broken})))


def test_a_decompression_bomb_is_refused_before_it_is_unpacked(monkeypatch):
    monkeypatch.setattr(table_files, "MAX_UNPACKED_BYTES", 2**20)
    # Stored as it is, compressed well: the size is in the file.
    plain = pa.table({"x": [f"{i:06}" + "x" * 500 for i in range(4_000)]})
    bomb = parquet(plain, compression="zstd", use_dictionary=False)
    assert len(bomb) < 100_000
    assert "unpacks to more than" in refusal(bomb)
    # One long text in many rows: the size is nowhere.
    packed = parquet(pa.table({"x": ["x" * 10_000] * 4_000}), use_dictionary=True)
    assert len(packed) < 20_000
    assert "unpacks to more than" in refusal(packed)


def test_formulas_are_guarded_in_csv():
    written = write_csv(["name", "n"], [["=1+1", "-1"], ["@x", "+4.5"], ["plain", "-x"]])
    # A signed number is no formula, and other programs must read it as a number.
    assert written.decode("utf-8-sig").split("\r\n")[1:-1] == [
        "'=1+1,-1",
        "'@x,+4.5",
        "plain,'-x",
    ]
    assert rows(written) == [["name", "n"], ["=1+1", "-1"], ["@x", "+4.5"], ["plain", "-x"]]


odd = st.text(
    st.characters(exclude_categories=("Cs",)) | st.sampled_from("'=+-@;,\t\"\r\n＝"), max_size=8
)


@law
@given(
    st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(odd, min_size=n, max_size=n), min_size=2))
)
def test_what_is_written_reads_back(table):
    names = [f"{place}{name}" for place, name in enumerate(table[0])]
    # A row without any text is no row.
    cells = [row for row in table[1:] if any(row)]
    if not cells:
        return
    assert rows(write_csv(names, cells)) == [names, *cells]
    assert rows(write_parquet(names, cells)) == [names, *cells]


@law
@given(st.binary(max_size=300), st.sampled_from([None, "utf-16", "cp1252", "shift_jis"]))
def test_any_bytes_end_in_a_table_or_a_sentence(content, encoding):
    try:
        frame = read_table(content, encoding).frame
    except InvalidInput:
        return
    assert all(isinstance(cell, str) for row in frame.to_numpy().tolist() for cell in row)


@law
@given(st.data())
def test_damaged_parquet_ends_in_a_table_or_a_sentence(data):
    whole = bytearray(write_parquet(["a", "b"], [["x", "y"], ["z", ""]] * 30))
    for _ in range(data.draw(st.integers(1, 5))):
        whole[data.draw(st.integers(4, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        read_table(bytes(whole))
    except InvalidInput:
        return
