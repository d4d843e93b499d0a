"""The lines of a forest plot and the texts in their columns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from benchlib.domain.analysis.forest_rows import Forest, ForestRow, PooledEffect
from benchlib.presentation.figures.theme import row_label
from benchlib.presentation.numbers import interval, number, probability, relation, signed
from benchlib.presentation.text import STATUSES, VERDICTS, escaped, plain

SortBy = Literal["category", "effect", "precision", "q", "name"]
Correction = Literal["bh", "by", "max_t"]
LineKind = Literal["heading", "trait", "these", "population"]

VALENCE_MARKS: Final = {1: "(+)", -1: "(−)", 0: "(○)"}
"""Favourable, unfavourable, neutral."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the plot.

    Attributes:
        kind: A category's heading, a trait, or one of two diamonds.
        label: Escaped text of the first column.
        row: The trait; None on other lines.
        pooled: What a diamond shows.
        estimate: Where the mark is; None = no mark.
        low: Lower end of the 95% interval.
        high: Upper end.
        bar: Prediction interval.
    """

    kind: LineKind
    label: str
    row: ForestRow | None = None
    pooled: PooledEffect | None = None
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    bar: tuple[float | None, float | None] = (None, None)

    @property
    def trait_id(self) -> int | None:
        """The trait that a click on the line opens."""
        return None if self.row is None else self.row["trait_id"]

    @property
    def quiet(self) -> bool:
        """Whether the line is read with care, and so drawn in grey."""
        return self.row is not None and self.row["status"] != "ok"


@dataclass(frozen=True, slots=True)
class TextColumn:
    """One column: a heading, then a text per line."""

    name: str
    subplot_column: int
    x: float
    right_aligned: bool
    texts: list[str]


def rows_of(forest: Forest, target: str | None) -> list[ForestRow]:
    """The rows of one target."""
    return [row for row in forest["rows"] if row["category"] == target]


def overall_of(forest: Forest, target: str | None) -> PooledEffect:
    """All traits of the forest, pooled for one target."""
    for pooled in forest["pooled"]:
        if pooled["category"] == target and pooled["trait_category"] == forest["trait_category"]:
            return pooled
    return forest["overall"]


def is_filled(row: ForestRow, correction: Correction, alpha: float) -> bool:
    """Whether a row is significant after the correction that is shown."""
    corrected = corrected_p(row, correction)
    return corrected is not None and corrected < alpha


def corrected_p(row: ForestRow, correction: Correction) -> float | None:
    """The p after correction; None = not tested, or that correction was not asked for."""
    values = {"bh": row["q_value"], "by": row["q_by"], "max_t": row["p_max_t"]}
    return values[correction]


def forest_lines(
    forest: Forest,
    target: str | None,
    rows: Sequence[ForestRow],
    sort: SortBy,
    *,
    compact: bool = False,
) -> list[Line]:
    """Lay out the rows and diamonds of one target.

    Args:
        forest: For the diamonds.
        target: The category compared.
        rows: Traits to show, of this target.
        sort: `category` groups by trait category; all other orders are flat.
        compact: Short labels of diamonds.
    """
    names = sorted({row["trait_category"] for row in rows})
    scopes = {
        pooled["trait_category"]: pooled
        for pooled in forest["pooled"]
        if pooled["category"] == target and pooled["trait_category"] is not None
    }
    # The diamonds of a single category would repeat the overall ones.
    parts = scopes if forest["trait_category"] is None and len(scopes) > 1 else {}
    lines: list[Line] = []
    if sort == "category":
        for name in names:
            lines.append(Line("heading", f"<b>{row_label(name)}</b>"))
            members = [row for row in rows if row["trait_category"] == name]
            lines += [_trait_line(row) for row in _sorted(members, "estimate")]
            if name in parts:
                lines += _diamonds(parts[name], name, compact)
    else:
        lines += [_trait_line(row) for row in _sorted(rows, sort)]
        for name in names:
            if name in parts:
                lines += _diamonds(parts[name], name, compact)
    lines.append(Line("heading", "<b>Overall</b>"))
    return lines + _diamonds(overall_of(forest, target), "", compact)


def _trait_line(row: ForestRow) -> Line:
    mark = " †" if row["status"] == "low_n" else ""
    return Line(
        "trait",
        row_label(row["label"]) + mark,
        row=row,
        estimate=row["delta"],
        low=row["ci_low"],
        high=row["ci_high"],
    )


def _diamonds(pooled: PooledEffect, name: str, compact: bool) -> list[Line]:
    population = pooled["population"]
    before = f"{_short(name)}: " if name else ""
    these, similar = ("", "") if compact else (" over these traits", " to similar traits")
    lines = [
        Line(
            "these",
            f"<i>{before}pooled{these}</i>",
            pooled=pooled,
            estimate=pooled["mean"],
            low=pooled["ci_low"],
            high=pooled["ci_high"],
        )
    ]
    if population["k"] > 1:
        lines.append(
            Line(
                "population",
                f"<i>{before}generalised{similar}</i>",
                pooled=pooled,
                estimate=population["mean"],
                low=population["ci_low"],
                high=population["ci_high"],
                bar=(population["pi_low"], population["pi_high"]),
            )
        )
    return lines


def _sorted(rows: Sequence[ForestRow], by: Literal["estimate"] | SortBy) -> list[ForestRow]:
    """Rows that lack the number sorted by come last."""
    keys: dict[str, Callable[[ForestRow], float | None]] = {
        "estimate": lambda row: None if row["delta"] is None else -row["delta"],
        "effect": lambda row: None if row["delta"] is None else -abs(row["delta"]),
        "precision": lambda row: row["se"],
        "q": lambda row: row["q_value"],
    }

    def place(row: ForestRow) -> tuple[bool, float, str]:
        found = keys[by](row) if by in keys else 0.0
        return found is None, found or 0.0, row["label"].casefold()

    return sorted(rows, key=place)


def columns_of_text(
    lines: Sequence[Line],
    forest: Forest,
    target: str | None,
    correction: Correction,
    area: str,
    *,
    compact: bool,
) -> list[TextColumn]:
    """All text columns; the first text of each is its heading."""
    group, base = _short(target or ""), _short(forest["baseline"] or "")
    corrected = {"bh": "q", "by": "q (BY)", "max_t": "p max-T"}[correction]
    weight = "weight" if area == "weight_percent" else "precision"
    trait = _column("Trait", 1, 0.0, False, lines, _label, heading="Trait")
    valence = _column("Valence", 1, 0.43, False, lines, _valence, heading="")
    delta_at, corrected_at = (0.72, 1.0) if compact else (0.47, 0.86)
    delta = _column("Delta", 3, delta_at, True, lines, _delta, heading="delta<br>[95% interval]")
    after = _column(corrected, 3, corrected_at, True, lines, _corrected(correction))
    if compact:
        return [trait, delta, after]
    return [
        trait,
        valence,
        _column("Personas", 1, 0.63, True, lines, _sizes, heading=f"personas<br>{group} / {base}"),
        _column("Mean", 1, 0.82, True, lines, _mean("cat"), heading=f"mean ± SD<br>{group}"),
        _column("Baseline", 1, 1.0, True, lines, _mean("base"), heading=f"mean ± SD<br>{base}"),
        delta,
        _column("Cliff's delta", 3, 0.6, True, lines, _cliffs, heading="Cliff’s<br>delta"),
        _column("p", 3, 0.73, True, lines, _p),
        after,
        _column(weight, 3, 1.0, True, lines, _weight(area), heading=f"{weight}<br>%"),
    ]


def _short(text: str) -> str:
    return row_label(text if len(text) <= 10 else text[:9] + "…")


def _column(
    name: str,
    subplot_column: int,
    x: float,
    right_aligned: bool,
    lines: Sequence[Line],
    text: Callable[[Line], str],
    heading: str | None = None,
) -> TextColumn:
    head = name if heading is None else heading
    texts = [f"<b>{head}</b>" if head else "", *map(text, lines)]
    return TextColumn(name, subplot_column, x, right_aligned, texts)


def _label(line: Line) -> str:
    return line.label


def _valence(line: Line) -> str:
    return "" if line.row is None else VALENCE_MARKS.get(line.row["valence"], "")


def _sizes(line: Line) -> str:
    source = line.row or line.pooled
    if source is None or line.kind == "population":
        return ""
    return f"{source['n_cat']:,} / {source['n_base']:,}"


def _mean(side: Literal["cat", "base"]) -> Callable[[Line], str]:
    def text(line: Line) -> str:
        row = line.row
        if row is None:
            return ""
        mean, sd = (
            (row["mean_cat"], row["sd_cat"])
            if side == "cat"
            else (row["mean_base"], row["sd_base"])
        )
        return "–" if mean is None else f"{number(mean)} ± {number(sd)}"

    return text


def _delta(line: Line) -> str:
    if line.kind == "heading":
        return ""
    if line.estimate is None:
        return "no estimate"
    return f"{signed(line.estimate)} {interval(line.low, line.high)}"


def _cliffs(line: Line) -> str:
    return "" if line.row is None else signed(line.row["cliffs_delta"])


def _p(line: Line) -> str:
    if line.row is not None:
        return escaped(probability(line.row["p_value"]))
    if line.pooled is None:
        return ""
    pooled = line.pooled if line.kind == "these" else line.pooled["population"]
    return escaped(probability(pooled["p_value"]))


def _corrected(correction: Correction) -> Callable[[Line], str]:
    def text(line: Line) -> str:
        if line.row is None:
            return ""
        return escaped(probability(corrected_p(line.row, correction)))

    return text


def _weight(area: str) -> Callable[[Line], str]:
    def text(line: Line) -> str:
        if line.row is None:
            return ""
        by_weight = area == "weight_percent"
        return number(line.row["weight_percent" if by_weight else "precision_percent"], 1)

    return text


def hover_text(row: ForestRow) -> str:
    """All numbers of a trait; untrusted text is escaped."""
    lines = [
        f"<b>{plain(row['label'])}</b> {VALENCE_MARKS.get(row['valence'], '')}",
        f"{plain(row['trait_category'])} · {plain(row['case_id'])}",
        f"delta {signed(row['delta'], 3)} {interval(row['ci_low'], row['ci_high'], 3)}",
        escaped(f"p {relation(row['p_value'])}, q {relation(row['q_value'])}"),
        f"Cliff's delta {signed(row['cliffs_delta'])} "
        f"{interval(row['cliffs_low'], row['cliffs_high'])}",
        f"{plain(row['category'])}: {number(row['mean_cat'])} ± {number(row['sd_cat'])}, "
        f"{row['n_cat']:,} personas",
        f"{plain(row['baseline'])}: {number(row['mean_base'])} ± {number(row['sd_base'])}, "
        f"{row['n_base']:,} personas",
        f"{row['n_ratings']:,} answers about the group, {row['n_missing']:,} missing",
    ]
    if row["verdict"] is not None:
        lines.append(f"verdict: {VERDICTS[row['verdict']]}")
    if row["status"] in STATUSES:
        lines.append(STATUSES[row["status"]])
    return "<br>".join(lines)
