"""What a figure says about where its numbers come from, and how numbers are written in it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Final

import plotly.graph_objects as go

from benchlib.presentation.figures.theme import FONT_SIZE, SMALL_SIZE, counted, plain

CAPTION: Final = "caption"
"""Name of the annotation that holds a figure's provenance."""

SIMULATED: Final = "<b>SIMULATED DATA</b>"
"""How the subtitle of a figure of made-up data begins."""

NOTE_SIZE: Final = 11
LINE_HEIGHT: Final = 16
"""Pixels per line of a note."""

WIDEST_LINE: Final = 150
"""Characters of a note that fit under a figure on a desk."""

NARROW_LINE: Final = 62
"""The same for a narrow figure."""

_METHODS: Final = {"bh": "Benjamini–Hochberg", "by": "Benjamini–Yekutieli"}


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where the numbers of a figure or table come from; names are foreign text.

    Attributes:
        run_id: The run.
        model_name: As its server names it.
        model_revision: None where the server does not tell.
        dataset_name: The personas.
        manifest_hash: What was frozen at the start; None before the first start.
        correction: A sentence on which tests were corrected together; "" without tests.
        simulated: Whether the ratings are made up.
        preliminary: Whether answers may still come.
        n_personas: Behind the numbers.
        n_answers: Behind the numbers.
        n_missing: Planned answers that are not there.
        n_dropped: Personas with too few ratings to enter; None where nobody is dropped.
        n_copies: Counterfactuals that take no part beside their sources.
        beside: The runs that this one, the reference, is compared with.
    """

    run_id: int
    model_name: str
    model_revision: str | None
    dataset_name: str
    manifest_hash: str | None
    correction: str
    simulated: bool
    preliminary: bool
    n_personas: int
    n_answers: int
    n_missing: int
    n_dropped: int | None = None
    n_copies: int = 0
    beside: tuple["Provenance", ...] = ()

    @property
    def every(self) -> tuple["Provenance", ...]:
        """All runs behind the numbers, the reference first."""
        return (self, *self.beside)

    def fields(self) -> dict[str, str]:
        """Names and values for a file."""
        return {
            "run_id": _together(str(one.run_id) for one in self.every),
            "model": _together(one.model_name for one in self.every),
            "model_revision": _together(one.model_revision or "unknown" for one in self.every),
            "dataset": _together(one.dataset_name for one in self.every),
            "manifest_hash": _together(one.manifest_hash or "none" for one in self.every),
            "correction": self.correction or "no tests",
            "data": "simulated" if self.simulated else "model answers",
            "state": "preliminary" if self.preliminary else "complete",
            "n_personas": str(self.n_personas),
            "n_answers": str(self.n_answers),
            "n_missing": str(self.n_missing),
            "n_dropped": str(self.n_dropped or 0),
            "n_copies_left_out": str(self.n_copies),
        }

    def sentence(self) -> str:
        """All of it in one line of plain text."""
        personas = counted(self.n_personas, "persona")
        if self.n_dropped:
            personas += f" ({self.n_dropped:,} more dropped, too few ratings)"
        parts = [
            *(
                f"Run {one.run_id} · {one.model_name} (revision {one.model_revision or 'unknown'})"
                for one in self.every
            ),
            _together(dict.fromkeys(one.dataset_name for one in self.every)),
            personas,
            f"{self.n_copies:,} counterfactuals left out" if self.n_copies else "",
            f"{counted(self.n_answers, 'answer')}, {self.n_missing:,} missing",
            self.correction,
            "manifest " + _together((one.manifest_hash or "none")[:12] for one in self.every),
            "PRELIMINARY" if self.preliminary else "",
            "SIMULATED DATA" if self.simulated else "",
        ]
        return " · ".join(part for part in parts if part)


def _together(texts: Iterable[str]) -> str:
    return " / ".join(texts)


def correction_sentence(method: str, family: str, size: int) -> str:
    """Which tests were corrected together, and how."""
    return f"q: {_METHODS.get(method, method)} over {counted(size, 'test')} ({family})"


def wrapped(text: str, widest: int = WIDEST_LINE) -> list[str]:
    """A plain text as escaped lines."""
    return [plain(line) for line in wrap(text, widest)]


def wrapped_markup(text: str, widest: int = WIDEST_LINE) -> list[str]:
    """A text of our own, which may hold entities, as lines."""
    return wrap(text, widest, break_long_words=False, break_on_hyphens=False)


def add_notes(figure: go.Figure, lines: Sequence[str], *, below: int, name: str = CAPTION) -> None:
    """Write lines under the axis; the caller sees to the margin.

    Args:
        figure: Changed in place.
        lines: Escaped; may hold markup of our own.
        below: Pixels between the plot area and the first line.
        name: Tells a note from others.
    """
    figure.add_annotation(
        name=name,
        text="<br>".join(lines),
        xref="paper",
        yref="paper",
        x=0,
        y=0,
        xanchor="left",
        yanchor="top",
        yshift=-below,
        align="left",
        showarrow=False,
        font={"size": NOTE_SIZE},
    )


def mark_simulated(figure: go.Figure, simulated: bool) -> go.Figure:
    """Begin the subtitle of a figure of made-up data with SIMULATED DATA, once."""
    if simulated and not is_marked(figure):
        told = figure.layout.title.subtitle.text
        figure.update_layout(
            title_subtitle_text=SIMULATED + (f" · {told}" if told else ""),
            title_subtitle_font_size=SMALL_SIZE,
        )
    return figure


def is_marked(figure: go.Figure) -> bool:
    """Whether a figure says that its data are made up."""
    return (figure.layout.title.subtitle.text or "").startswith(SIMULATED)


def has_note(figure: go.Figure, name: str) -> bool:
    """Whether a figure holds an annotation of this name."""
    return any(note.name == name for note in figure.layout.annotations)


def signed(value: float | None, digits: int = 2) -> str:
    """A difference with its sign; a dash where there is none."""
    if value is None:
        return "–"
    rounded = f"{value:+.{digits}f}"
    if float(rounded) == 0:
        rounded = rounded.replace("-", "+")
    return rounded.replace("-", "−")


def number(value: float | None, digits: int = 2) -> str:
    """A level; a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def probability(value: float | None) -> str:
    """A p or q with three digits; a dash where there is none."""
    if value is None:
        return "–"
    return "&lt; .001" if value < 0.001 else f"{value:.3f}".removeprefix("0")


def relation(value: float | None) -> str:
    """A p or q after its name: "= .034", "< .001"."""
    told = probability(value)
    return told if told.startswith("&lt;") else f"= {told}"


def interval(low: float | None, high: float | None, digits: int = 2) -> str:
    """An interval in brackets; "no interval" where there is none."""
    if low is None or high is None:
        return "[no interval]"
    return f"[{signed(low, digits)}, {signed(high, digits)}]"


def axis_font() -> dict[str, int]:
    """Font of an axis title."""
    return {"size": FONT_SIZE - 1}
