"""Tables as files: CSV and Parquet to a frame of texts, and back.

Reading any file ends with a frame or with InvalidInput.
"""

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchlib.domain.errors import InvalidInput
from benchlib.domain.material.text_tables import guard_formula, unguard_formula

MAX_FILE_BYTES: Final = 400 * 2**20
MAX_ROWS: Final = 1_000_000
MAX_COLUMNS: Final = 200
MAX_UNPACKED_BYTES: Final = 2**30
"""Limit on the unpacked size of a compressed file."""

ENCODINGS: Final = (
    *("utf-8", "utf-16", "utf-16-le", "utf-16-be"),
    *("latin-1", "iso8859-2", "iso8859-15", "cp1250", "cp1251", "cp1252", "cp1254", "mac-roman"),
    *("gb18030", "shift_jis", "euc_kr"),
)
"""Encodings a user may name; the import form offers most of them."""

_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16: it begins with the same mark
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DELIMITERS: Final = (",", ";", "\t")
_DELIMITER_NAMES: Final = {",": "comma", ";": "semicolon", "\t": "tab"}
_MAX_CELL: Final = 131_072  # in characters; the csv module's own limit, which is process-wide
_CHUNK: Final = 20_000
_CELL_BYTES: Final = 8
"""Least memory a cell takes, even if empty: the offset of its text."""
_NUMBER: Final = re.compile(r"[+-]?[0-9]+([.,][0-9]+)?", re.ASCII)
_OTHER_KINDS: Final = (
    (b"PK\x03\x04", "is a spreadsheet or ZIP archive; save the table as CSV"),
    (b"\xd0\xcf\x11\xe0", "is a spreadsheet; save the table as CSV"),
    (b"\x1f\x8b", "is compressed with gzip; unpack it"),
    (b"%PDF", "is a PDF document; save the table as CSV"),
)


@dataclass(frozen=True, slots=True, eq=False)
class TableFile:
    """What was read from a file.

    Attributes:
        frame: Texts only. The index counts rows as the user sees them: in CSV the row of names is
            row 1; in Parquet the first record is row 1.
        form: How the file was understood ("CSV, utf-8, semicolon").
    """

    frame: pd.DataFrame
    form: str


def read_table(content: bytes, encoding: str | None = None) -> TableFile:
    """Read a CSV or Parquet file.

    Args:
        content: The file; Parquet is recognised by its first bytes, anything else is read as CSV.
        encoding: Of a CSV file without a byte order mark; None = UTF-8.

    Raises:
        InvalidInput: The file is too large, damaged, of another kind, or not in this encoding.
    """
    if len(content) > MAX_FILE_BYTES:
        raise InvalidInput(
            f"The file has {len(content) / 2**20:,.0f} MiB; at most "
            f"{MAX_FILE_BYTES // 2**20} are allowed. Split it, or save it as Parquet."
        )
    if not content or content.isspace():
        raise InvalidInput("The file is empty; it needs a row of names and one row per record.")
    if content.startswith(b"PAR1"):
        return _read_parquet(content)
    for magic, what in _OTHER_KINDS:
        if content.startswith(magic):
            raise InvalidInput(f"The file {what} first.")
    return _read_csv(content, encoding)


def write_csv(names: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    """A CSV file in UTF-8 with the mark that spreadsheets expect; no cell runs as a formula."""
    buffer = io.StringIO()
    # With all names quoted, the delimiter is found again whatever they contain.
    csv.writer(buffer, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerow(names)
    guard = lru_cache(_CHUNK)(_csv_cell)
    csv.writer(buffer, lineterminator="\r\n").writerows(map(guard, row) for row in rows)
    return codecs.BOM_UTF8 + buffer.getvalue().encode()


def write_parquet(names: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    """A Parquet file of texts."""
    schema = pa.schema([(name, pa.string()) for name in names])
    buffer = io.BytesIO()
    source = iter(rows)
    with pq.ParquetWriter(buffer, schema, compression="zstd") as writer:
        while chunk := list(islice(source, _CHUNK)):
            columns = [pa.array(cells, pa.string()) for cells in zip(*chunk, strict=True)]
            writer.write_table(pa.table(columns, schema=schema))
    return buffer.getvalue()


def _csv_cell(text: str) -> str:
    """The text, guarded unless it is a number: other programs must read those as numbers."""
    return text if _NUMBER.fullmatch(text) else guard_formula(text)


def _read_csv(content: bytes, encoding: str | None) -> TableFile:
    encoding = _choose_encoding(content, encoding)
    try:
        delimiter = _choose_delimiter(content, encoding)
        reader = csv.reader(_text_of(content, encoding), delimiter=delimiter, strict=True)
        rows = enumerate(reader, 1)
        names = next((row for _, row in rows if any(row)), [])
        if len(names) > MAX_COLUMNS:
            raise InvalidInput(
                f"The file has {len(names):,} columns; at most {MAX_COLUMNS} are allowed."
            )
        return TableFile(_csv_frame(names, rows), f"CSV, {encoding}, {_DELIMITER_NAMES[delimiter]}")
    except UnicodeError as error:
        raise InvalidInput(_wrong_encoding(content, encoding, error)) from None
    except csv.Error as error:
        raise InvalidInput(_csv_problem(str(error))) from None


def _choose_encoding(content: bytes, encoding: str | None) -> str:
    for mark, name in _BOMS:
        if content.startswith(mark):
            return name
    if not encoding:
        return "utf-8"
    try:
        wanted = codecs.lookup(encoding).name
    except (LookupError, ValueError):
        wanted = ""
    if wanted not in {codecs.lookup(name).name for name in ENCODINGS} | {"utf-8-sig"}:
        raise InvalidInput(
            f"{encoding[:40]!r} is no known encoding; use one of {', '.join(ENCODINGS)}."
        )
    return wanted


def _text_of(content: bytes, encoding: str) -> io.TextIOWrapper:
    # Decoded while it is read, so that a million rows are not in memory twice.
    return io.TextIOWrapper(io.BytesIO(content), encoding=encoding, errors="strict", newline="")


def _choose_delimiter(content: bytes, encoding: str) -> str:
    """The delimiter that splits the row of names into most columns."""

    def width(delimiter: str) -> int:
        reader = csv.reader(_text_of(content, encoding), delimiter=delimiter, strict=True)
        try:
            return len(next(filter(any, reader), []))
        except csv.Error:
            return 0

    return max(_DELIMITERS, key=width)


def _csv_frame(names: Sequence[str], rows: Iterator[tuple[int, list[str]]]) -> pd.DataFrame:
    numbers: list[np.ndarray[Any, Any]] = []
    chunks: list[list[pa.Array]] = [[] for _ in names]
    uneven: list[str] = []
    n_rows = 0
    filled = ((number, row) for number, row in rows if any(row))
    while chunk := list(islice(filled, _CHUNK)):
        n_rows += len(chunk)
        if n_rows > MAX_ROWS:
            raise InvalidInput(
                f"The file has more than {MAX_ROWS:,} rows; split it into several datasets."
            )
        for number, row in chunk:
            if len(row) != len(names):
                uneven.append(f"Row {number} has {len(row)} cells, the row of names {len(names)}.")
        if len(uneven) >= 20:
            break
        if not uneven:
            numbers.append(np.array([number for number, _ in chunk]))
            for place, cells in enumerate(zip(*(row for _, row in chunk), strict=True)):
                chunks[place].append(_unguarded(cells))
    if uneven:
        raise InvalidInput(
            "\n".join(
                [
                    "Nothing was imported: every row needs as many cells as there are names; put "
                    "a cell that holds the delimiter into double quotes.",
                    *uneven[:20],
                ]
            )
        )
    index = np.concatenate(numbers) if numbers else np.array([], dtype=np.int64)
    return _frame(
        [unguard_formula(name) for name in names],
        [pa.chunked_array(parts, pa.large_string()) for parts in chunks],
        pd.Index(index),
    )


def _unguarded(cells: Sequence[str]) -> pa.Array:
    column = pa.array(cells, pa.large_string())
    if not pc.any(pc.starts_with(column, "'")).as_py():
        return column
    return pa.array(map(unguard_formula, cells), pa.large_string())


def _frame(
    names: Sequence[str], columns: Sequence[pa.ChunkedArray], index: pd.Index
) -> pd.DataFrame:
    # Names may repeat here; the check of the table reports it.
    table = pa.table(list(columns), names=[str(place) for place in range(len(columns))])
    frame: pd.DataFrame = table.to_pandas()
    frame.columns = pd.Index(list(names), dtype="str")
    frame.index = index
    return frame


def _wrong_encoding(content: bytes, encoding: str, error: UnicodeError) -> str:
    place = ""
    if encoding.startswith("utf-8"):
        try:
            content.decode(encoding)
        except UnicodeDecodeError as found:
            line = content[: found.start].count(b"\n") + 1
            place = f" in line {line} (byte 0x{content[found.start]:02x})"
    return (
        f"The file is not {encoding}{place}; save it as UTF-8, or name its encoding, for instance "
        "cp1252."
    )


def _csv_problem(reason: str) -> str:
    if "field larger" in reason:
        return f"A cell has more than {_MAX_CELL:,} characters; shorten it."
    if "unexpected end" in reason:
        return "A double quote is opened and never closed; close it, or double it to mean itself."
    if "expected after" in reason:
        return (
            "Something follows a closing double quote; put the whole cell into double quotes, and "
            "double those inside."
        )
    return f"The file is not readable as CSV ({reason}); save it again as CSV in UTF-8."


def _read_parquet(content: bytes) -> TableFile:
    try:
        return TableFile(_parquet_frame(content), "Parquet")
    except (pa.ArrowException, OSError, ValueError, KeyError, OverflowError) as error:
        reason = next(iter(str(error).strip().splitlines()), "unreadable")[:200]
        raise InvalidInput(
            f"The Parquet file is damaged or unusual ({reason}); write it again."
        ) from None


def _parquet_frame(content: bytes) -> pd.DataFrame:
    source = pa.BufferReader(content)
    plan = pq.ParquetFile(source, pre_buffer=False)
    _check_parquet(plan)
    fields = list(plan.schema_arrow)
    # Texts stay dictionary-encoded until their size is known: one long text used in every row
    # would unpack to terabytes.
    texts = [field.name for field in fields if _is_text(field.type)]
    file = pq.ParquetFile(source, pre_buffer=False, read_dictionary=texts)
    # Without the unnamed index that pandas stores next to the columns.
    places = [i for i, field in enumerate(fields) if not field.name.startswith("__index_level_")]
    chunks: list[list[pa.Array]] = [[] for _ in places]
    n_rows = size = 0
    for batch in file.iter_batches(batch_size=_CHUNK, use_threads=False):
        batch.validate(full=True)
        n_rows += batch.num_rows
        columns = [batch.column(place) for place in places]
        size += sum(_unpacked_size(column) for column in columns)
        _refuse_if_large(n_rows, size)
        for parts, column in zip(chunks, columns, strict=True):
            parts.append(column)
    return _frame(
        [fields[place].name for place in places],
        [pa.chunked_array(map(_as_text, parts), pa.large_string()) for parts in chunks],
        pd.RangeIndex(1, n_rows + 1),
    )


def _check_parquet(file: Any) -> None:
    """Refuse a file by its own metadata, before anything is unpacked."""
    meta = file.metadata
    if meta.num_columns > MAX_COLUMNS:
        raise InvalidInput(
            f"The file has {meta.num_columns:,} columns; at most {MAX_COLUMNS} are allowed."
        )
    groups = (meta.row_group(place) for place in range(meta.num_row_groups))
    declared = sum(group.total_byte_size for group in groups)
    _refuse_if_large(meta.num_rows, max(declared, meta.num_rows * meta.num_columns * _CELL_BYTES))
    for field in file.schema_arrow:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if not any(test(kind) for test in _ALLOWED_TYPES):
            raise InvalidInput(
                f'The column "{field.name[:60]}" holds {kind}; allowed are texts, numbers, and '
                "true or false."
            )


def _refuse_if_large(n_rows: int, n_bytes: int) -> None:
    if n_rows > MAX_ROWS:
        raise InvalidInput(
            f"The file has more than {MAX_ROWS:,} rows; split it into several datasets."
        )
    if n_bytes > MAX_UNPACKED_BYTES:
        raise InvalidInput(
            f"The file unpacks to more than {MAX_UNPACKED_BYTES // 2**30} GiB; split it."
        )


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _unpacked_size(column: Any) -> int:
    if not pa.types.is_dictionary(column.type) or not _is_text(column.type.value_type):
        return int(column.nbytes)
    lengths = pc.binary_length(column.dictionary)
    return int(pc.sum(pc.take(lengths, column.indices)).as_py() or 0)


def _as_text(column: Any) -> Any:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_floating(column.type):  # "34" rather than "34.0", nothing rather than "nan"
        column = pc.if_else(pc.is_nan(column), None, column)
    return pc.fill_null(pc.cast(column, pa.large_string()), "")


_ALLOWED_TYPES: Final = (
    _is_text,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_boolean,
    pa.types.is_null,
)
