"""Small personas, traits and runs for tests of the store and what stands on it."""

import threading
from datetime import UTC, datetime, timedelta

from benchlib.domain.asking.work_plan import count_items
from benchlib.domain.material.personas import PersonaDraft
from benchlib.domain.material.traits import TraitDraft
from benchlib.domain.records import RunConfig
from benchlib.infrastructure.execution.executor import WorkerContext
from benchlib.infrastructure.execution.run_monitor import RunMonitor
from benchlib.infrastructure.storage import datasets, runs, traits
from benchlib.settings import Settings

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


LOGIN = {
    "redirect_uri": "http://localhost:8501/oauth2callback",
    "cookie_secret": "a-secret-of-tests-0123456789abcdef",
    "client_id": "benchlib",
    "client_secret": "secret",
    "server_metadata_url": "https://id.example.org/.well-known/openid-configuration",
}
"""A section [auth], of a provider that is never asked."""


HANGS_SECONDS = 120
"""No test passes or fails by it: it ends one that would wait for ever."""


class Clock:
    """Time that moves only when a test says so."""

    def __init__(self):
        self.seconds = 1_000.0

    def monotonic(self):
        return self.seconds

    def now(self):
        return NOW + timedelta(seconds=self.seconds)


class WaitingSeen(RunMonitor):
    """Sets `stored` once the store says that a run waits for its engine."""

    def __init__(self):
        super().__init__()
        self.stored = threading.Event()

    def committed(self, run):
        super().committed(run)
        if run.activity is not None and run.activity.startswith("Waiting for the engine"):
            self.stored.set()


def add_dataset(store, n_personas=6, name="six"):
    personas = [
        PersonaDraft(
            f"persona-{i}",
            {"gender": ("female", "male")[i % 2], "origin": ("north", "south", "east")[i % 3]},
        )
        for i in range(n_personas)
    ]
    with store.write() as session:
        return datasets.add_dataset(session, name, "imported", personas, parameters={}, now=NOW)


def add_traits(store, n_traits=4):
    drafts = [
        TraitDraft(
            case_id=f"trait-{i}",
            adjective={"en": f"trait{i}", "de": f"merkmal{i}"},
            question={"en": "How {adjective} is this person?", "de": "Wie {adjective}?"},
            category=("competence", "warmth")[i % 2],
            valence=(1, 1, -1, -1)[i % 4],
        )
        for i in range(n_traits)
    ]
    with store.write() as session:
        return traits.add_traits(session, drafts, now=NOW)


def add_run(store, n_personas=6, n_traits=4, **changes):
    """A queued run of n_personas x n_traits, half of the pairs dual."""
    config = RunConfig(
        **{
            "dataset_id": add_dataset(store, n_personas),
            "model_name": "scripted",
            "llm": "vllm",
            "trait_ids": tuple(add_traits(store, n_traits)),
            "dual_fraction": 0.5,
            "seed": 3,
            "max_concurrency": 2,
            **changes,
        }
    )
    total = count_items(n_personas, n_traits, config.dual_fraction)
    with store.write() as session:
        return runs.add_run(session, config, total, NOW)


def claim(store, owner="me"):
    with store.write() as session:
        return runs.claim_next(session, owner, NOW)


def get_run(store, run_id):
    with store.read() as session:
        return runs.get_run(session, run_id)


def worker_context(store, client, *, owner="me", clock=None, **settings):
    clock = clock or Clock()
    return WorkerContext(
        store=store,
        settings=Settings(**settings),
        owner=owner,
        stop=threading.Event(),
        now=clock.now,
        monotonic=clock.monotonic,
        make_client=client.factory,
        git_commit="abc",
    )
