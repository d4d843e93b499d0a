"""What a figure or table came from."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from benchlib.presentation.text import counted

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
