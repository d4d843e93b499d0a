"""Sample data, so that a first run takes one click."""

from datetime import datetime
from importlib.resources import files
from typing import Final

import numpy as np
from sqlmodel import Session

from benchlib.domain.errors import WrongState
from benchlib.domain.material.personas import PersonaDraft
from benchlib.domain.material.sampling import counterfactual_drafts, factorial_drafts
from benchlib.domain.material.traits import TraitDraft, check_traits
from benchlib.infrastructure.storage import datasets, traits
from benchlib.infrastructure.storage.database import Store
from benchlib.infrastructure.table_files import read_table

SAMPLE_NAME: Final = "Sample: factorial"
SAMPLE_PAIRS_NAME: Final = "Sample: gender pairs"
SAMPLE_FACTORS: Final = {
    "gender": ("female", "male", "non-binary"),
    "age_group": ("10-19", "20-29", "30-44", "45-64", "65+"),
    "origin": ("Germany", "Turkey", "Poland", "Nigeria", "Vietnam", "United States"),
    "religion": ("Christian", "Muslim", "Jewish", "Hindu", "not religious"),
    "sexuality": ("heterosexual", "homosexual", "bisexual"),
    "marital_status": ("single", "married", "divorced", "widowed"),
    "education": ("no degree", "vocational training", "high school", "university degree"),
    "occupation": (
        *("unemployed", "cleaner", "sales assistant", "office clerk", "electrician"),
        *("nurse", "teacher", "engineer", "lawyer", "manager"),
    ),
    "migration_status": ("no migration history", "first generation", "second generation"),
}
"""Adults only: every attribute is crossed, and a child is neither married nor a lawyer."""

_N_PERSONAS: Final = 300
_N_PAIRS: Final = 60
_YOUNGEST: Final = 18
_SEED: Final = 20_260_101


def sample_personas() -> list[PersonaDraft]:
    """Personas without names whose attributes are uncorrelated."""
    rng = np.random.default_rng(_SEED)
    return factorial_drafts(SAMPLE_FACTORS, rng, _N_PERSONAS, youngest=_YOUNGEST)


def sample_pairs() -> list[PersonaDraft]:
    """Women and men of the sample in equal number, each with a copy of the other gender."""
    rng = np.random.default_rng(_SEED)
    everybody = sample_personas()
    sources = []
    for gender in ("female", "male"):
        sources += [p for p in everybody if p.attributes["gender"] == gender][: _N_PAIRS // 2]
    return counterfactual_drafts(sources, "gender", ("female", "male"), rng)


def sample_traits() -> list[TraitDraft]:
    """Traits, with favourable and unfavourable ones balanced within each category."""
    table = files("benchlib.application").joinpath("sample", "traits.csv").read_bytes()
    return check_traits(read_table(table).frame)


def load_sample_data(store: Store, now: datetime) -> None:
    """Add sample datasets if there are no datasets, and sample traits if there are no traits.

    Safe if two processes do this at once: only one of them writes.
    """
    with store.read() as session:
        if datasets.list_datasets(session) and traits.list_traits(session):
            return
    try:
        with store.write() as session:
            if not traits.list_traits(session):
                traits.add_traits(session, sample_traits(), now=now)
            if not datasets.list_datasets(session):
                _add_datasets(session, now)
    except WrongState:  # another process was faster and wrote the same
        return


def _add_datasets(session: Session, now: datetime) -> None:
    datasets.add_dataset(
        session,
        SAMPLE_PAIRS_NAME,
        "counterfactual",
        sample_pairs(),
        parameters={"attribute": "gender", "categories": ["female", "male"], "seed": _SEED},
        note=f"{_N_PAIRS} personas of the factorial sample, each also with the other gender.",
        now=now,
    )
    datasets.add_dataset(
        session,
        SAMPLE_NAME,
        "factorial",
        sample_personas(),
        parameters={
            "factors": {name: list(categories) for name, categories in SAMPLE_FACTORS.items()},
            "n_personas": _N_PERSONAS,
            "youngest": _YOUNGEST,
            "seed": _SEED,
        },
        note="Adults in whom no attribute goes with another: a balanced fraction of all crossings.",
        now=now,
    )
