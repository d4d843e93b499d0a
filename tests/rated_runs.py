"""Runs with ratings that a test decides, written without executing anything."""

from dataclasses import replace

from benchlib.domain.material.personas import PersonaDraft
from benchlib.domain.material.traits import TraitDraft
from benchlib.domain.records import Answer, Question, RunConfig, WorkItem
from benchlib.domain.vocabulary import SCALE_ORDERS, RunStatus
from benchlib.infrastructure.storage import datasets, results, runs, traits
from benchlib.infrastructure.storage.results import Rated
from tests.samples import NOW, get_run


def people(n, **attributes):
    """n personas; each attribute cycles through its categories."""
    return [
        {name: values[i % len(values)] for name, values in attributes.items()} for i in range(n)
    ]


def add_rated_run(
    store,
    rate,
    *,
    personas,
    valences=(1, 1, -1, -1),
    categories=("competence", "warmth"),
    orders=("in",),
    shares=None,
    status=RunStatus.DONE,
    sources=None,
    name="rated",
    failed=(),
    **config,
):
    """A run in which `rate(persona, trait, order)` gave the raw digit; None = no rating.

    `shares(persona, trait, order)` gives p1..p5 and the valid mass; `sources` maps a persona to
    the one it was made from and the changed attribute; `failed` lists given up (persona, trait).
    """
    drafts = []
    for i, attributes in enumerate(personas):
        source, changed = (sources or {}).get(i, (None, None))
        link = {}
        if source is not None:
            link = {"source_uuid": f"{name}-{source}", "changed_attribute": changed}
        drafts.append(PersonaDraft(f"{name}-{i}", attributes, **link))
    trait_drafts = [
        TraitDraft(
            case_id=f"{name}-trait-{t}",
            adjective={"en": f"trait{t}", "de": f"merkmal{t}"},
            question={"en": "How {adjective} is this person?", "de": "Wie {adjective}?"},
            category=categories[t % len(categories)],
            valence=valence,
        )
        for t, valence in enumerate(valences)
    ]
    with store.write() as session:
        dataset_id = datasets.add_dataset(session, name, "imported", drafts, parameters={}, now=NOW)
        trait_ids = traits.add_traits(session, trait_drafts, now=NOW)
        asked = traits.get_traits(session, trait_ids)
    records = list(datasets.iter_personas(store, dataset_id))
    run_config = RunConfig(
        **{
            "dataset_id": dataset_id,
            "model_name": "scripted",
            "llm": "vllm",
            "trait_ids": tuple(trait_ids),
            **config,
        }
    )
    rated, failures, total = [], [], 0
    for i, persona in enumerate(records):
        for t, trait in enumerate(asked):
            for order in SCALE_ORDERS:
                if order not in orders:
                    continue
                total += 1
                digit = rate(i, t, order)
                question = Question(WorkItem(persona, trait, order), "", "", 1)
                if digit is None:
                    if (i, t) in failed:
                        failures.append(
                            results.FailedAttempt(
                                "unusable", "No rating.", NOW, question, final=True
                            )
                        )
                    continue
                known = shares(i, t, order) if shares else None
                answer = Answer(digit)
                if known is not None:
                    answer = Answer(digit, tuple(known[:5]), known[5])
                rated.append(Rated(question, answer, NOW))
    with store.write() as session:
        run_id = runs.add_run(session, run_config, total, NOW)
        runs.claim_next(session, "me", NOW)
        results.add_results(session, run_id, rated)
        results.add_failures(session, run_id, failures)
        values = {"done": len(rated), "failed": len(failures)}
        runs.renew(session, run_id, "me", changed=True, values=values)
        values = {"tally": results.tally_of(session, run_id)}
        runs.renew(session, run_id, "me", changed=False, values=values)
        if status is not RunStatus.RUNNING:
            runs.finish(session, run_id, "me", status, None, NOW)
    return run_id


def add_run_like(store, like, rate, *, status=RunStatus.DONE, leave_out=0, **changes):
    """A run on the same personas and traits as run `like`, in order `in`.

    The first `leave_out` questions have no rating; `changes` are of the configuration.
    """
    config = replace(get_run(store, like).config, **changes)
    with store.write() as session:
        asked = traits.get_traits(session, config.trait_ids)
        personas = list(datasets.iter_personas(store, config.dataset_id))
        run_id = runs.add_run(session, config, len(personas) * len(asked), NOW)
        runs.claim_next(session, "me", NOW)
        rated = [
            Rated(
                Question(WorkItem(persona, trait, "in"), "", "", 1), Answer(rate(i, t, "in")), NOW
            )
            for i, persona in enumerate(personas)
            for t, trait in enumerate(asked)
        ][leave_out:]
        results.add_results(session, run_id, rated)
        runs.renew(session, run_id, "me", changed=True, values={"done": len(rated)})
        if status is not RunStatus.RUNNING:
            runs.finish(session, run_id, "me", status, None, NOW)
    return run_id


def execute_sql(store, statement):
    """Change the database by hand, as somebody with a shell would."""
    with store.write() as session:
        session.connection().exec_driver_sql(statement)
