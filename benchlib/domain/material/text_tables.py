"""What all imported tables share: cells are text, and all problems are reported at once."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchlib.domain.errors import InvalidInput

MAX_PROBLEMS_SHOWN: Final = 20
_CONTROLS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_LINE_CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_FORMULA: Final = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_GUARDED: Final = re.compile("'" + _FORMULA.pattern)


@dataclass(frozen=True, slots=True, eq=False)
class TextColumn:
    """One column of cleaned texts, each distinct text stored once.

    Attributes:
        codes: For each row, the position of its text in `values`.
        values: The distinct texts; "" = empty cell.
    """

    codes: NDArray[np.int64]
    values: list[str]

    def where(self, test: Callable[[str], bool]) -> NDArray[np.bool_]:
        """The rows whose text passes the test, which runs once per distinct text."""
        hits = np.fromiter((test(value) for value in self.values), bool, len(self.values))
        return hits[self.codes]

    @property
    def empty(self) -> NDArray[np.bool_]:
        """The rows without text."""
        return self.where(lambda value: not value)

    def counts(self) -> dict[str, int]:
        """How many rows have each text."""
        counts = np.bincount(self.codes, minlength=len(self.values)).tolist()
        return dict(zip(self.values, counts, strict=True))

    def take(self, start: int, stop: int) -> list[str]:
        """The texts of some rows."""
        return [self.values[code] for code in self.codes[start:stop].tolist()]


class Problems:
    """Collects the problems of a table, to report them in one error."""

    def __init__(self, rows: pd.Index) -> None:
        """Begin without problems.

        Args:
            rows: The number of each row, as the user counts.
        """
        self._rows = rows
        self._found: list[tuple[int, str]] = []
        self._count = 0

    def row_number(self, position: int) -> object:
        """The number, as the user counts, of the row at this position."""
        return self._rows[position]

    def add(self, text: str) -> None:
        """A problem of the whole table, as a full sentence."""
        self._count += 1
        self._found.append((-1, text))

    def add_row(self, position: int, column: str, text: str) -> None:
        """A problem of one cell."""
        self._count += 1
        self._found.append(
            (position, f"Row {self._rows[position]}, column {shorten(column)}: {text}")
        )

    def add_cells(
        self,
        rows: NDArray[np.bool_],
        name: str,
        column: TextColumn,
        allowed: str,
    ) -> None:
        """The same problem in many cells of a column; `allowed` says what they may hold."""
        hits = np.flatnonzero(rows)
        for position in hits[:MAX_PROBLEMS_SHOWN].tolist():
            value = column.values[column.codes[position]]
            self.add_row(position, name, f"{shorten(value) if value else 'empty'}; {allowed}")
        self._count += max(0, len(hits) - MAX_PROBLEMS_SHOWN)

    def raise_if_any(self) -> None:
        """Raise an error if there are problems.

        Raises:
            InvalidInput: Lists the first problems by row, and says how many there are.
        """
        if self._count:
            self.stop()

    def stop(self) -> NoReturn:
        """Raise the error.

        Raises:
            InvalidInput: Lists the first problems by row, and says how many there are.
        """
        shown = [text for _, text in sorted(self._found, key=lambda one: one[0])]
        if self._count == 1:
            raise InvalidInput(f"Nothing was imported. {shown[0]}")
        head = f"Nothing was imported: the table has {self._count} problems"
        if self._count > MAX_PROBLEMS_SHOWN:
            head += f"; the first {MAX_PROBLEMS_SHOWN} are"
        raise InvalidInput("\n".join([f"{head}:", *shown[:MAX_PROBLEMS_SHOWN]]))


def shorten(text: str, length: int = 60) -> str:
    """A quoted, one-line form of any text, for use in a sentence."""
    line = "".join(char if char.isprintable() else "·" for char in text[: length + 1])
    return f'"{line[:length]}…"' if len(text) > length else f'"{line}"'


def clean_text(text: str) -> str:
    """The text in NFC, without surrounding white space, with one kind of line end."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.strip()


def clean_column(cells: "pd.Series[str]") -> TextColumn:
    """Clean each distinct text of a column once; missing values become empty."""
    codes, uniques = pd.factorize(cells.fillna(""))
    places: dict[str, int] = {}
    remap = [places.setdefault(clean_text(str(text)), len(places)) for text in uniques]
    return TextColumn(np.array(remap, dtype=np.int64)[codes], list(places))


def check_texts(
    problems: Problems, name: str, column: TextColumn, max_length: int, *, lines: bool = False
) -> None:
    """Find texts that are too long or hold control characters.

    Args:
        problems: Collects what is found.
        name: Of the column.
        column: The texts.
        max_length: In characters.
        lines: Whether line ends and tabs are allowed.
    """
    controls = _CONTROLS if lines else _LINE_CONTROLS
    problems.add_cells(
        column.where(lambda text: controls.search(text) is not None),
        name,
        column,
        "control characters are not allowed"
        + ("" if lines else ", nor are line ends and tabs in this column")
        + ".",
    )
    problems.add_cells(
        column.where(lambda text: len(text) > max_length),
        name,
        column,
        f"at most {max_length:,} characters are allowed.",
    )


def check_headers(
    problems: Problems, names: Iterable[object], known: Mapping[str, str]
) -> list[str]:
    """Clean column names; known ones are found whatever their case.

    Args:
        problems: Collects empty and repeated names.
        names: As they are in the file.
        known: Known names and their aliases in lower case -> the name used here.
    """
    cleaned = [clean_text(str(name)) for name in names]
    cleaned = [known.get(name.lower(), name) for name in cleaned]
    seen: dict[str, int] = {}
    for place, name in enumerate(cleaned, 1):
        if not name:
            problems.add(f"Column {place} has no name; name it in the first row, or remove it.")
        elif name.casefold() in seen:
            problems.add(
                f"Columns {seen[name.casefold()]} and {place} are both called {shorten(name)}; "
                "a name may occur only once."
            )
        else:
            seen[name.casefold()] = place
    return cleaned


def guard_formula(text: str) -> str:
    """The text with a quote in front where a spreadsheet might run it as a formula.

    That is where it begins with = + - @ (also full-width), a tab or a line end, after any number
    of quotes; the quotes count so that `unguard_formula` restores every text.
    """
    return f"'{text}" if _FORMULA.match(text) else text


def unguard_formula(text: str) -> str:
    """The text as it was before `guard_formula`."""
    return text[1:] if _GUARDED.match(text) else text


def list_words(words: Sequence[str]) -> str:
    """Words joined for a sentence: a, b and c."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
