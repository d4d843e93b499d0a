"""Tables as CSV, Parquet and LaTeX, with their provenance; untrusted text is made harmless."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from benchlib.domain.material.text_tables import guard_formula
from benchlib.presentation.provenance import Provenance

PAPER_COLUMNS: Final = (
    *("measure", "style", "attribute", "label", "source_category", "category", "rating"),
    *("n_groups", "n_total", "n_base", "n_cat", "n_personas", "n_sources", "n", "count", "share"),
    *("mean_in", "mean_rev", "value", "level", "mean", "delta", "adjusted_delta", "mean_diff"),
    *("ci_low", "ci_high", "abs_diff", "sd_between", "welch_f", "welch_p", "welch_q"),
    *("p_value", "q_value", "cliffs_delta", "vif", "verdict"),
)
"""Columns of LaTeX tables, in their order; more would not fit a page."""

_FEWEST_PAPER_COLUMNS: Final = 4
"""A table that has fewer of them is printed whole."""

_SMALLEST_P: Final = 0.001
"""A smaller p is printed as "< this"."""

_LATEX: Final = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "^": r"\textasciicircum{}",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "%": r"\%",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "−": "$-$",
    "τ": r"$\tau$",
    "²": r"\textsuperscript{2}",
    "δ": r"$\delta$",
    "±": r"$\pm$",
    "†": r"\dag{}",
    "[": "{[}",  # at the start of a row it would be an argument of the line end before, like *
    "*": "{*}",
    "–": "--",
}


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A table ready to be written.

    Attributes:
        rows: Records that have all the columns; None = undefined.
        columns: Keys of the rows, in the order of the columns.
        provenance: Goes into every file.
        title: Caption where a format has one.
    """

    rows: Sequence[Mapping[str, Any]]
    columns: Sequence[str]
    provenance: Provenance
    title: str = ""


def escape_latex(text: str) -> str:
    """An untrusted text as LaTeX that typesets it literally."""
    return "".join(_LATEX.get(letter, letter) for letter in " ".join(text.split()))


def write_csv(table: Table) -> bytes:
    """All rows with the provenance as further columns; None is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text)
    source = {f"benchlib_{name}": value for name, value in table.provenance.fields().items()}
    writer.writerow([*map(guard_formula, table.columns), *source])
    for row in table.rows:
        values = [_cell(row[name]) for name in table.columns]
        writer.writerow([*values, *map(guard_formula, source.values())])
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, int | float) else guard_formula(_text(value))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def write_parquet(table: Table) -> bytes:
    """All rows as columns of one type each, the provenance in the file's metadata."""
    columns = {name: pa.array(_column([row[name] for row in table.rows])) for name in table.columns}
    metadata = {"benchlib": json.dumps(table.provenance.fields(), ensure_ascii=False)}
    target = io.BytesIO()
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), target)
    return target.getvalue()


def _column(values: list[Any]) -> list[Any]:
    """Values of one type: anything but numbers, booleans and None becomes text."""
    if all(value is None or isinstance(value, bool) for value in values):
        return values
    if all(value is None or (isinstance(value, int | float)) for value in values):
        whole = all(value is None or isinstance(value, int) for value in values)
        return [None if value is None else value if whole else float(value) for value in values]
    return [None if value is None else _text(value) for value in values]


def paper_columns(names: Sequence[str]) -> list[str]:
    """The columns that a paper prints; all columns where a table has hardly any of those."""
    known = [name for name in PAPER_COLUMNS if name in names]
    if {"n_cat", "n_total", "n_sources", "n"} & set(known):
        known = [name for name in known if name not in ("n_personas", "count")]
    return known if len(known) >= _FEWEST_PAPER_COLUMNS else list(names)


def write_latex(table: Table) -> bytes:
    """A booktabs table of the columns that fit a page; the provenance is its note, None a dash."""
    rows, provenance = table.rows, table.provenance
    names = paper_columns(table.columns)
    numeric = [
        any(_is_number(row[name]) for row in rows)
        and all(row[name] is None or _is_number(row[name]) for row in rows)
        for name in names
    ]
    lines = [
        "% Needs \\usepackage{booktabs}",
        *(f"% {name}: {' '.join(value.split())}" for name, value in provenance.fields().items()),
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape_latex(table.title)}}}",
        rf"\begin{{tabular}}{{{''.join('r' if yes else 'l' for yes in numeric)}}}",
        r"\toprule",
        " & ".join(escape_latex(name.replace("_", " ")) for name in names) + r" \\",
        r"\midrule",
        *(" & ".join(_latex_cell(row[name], name) for name in names) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"",
        rf"\footnotesize {escape_latex(provenance.sentence())}",
        r"\end{table}",
        "",
    ]
    return "\n".join(lines).encode()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _latex_cell(value: Any, name: str) -> str:
    if value is None:
        return "--"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if 0 <= value < _SMALLEST_P and set(name.split("_")) & {"p", "q"}:
            return f"$<{_SMALLEST_P:g}$"  # p = 0.000 does not exist
        return f"${value:.3f}$" if value < 0 else f"{value:.3f}"
    return escape_latex(str(value) if isinstance(value, int) else _text(value))
