"""Where the numbers of figures and tables come from: run, model, manifest, corrections."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchlib.application.payloads import RunDetail
from benchlib.presentation.text import counted

_METHODS: Final = {"bh": "Benjamini–Hochberg", "by": "Benjamini–Yekutieli"}


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where the numbers of a figure or table come from; names are untrusted text.

    Attributes:
        run_id: The run.
        model_name: As its server names it.
        model_revision: None where the server does not say.
        dataset_name: Of the personas.
        manifest_hash: See `manifest_hash`; None before the first start.
        correction: A sentence on which tests were corrected together; "" without tests.
        simulated: Whether any of the runs holds made-up ratings.
        preliminary: Whether answers may still come.
        n_personas: Personas behind the numbers.
        n_answers: Answers behind the numbers.
        n_missing: Planned answers that are missing.
        n_dropped: Personas with too few ratings to be used; None where none is ever dropped.
        n_copies: Counterfactuals left out because their sources are used.
        compared: The runs that this one, the reference, is compared with.
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
    compared: tuple["Provenance", ...] = ()

    @property
    def runs(self) -> tuple["Provenance", ...]:
        """All runs behind the numbers, the reference first."""
        return (self, *self.compared)

    def fields(self) -> dict[str, str]:
        """Names and values for a file."""
        return {
            "run_id": _joined(str(one.run_id) for one in self.runs),
            "model": _joined(one.model_name for one in self.runs),
            "model_revision": _joined(one.model_revision or "unknown" for one in self.runs),
            "dataset": _joined(one.dataset_name for one in self.runs),
            "manifest_hash": _joined(one.manifest_hash or "none" for one in self.runs),
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
        """All of it as one line of plain text."""
        personas = counted(self.n_personas, "persona")
        if self.n_dropped:
            personas += f" ({self.n_dropped:,} more dropped, too few ratings)"
        parts = [
            *(
                f"Run {one.run_id} · {one.model_name} (revision {one.model_revision or 'unknown'})"
                for one in self.runs
            ),
            _joined(dict.fromkeys(one.dataset_name for one in self.runs)),
            personas,
            f"{self.n_copies:,} counterfactuals left out" if self.n_copies else "",
            f"{counted(self.n_answers, 'answer')}, {self.n_missing:,} missing",
            self.correction,
            "manifest " + _joined((one.manifest_hash or "none")[:12] for one in self.runs),
            "PRELIMINARY" if self.preliminary else "",
            "SIMULATED DATA" if self.simulated else "",
        ]
        return " · ".join(part for part in parts if part)


def provenance_of(
    run: RunDetail, panel: Mapping[str, Any], compared: Sequence[RunDetail] = ()
) -> Provenance:
    """Where a panel's numbers come from.

    Args:
        run: The run.
        panel: A payload of the analysis; of `n_personas`, `n_answers` (or `n`), `missing`,
            `n_dropped`, `n_copies`, `preliminary` and `correction` it may have any.
        compared: Runs that this one, the reference, is compared with.
    """
    engine = run["manifest"].get("engine", {})
    correction = panel.get("correction")
    return Provenance(
        run_id=run["id"],
        model_name=run["model_name"],
        model_revision=engine.get("model_revision"),
        dataset_name=run["dataset_name"],
        manifest_hash=manifest_hash(run["manifest"]),
        correction=""
        if correction is None
        else correction_sentence(correction["method"], correction["family"], correction["size"]),
        simulated=any(one["simulated"] for one in (run, *compared)),
        preliminary=bool(panel.get("preliminary", run["n_results"] < run["total"])),
        n_personas=int(panel.get("n_personas") or 0),
        n_answers=int(panel.get("n", panel.get("n_answers", 0))),
        n_missing=int(panel.get("missing") or 0),
        n_dropped=panel.get("n_dropped"),
        n_copies=int(panel.get("n_copies") or 0),
        compared=tuple(provenance_of(other, {}) for other in compared),
    )


def manifest_hash(manifest: Mapping[str, Any]) -> str | None:
    """SHA-256, in hex, of what a run froze at its first start; resuming does not change it.

    Returns:
        None for a run that never started.
    """
    if not manifest:
        return None
    frozen = {
        name: value for name, value in manifest.items() if name not in ("executions", "engine")
    }
    engine = manifest.get("engine", {})
    lasting = ("model_name", "model_revision", "answer_mode_used", "logprobs_source")
    frozen["engine"] = {name: engine.get(name) for name in lasting}
    text = json.dumps(frozen, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def correction_sentence(method: str, family: str, size: int) -> str:
    """Which tests were corrected together, and how."""
    return f"q: {_METHODS.get(method, method)} over {counted(size, 'test')} ({family})"


def _joined(texts: Iterable[str]) -> str:
    return " / ".join(texts)
