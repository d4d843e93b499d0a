"""The forest plot: one group against the baseline, trait by trait, and what traits add up to.

Three subplot columns share one numeric y axis, row by row: text, intervals, text. Text columns are
traces, so that they export and scroll with the rows; every row carries its trait id for clicks.
"""

from collections.abc import Sequence
from typing import Final, Literal

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from benchlib.domain.analysis.forest_rows import Forest, ForestRow
from benchlib.presentation.figures.forest_lines import (
    Correction,
    Line,
    SortBy,
    columns_of_text,
    forest_lines,
    hover_text,
    is_filled,
    overall_of,
    rows_of,
)
from benchlib.presentation.figures.notes import (
    LINE_HEIGHT,
    NARROW_LINE,
    NOTE_SIZE,
    WIDEST_LINE,
    add_notes,
    axis_font,
    mark_simulated,
    wrapped,
    wrapped_markup,
)
from benchlib.presentation.figures.theme import (
    MAIN,
    QUIET,
    ROW_HEIGHT,
    SECOND,
    empty_figure,
    frame_layout,
    row_label,
)
from benchlib.presentation.numbers import interval, number, relation, signed
from benchlib.presentation.provenance import Provenance
from benchlib.presentation.text import counted, escaped

AreaBy = Literal["weight_percent", "precision_percent"]

_WIDTHS: Final = {False: (0.4, 0.27, 0.33), True: (0.31, 0.27, 0.42)}
"""Widths of the three subplot columns as shares, by whether the layout is compact."""

_TOP: Final = 66
"""Top margin, pixels."""

_FRAME: Final = 140
"""Margins of the shortest figure together, pixels."""

_BIGGEST: Final = 12
"""Side of the largest square, pixels."""

_DIAMOND: Final = 0.3
"""Half the height of a diamond, rows."""

_METHODS: Final = {"dl": "DerSimonian–Laird", "pm": "Paule–Mandel", "reml": "REML"}


def forest_figure(
    forest: Forest,
    provenance: Provenance,
    *,
    target: str | None = None,
    rows: Sequence[ForestRow] | None = None,
    sort: SortBy = "category",
    correction: Correction = "bh",
    area: AreaBy = "weight_percent",
    compact: bool = False,
) -> go.Figure:
    """Draw the forest of one category against the baseline.

    Args:
        forest: As the domain gives it.
        provenance: For the caption.
        target: Which of the forest's targets; None = the first.
        rows: Rows left after filtering; None = all. Diamonds always pool all rows.
        sort: Order of the rows.
        correction: Which corrected p decides between filled and hollow marks.
        area: What the area of a square stands for.
        compact: Fewer text columns, for narrow screens and single columns.

    Returns:
        A figure whose traces carry the trait id of each row in `customdata`.
    """
    target = target if target is not None else next(iter(forest["targets"]), None)
    title = _title(forest, target)
    all_rows = rows_of(forest, target)
    shown = all_rows if rows is None else [row for row in rows if row["category"] == target]
    if not shown:
        empty = empty_figure(
            title,
            "No trait matches the filter." if all_rows else "There is nothing to compare here.",
        )
        return mark_simulated(empty, provenance.simulated)
    lines = forest_lines(forest, target, shown, sort, compact=compact)
    widest = NARROW_LINE if compact else WIDEST_LINE
    notes = [
        *_findings(forest, target, len(shown) < len(all_rows), widest),
        *_key(forest, target, correction, area, widest),
        *wrapped(provenance.sentence(), widest),
    ]
    height, bottom = _height(len(lines) + 1, len(notes))
    figure = make_subplots(
        rows=1,
        cols=3,
        shared_yaxes=True,
        column_widths=list(_WIDTHS[compact]),
        horizontal_spacing=0.01,
    )
    figure.update_layout(
        frame_layout(title, _subtitle(forest, shown, all_rows), height),
        margin={"t": _TOP, "b": bottom, "l": 4, "r": 4},
        hovermode="y",
        hoverdistance=ROW_HEIGHT // 2,
        showlegend=False,
    )
    limit = _limit(lines)
    _add_band(figure, forest["sesoi"])
    _add_intervals(figure, lines, limit)
    _add_squares(figure, lines, correction, area, forest["alpha"])
    _add_diamonds(figure, lines, limit)
    for text in columns_of_text(lines, forest, target, correction, area, compact=compact):
        figure.add_scatter(
            row=1,
            col=text.subplot_column,
            name=text.name,
            mode="text",
            x=[text.x] * len(text.texts),
            y=list(range(len(text.texts))),
            text=text.texts,
            textposition="middle left" if text.right_aligned else "middle right",
            textfont={"size": NOTE_SIZE},
            customdata=[None, *(line.trait_id for line in lines)],
            hoverinfo="none",
            cliponaxis=False,
        )
    _frame_axes(figure, len(lines), limit)
    add_notes(figure, notes, below=58)
    return mark_simulated(figure, provenance.simulated)


def _title(forest: Forest, target: str | None) -> str:
    name = row_label(forest["attribute"])
    if target is None or forest["baseline"] is None:
        return f"Forest: {name}"
    return f"{name}: {row_label(target)} against {row_label(forest['baseline'])}, by trait"


def _subtitle(forest: Forest, shown: Sequence[ForestRow], rows: Sequence[ForestRow]) -> str:
    category = forest["trait_category"]
    subtitle = "all traits with a valence" if category is None else row_label(category)
    if len(shown) < len(rows):
        subtitle += f"; <b>showing {len(shown)} of {len(rows)}</b>"
    return subtitle + "; 95% intervals over personas"


def _height(n_rows: int, n_notes: int) -> tuple[int, int]:
    """Height of the figure, 28 px per row + 140, and its bottom margin.

    Notes count as rows where they need more than the margins.
    """
    needed = _TOP + 58 + n_notes * LINE_HEIGHT + 8
    extra = max(0, -(-(needed - _FRAME) // ROW_HEIGHT))
    height = ROW_HEIGHT * (n_rows + extra) + _FRAME
    return height, height - ROW_HEIGHT * n_rows - _TOP


def _limit(lines: Sequence[Line]) -> float:
    """Half-width of the symmetric axis: all estimates fit, far interval ends are cut."""
    inside = [abs(x) for line in lines for x in (line.estimate, *line.bar) if x is not None]
    ends = sorted(abs(x) for line in lines for x in (line.low, line.high) if x is not None)
    centre = max(inside, default=0.0)
    typical = ends[len(ends) * 3 // 4] if ends else 0.0
    return max(centre * 1.1, min(max(ends, default=0.0), 2 * typical) * 1.06, 0.15)


def _add_band(figure: go.Figure, sesoi: float) -> None:
    for shape in (
        {"x0": -sesoi, "x1": sesoi, "fillcolor": "rgba(138,138,138,0.22)", "line": {"width": 0}},
        {"x0": 0, "x1": 0, "line": {"color": QUIET, "width": 1.5}},
    ):
        figure.add_shape(
            type="line" if shape["x0"] == shape["x1"] else "rect",
            name="null" if shape["x0"] == shape["x1"] else "sesoi",
            xref="x2",
            yref="y2 domain",
            y0=0,
            y1=1,
            layer="below",
            **shape,
        )


def _add_intervals(figure: go.Figure, lines: Sequence[Line], limit: float) -> None:
    """Interval lines without caps; an arrow where the axis cuts one."""
    for quiet in (False, True):
        x: list[float | None] = []
        y: list[float | None] = []
        for place, line in enumerate(lines, 1):
            if line.row is None or line.quiet is not quiet:
                continue
            if line.low is not None and line.high is not None:
                x += [max(line.low, -limit), min(line.high, limit), None]
                y += [place, place, None]
        figure.add_scatter(
            row=1,
            col=2,
            name="interval of few personas" if quiet else "interval",
            mode="lines",
            x=x,
            y=y,
            line={"color": QUIET if quiet else MAIN, "width": 2},
            hoverinfo="skip",
        )
    bars = [(place, line) for place, line in enumerate(lines, 1) if None not in line.bar]
    figure.add_scatter(
        row=1,
        col=2,
        name="prediction interval",
        mode="lines",
        x=[
            x
            for _, line in bars
            for x in (_cut(line.bar[0], limit), _cut(line.bar[1], limit), None)
        ],
        y=[y for place, _ in bars for y in (place, place, None)],
        line={"color": SECOND, "width": 2},
        hoverinfo="skip",
    )
    cuts = [
        (place, side, line.quiet, line.row is None)
        for place, line in enumerate(lines, 1)
        for side, end in ((-1, line.low), (1, line.high), (-1, line.bar[0]), (1, line.bar[1]))
        if end is not None and end * side > limit
    ]
    figure.add_scatter(
        row=1,
        col=2,
        name="cut",
        mode="markers",
        x=[side * limit for _, side, _, _ in cuts],
        y=[place for place, _, _, _ in cuts],
        marker={
            "symbol": ["triangle-left" if side < 0 else "triangle-right" for _, side, _, _ in cuts],
            "color": [SECOND if bar else QUIET if quiet else MAIN for _, _, quiet, bar in cuts],
            "size": 9,
            "line": {"width": 0},
        },
        hoverinfo="skip",
        cliponaxis=False,
    )


def _cut(value: float | None, limit: float) -> float | None:
    return None if value is None else max(-limit, min(limit, value))


def _add_squares(
    figure: go.Figure, lines: Sequence[Line], correction: Correction, area: AreaBy, alpha: float
) -> None:
    """One trace for all traits, so that a click anywhere in a row finds its id."""
    placed = [
        (place, line.row, line)
        for place, line in enumerate(lines, 1)
        if line.row is not None and line.estimate is not None
    ]
    weights = [row[area] or 0.0 for _, row, _ in placed]
    largest = max(weights, default=0.0) or 1.0
    filled = [is_filled(row, correction, alpha) for _, row, _ in placed]
    figure.add_scatter(
        row=1,
        col=2,
        name="trait",
        mode="markers",
        x=[line.estimate for _, _, line in placed],
        y=[place for place, _, _ in placed],
        customdata=[row["trait_id"] for _, row, _ in placed],
        hovertext=[hover_text(row) for _, row, _ in placed],
        hoverinfo="text",
        marker={
            "symbol": ["square" if yes else "square-open" for yes in filled],
            "size": weights,
            "sizemode": "area",
            "sizeref": largest / _BIGGEST**2,
            "sizemin": 4,
            "opacity": 1,
            "color": [QUIET if line.quiet else MAIN for _, _, line in placed],
            "line": {"width": 2, "color": [QUIET if line.quiet else MAIN for _, _, line in placed]},
        },
        unselected={"marker": {"opacity": 1}},
    )


def _add_diamonds(figure: go.Figure, lines: Sequence[Line], limit: float) -> None:
    """Filled: pooled over these traits. Open: generalised to similar traits."""
    for kind, name, colour in (
        ("these", "pooled over these traits", MAIN),
        ("population", "generalised to similar traits", SECOND),
    ):
        x: list[float | None] = []
        y: list[float | None] = []
        for place, line in enumerate(lines, 1):
            if line.kind != kind or line.estimate is None:
                continue
            low = line.estimate if line.low is None else line.low
            high = line.estimate if line.high is None else line.high
            ends = _cut(low, limit), _cut(high, limit)
            x += [ends[0], line.estimate, ends[1], line.estimate, ends[0], None]
            y += [place, place - _DIAMOND, place, place + _DIAMOND, place, None]
        figure.add_scatter(
            row=1,
            col=2,
            name=name,
            mode="lines",
            x=x,
            y=y,
            fill="toself",
            fillcolor=colour if kind == "these" else "rgba(0,0,0,0)",
            line={"color": colour, "width": 1.8},
            hoverinfo="skip",
        )


def _frame_axes(figure: go.Figure, n_lines: int, limit: float) -> None:
    figure.update_yaxes(
        visible=False,
        range=[n_lines + 0.5, -0.5],
        fixedrange=True,
        automargin=False,
    )
    figure.update_xaxes(visible=False, range=[0, 1], fixedrange=True)
    figure.update_xaxes(
        row=1,
        col=2,
        visible=True,
        range=[-limit, limit],
        zeroline=False,
        showgrid=False,
        automargin=False,  # the bottom margin has room for it
        showline=True,
        linecolor=QUIET,
        ticks="outside",
        tickcolor=QUIET,
        nticks=7,
        tickfont={"size": NOTE_SIZE},
        title={
            "text": "◀ lower than baseline | higher ▶<br>scale points, group minus baseline",
            "font": {**axis_font(), "size": NOTE_SIZE},
            "standoff": 4,
        },
    )


def _findings(forest: Forest, target: str | None, is_filtered: bool, widest: int) -> list[str]:
    """What pooling found about the variance between traits."""
    overall = overall_of(forest, target)
    population = overall["population"]
    findings = [f"k = {counted(overall['k'], 'trait')}"]
    if population["tau2"] is not None:
        findings.append(f"τ² = {number(population['tau2'], 3)}")
    if population["i2"] is not None:
        findings.append(f"I² = {population['i2']:.0%}")
    if population["f_het"] is not None:
        findings.append(
            escaped(
                f"heterogeneity F({population['df1']}, {population['df2']:,}) = "
                f"{number(population['f_het'])}, p {relation(population['p_het'])} "
                "(Greenhouse–Geisser)"
            )
        )
    findings.append("pooled over these traits: Welch on persona scores")
    findings.append("generalised to similar traits: random traits, shared personas")
    if is_filtered:
        findings.append("diamonds include the hidden traits")
    lines = wrapped_markup(" · ".join(findings), widest)
    for pooling in overall["independent"]:
        note = (
            f"{_METHODS[pooling['method']]} with HKSJ, treats traits as independent, "
            f"descriptive only: {signed(pooling['mean'])} "
            f"{interval(pooling['ci_low_hksj'], pooling['ci_high_hksj'])}, "
            f"τ² = {number(pooling['tau2'], 3)}"
        )
        if pooling["excluded"]:
            note += f"; left out for lack of variance: {counted(len(pooling['excluded']), 'trait')}"
        lines += wrapped_markup(note, widest)
    return lines


def _key(
    forest: Forest, target: str | None, correction: Correction, area: AreaBy, widest: int
) -> list[str]:
    """How to read the marks."""
    sized = "weight in the diamonds" if area == "weight_percent" else "precision (1/SE²)"
    decided = {"bh": "q", "by": "q (any dependence)", "max_t": "max-T p"}[correction]
    sentences = [
        f"Square: filled = {decided} &lt; {forest['alpha']:g}, hollow = not significant after "
        f"correction; area = {sized}.",
        f"Grey band = smallest effect of interest, ±{forest['sesoi']:g}.",
        "Thin bar = 95% prediction interval for another trait.",
    ]
    if any(row["status"] == "low_n" for row in rows_of(forest, target)):
        sentences.append("Grey and † = fewer than 10 personas in a group.")
    return wrapped_markup(" ".join(sentences), widest)
