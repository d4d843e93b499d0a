"""Files of any kind: a table is imported whole and as it is, or refused and nothing is stored."""

import csv
import io
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import inspect, text

from benchlib.application.dataset_service import DatasetService
from benchlib.domain.errors import InvalidInput
from benchlib.domain.material.text_tables import clean_text, unguard_formula
from benchlib.infrastructure.storage import datasets
from tests.domain.frames import law

cells = st.text(st.characters(exclude_categories=("Cs",)), max_size=4) | st.sampled_from(
    [
        *(
            "female",
            "",
            "",
            "Unknown",
            "a,b",
            "a;b\tc",
            '"',
            'x"y',
            "two\nlines",
            "\r",
            "'",
            "NULL",
        ),
        *("=cmd|' /C calc'!A0", "+1+1", "-1", "@SUM(A1)", "\t=1", "'=1", "＝1", "=HYPERLINK(1)"),
        *("\u202etxt.exe", "a\u200bb", "\ufeff", "e\u0301", "ﷺ", "💥", "\u2028", "שלום", "Łódź"),
        *("\x00", "\x1b[31mred", "\x07", "\x85", "x" * 300, "{0.__class__}", "{{ 7*7 }}", "${x}"),
    ]
)
sound_names = st.sampled_from(["gender", "origin", "größe", "a.b", "Straße 1"])
names = sound_names | st.sampled_from(
    ["", "gender", "GENDER", "run_id", "=SUM(A1)", "a\u202eb", "<b>", "age", "uuid", "x" * 99]
)


@st.composite
def tables(draw):
    """Names and rows; the names are sound more often than not."""
    columns = draw(
        st.lists(sound_names, min_size=1, max_size=4, unique=True) | st.lists(names, max_size=4)
    )
    width = len(columns)
    rows = draw(st.lists(st.lists(cells, min_size=width, max_size=width), max_size=5))
    return columns, rows


damage = st.sampled_from(["none", "none", "none", "cut", "flip", "nul", "ragged", "twice"])


def damaged(content, how, data):
    """A file after something happened to it."""
    if how == "none" or not content:
        return content
    place = data.draw(st.integers(0, len(content) - 1))
    if how == "cut":
        return content[:place]
    if how == "flip":
        return content[:place] + bytes([data.draw(st.integers(0, 255))]) + content[place + 1 :]
    if how == "nul":
        return content[:place] + b"\0\0" + content[place:]
    if how == "twice":
        return content + content
    return content + b"\nand,one,more,row,of,six"


@pytest.fixture(scope="module")
def service(new_store, tmp_path_factory):
    store = new_store(tmp_path_factory.mktemp("files"))
    yield DatasetService(store)
    store.close()


def counts(service):
    """Rows of every table of the store, but the record of who did what, which only grows."""
    with service._store.read() as session:
        connection = session.connection()
        return {
            table: connection.execute(text(f'SELECT COUNT(*) FROM "{table}"')).scalar()
            for table in inspect(connection).get_table_names()
            if table != "auditentry"
        }


def imported(service, content, encoding=None):
    """The attributes of what was imported; None if it was refused, and then nothing is left."""
    before = counts(service)
    try:
        dataset_id = service.import_personas(content, "f", "fuzz", encoding=encoding)
    except InvalidInput:
        assert counts(service) == before
        return None
    found = [draft.attributes for draft in datasets.iter_drafts(service._store, dataset_id)]
    for kind in ("csv", "parquet"):  # what was imported leaves and comes back as it is
        again = service.import_personas(service.export_personas(dataset_id, kind), "f", kind)
        assert (
            service.get_dataset(again).content_hash == service.get_dataset(dataset_id).content_hash
        )
        service.delete_dataset(again)
    service.delete_dataset(dataset_id)
    assert counts(service) == before
    return found


def expected(columns, rows, undo=unguard_formula):
    return [
        {
            clean_text(undo(name)): clean_text(undo(cell)) or "Unknown"
            for name, cell in zip(columns, row, strict=True)
        }
        for row in rows
    ]


@law
@given(
    tables(),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1", "cp1252"]),
    st.booleans(),
    damage,
    st.data(),
)
def test_any_csv(service, table, delimiter, quoting, encoding, declared, how, data):
    columns, rows = table
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter, quoting=quoting)
    writer.writerows([columns, *rows])
    written = buffer.getvalue().encode(encoding, errors="replace")
    content = damaged(written, how, data)
    found = imported(service, content, encoding if declared else None)
    marked = encoding in ("utf-8", "utf-8-sig", "utf-16")
    if found is None or content != written or not (declared or marked):
        return
    readable = [[cell.encode(encoding, "replace").decode(encoding) for cell in row] for row in rows]
    wanted = expected(columns, [row for row in readable if any(row)])
    if not {"age", "uuid"} & set(columns):
        assert found == wanted


kinds = st.sampled_from(["text", "large", "dictionary", "bytes", "list", "nested", "date", "view"])


def column(kind, values):
    made = pa.array(values, pa.string())
    if kind == "large":
        return made.cast(pa.large_string())
    if kind == "dictionary":
        return made.dictionary_encode()
    if kind == "bytes":
        return made.cast(pa.binary())
    if kind == "list":
        return pa.array([[value] for value in values], pa.list_(pa.string()))
    if kind == "nested":
        return pa.array([{"a": value} for value in values], pa.struct({"a": pa.string()}))
    if kind == "date":
        return pa.array([0] * len(values), pa.timestamp("ms"))
    return made.cast(pa.string_view()) if kind == "view" else made


@law
@given(tables(), st.lists(kinds, min_size=4, max_size=4), st.booleans(), damage, st.data())
def test_any_parquet(service, table, chosen, packed, how, data):
    columns, rows = table
    cells_of = [[row[place] for row in rows] for place in range(len(columns))]
    if data.draw(st.booleans()):
        chosen = ["text", "large", "dictionary", "text"]
    made = pa.table(
        [column(kind, values) for kind, values in zip(chosen, cells_of, strict=False)],
        names=columns,
    )
    buffer = io.BytesIO()
    pq.write_table(made, buffer, use_dictionary=packed, compression="zstd" if packed else "none")
    content = damaged(buffer.getvalue(), how, data)
    found = imported(service, content)
    if found is not None and content == buffer.getvalue() and not {"age", "uuid"} & set(columns):
        assert found == expected(columns, rows, undo=str)


@law
@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"PAR1", b"gender\n", b"\xff\xfe", b"\xef\xbb\xbf"]),
)
def test_any_bytes(service, content, start):
    imported(service, start + content)


@law
@given(
    st.lists(
        st.tuples(cells, cells, cells, st.sampled_from(["1", "0", "-1", "2", ""])), max_size=4
    ),
    damage,
    st.data(),
)
def test_any_traits(service, rows, how, data):
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerows([["case_id", "adjective_en", "question_en", "valence"], *rows])
    before, catalogue = counts(service), service.list_traits()
    try:
        service.import_traits(damaged(buffer.getvalue().encode(), how, data))
    except InvalidInput:
        assert counts(service) == before
        assert service.list_traits() == catalogue
        return
    again = service.preview_traits(service.export_traits())
    assert (again.new, again.changed) == ((), ())


BOMBS = """
import io, resource
import pyarrow as pa, pyarrow.parquet as pq
from benchlib.domain.errors import InvalidInput
from benchlib.infrastructure.table_files import read_table

def parquet(columns, times=1, **options):
    table = pa.table(columns)
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, table.schema, compression="zstd", **options) as writer:
        for _ in range(times):
            writer.write_table(table)
    return buffer.getvalue()

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

one = pa.array([0] * 1_000_000, pa.int32())
long = pa.array(["x" * 50_000])
bombs = {
    "one text in a million rows": parquet({"x": pa.DictionaryArray.from_arrays(one, long)}),
    "plain, well compressed": parquet({"x": long.take(one[:200])}, 150, use_dictionary=False),
    "two hundred columns": parquet({f"c{i}": one for i in range(200)}),
    "twenty million rows": parquet({"x": pa.nulls(20_000_000)}),
}
read_table(parquet({"x": ["a"]}))
for name, content in bombs.items():
    before = peak()
    try:
        read_table(content)
        verdict = "was read"
    except InvalidInput as refusal:
        verdict = str(refusal)
    print(f"{name}|{len(content) / 2**20:.1f}|{peak() - before:.0f}|{verdict}")
"""


def test_a_small_file_that_unpacks_to_gigabytes_costs_nothing():
    told = subprocess.run(
        [sys.executable, "-c", BOMBS],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line.split("|") for line in told.stdout.splitlines()]
    assert len(lines) == 4
    for name, size, grown, verdict in lines:
        assert verdict != "was read", name
        assert float(size) < 20, name
        assert float(grown) < 200, (name, grown, verdict)
