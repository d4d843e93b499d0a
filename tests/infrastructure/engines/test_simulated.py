import asyncio
import json
import time

import numpy as np
import pytest

from benchlib.domain.asking.model_client import ModelClient
from benchlib.domain.errors import EngineFault, InvalidInput
from benchlib.domain.records import (
    Answer,
    AnswerFailure,
    PersonaRecord,
    Question,
    TraitRecord,
    WorkItem,
)
from benchlib.domain.simulation.response_model import PlantedModel
from benchlib.domain.vocabulary import FailureKind
from benchlib.infrastructure.engines.simulated import SimulatedClient


def questions(n_personas=4, n_traits=6, attempt=1):
    personas = [
        PersonaRecord(i, f"uuid-{i}", {"gender": ("female", "male")[i % 2]})
        for i in range(n_personas)
    ]
    traits = [
        TraitRecord(i, f"trait-{i}", {"en": "kind"}, {}, "warmth", (1, -1, 0)[i % 3])
        for i in range(n_traits)
    ]
    return [
        Question(WorkItem(persona, trait, order), "system", "user", attempt)
        for persona in personas
        for trait in traits
        for order in ("in", "rev")
    ]


def ask(client: ModelClient, asked, size=None):
    async def run():
        outcomes = []
        for begin in range(0, len(asked), size or len(asked)):
            outcomes += await client.ask(asked[begin : begin + (size or len(asked))])
        await client.close()
        return outcomes

    return asyncio.run(run())


def without_latency(outcomes):
    return [answer._replace(latency_ms=0) for answer in outcomes]


def test_it_says_that_it_is_simulated():
    report = SimulatedClient(answer_mode="rating").report
    assert (report.kind, report.model_name) == ("simulated", "simulated-rater")
    assert report.answer_mode_used == "rating"
    assert report.logprobs_source is None
    assert "Simulated" in report.notes[0]
    assert SimulatedClient().report.logprobs_source == "simulated"


def test_answers_do_not_depend_on_batches_or_on_the_client():
    asked = questions()
    together = without_latency(ask(SimulatedClient(seed=2), asked))
    apart = without_latency(ask(SimulatedClient(seed=2), asked[::-1], size=1))[::-1]
    assert [a.rating_raw for a in together] == [a.rating_raw for a in apart]
    for one, other in zip(together, apart, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-12)
    other_seed = ask(SimulatedClient(seed=3), asked)
    assert [a.rating_raw for a in together] != [a.rating_raw for a in other_seed]


def test_distribution_mode_gives_exact_probabilities_and_the_most_likely_digit():
    model = PlantedModel(seed=7)
    asked = questions()
    for question, answer in zip(asked, ask(SimulatedClient(seed=7), asked), strict=True):
        persona, trait, order = question.item
        planted = model.rate(
            [model.persona(persona.uuid, persona.attributes)],
            [model.trait(trait.case_id, trait.category, trait.valence)],
            [0],
            [0],
            [order == "rev"],
        )
        assert answer.probabilities == pytest.approx(planted.probabilities[0], abs=1e-12)
        assert answer.rating_raw == 1 + int(np.argmax(planted.probabilities[0]))
        assert 0.9 < answer.valid_mass < 1
        assert answer.raw_answer == str(answer.rating_raw)


def test_other_modes_draw_a_digit_and_look_like_an_answer():
    asked = questions()
    by_mode = {
        mode: ask(SimulatedClient(answer_mode=mode), asked)
        for mode in ("rating", "rationale", "text")
    }
    digits = {mode: [a.rating_raw for a in answers] for mode, answers in by_mode.items()}
    assert digits["rating"] == digits["rationale"] == digits["text"]
    for mode in ("rating", "rationale"):
        for answer in by_mode[mode]:
            assert json.loads(answer.raw_answer)["rating"] == answer.rating_raw
            assert answer.probabilities is None
    assert "Simulated" in json.loads(by_mode["rationale"][0].raw_answer)["rationale"]
    assert {a.raw_answer for a in by_mode["text"]} <= set("12345")


def test_planted_faults_are_unusable_answers_fixed_by_item_and_attempt():
    asked = questions(n_personas=50)
    first = ask(SimulatedClient(fault_rate=0.1), asked)
    failed = [isinstance(outcome, AnswerFailure) for outcome in first]
    assert np.mean(failed) == pytest.approx(0.1, abs=0.04)  # 600 attempts, sd .012
    assert {o.kind for o in first if isinstance(o, AnswerFailure)} == {FailureKind.UNUSABLE}
    again = ask(SimulatedClient(fault_rate=0.1), asked[::-1], size=7)[::-1]
    assert [isinstance(outcome, AnswerFailure) for outcome in again] == failed
    second = ask(SimulatedClient(fault_rate=0.1), questions(n_personas=50, attempt=2))
    still = [isinstance(outcome, AnswerFailure) for outcome in second]
    assert still != failed
    healthy = ask(SimulatedClient(), asked)
    for outcome, answer in zip(first, healthy, strict=True):
        assert isinstance(outcome, AnswerFailure) or outcome.rating_raw == answer.rating_raw


@pytest.mark.parametrize(("rate", "kind"), [(0.0, Answer), (1.0, AnswerFailure)])
def test_fault_rates_of_none_and_all(rate, kind):
    assert all(isinstance(o, kind) for o in ask(SimulatedClient(fault_rate=rate), questions()))


def test_transport_faults_hit_a_share_of_the_requests():
    client = SimulatedClient(transport_fault_rate=0.3)

    async def run():
        faults = []
        for question in questions(n_personas=20):
            try:
                await client.ask([question])
            except EngineFault as fault:
                faults.append(fault.kind)
        return faults

    faults = asyncio.run(run())
    assert len(faults) / 240 == pytest.approx(0.3, abs=0.12)
    assert set(faults) == {FailureKind.OVERLOADED}


def test_the_rate_holds_over_concurrent_calls():
    client = SimulatedClient(items_per_second=400)
    asked = questions()  # 48

    async def run():
        began = time.perf_counter()
        await asyncio.gather(client.ask(asked), client.ask(asked))
        return time.perf_counter() - began

    assert asyncio.run(run()) >= 96 / 400 - 0.01


def test_closing_ends_calls_in_flight():
    client = SimulatedClient(items_per_second=1)

    async def run():
        flight = asyncio.create_task(client.ask(questions()))
        await asyncio.sleep(0)
        await client.close()
        return await flight

    with pytest.raises(EngineFault, match="closed"):
        asyncio.run(run())


def test_a_closed_client_answers_no_more():
    client = SimulatedClient()
    asyncio.run(client.close())
    with pytest.raises(EngineFault) as caught:
        asyncio.run(client.ask(questions()))
    assert caught.value.kind is FailureKind.UNREACHABLE


def test_nothing_asked_nothing_answered():
    assert asyncio.run(SimulatedClient().ask([])) == []


@pytest.mark.parametrize(
    "wrong", [{"fault_rate": 1.5}, {"transport_fault_rate": -1}, {"items_per_second": 0}]
)
def test_rates_are_checked(wrong):
    with pytest.raises(InvalidInput):
        SimulatedClient(**wrong)


def digits_by(asked, outcomes, order):
    return [
        answer.rating_raw
        for question, answer in zip(asked, outcomes, strict=True)
        if question.item.scale_order == order and isinstance(answer, Answer)
    ]


def test_the_usual_preset_is_the_rater_of_before():
    asked = questions(20)
    usual = ask(SimulatedClient(seed=3), asked)
    model = ask(SimulatedClient(seed=3, model=PlantedModel()), asked)
    assert without_latency(usual) == without_latency(model)
    assert len(SimulatedClient().report.notes) == 1


@pytest.mark.parametrize("mode", ["rating", "distribution"])
def test_four_is_said_to_three_in_four(mode):
    outcomes = ask(SimulatedClient(preset="four", answer_mode=mode), questions(10, 400))
    share = np.mean([answer.rating_raw == 4 for answer in outcomes])
    assert 0.70 < share < 0.80
    assert 'Says "4"' in SimulatedClient(preset="four").report.notes[1]


def test_refusals_follow_the_group_and_no_attempt_helps():
    outcomes = {}
    for attempt in (1, 2):
        asked = questions(60, 40, attempt)
        outcomes[attempt] = ask(SimulatedClient(preset="refusals"), asked)
    refused = [
        [isinstance(outcome, AnswerFailure) for outcome in outcomes[attempt]] for attempt in (1, 2)
    ]
    assert refused[0] == refused[1]
    for gender, planted in (("female", 0.22), ("male", 0.02)):
        share = np.mean(
            [
                failed
                for failed, question in zip(refused[0], asked, strict=True)
                if question.item.persona.attributes["gender"] == gender
            ]
        )
        assert share == pytest.approx(planted, abs=4 * np.sqrt(planted * (1 - planted) / 2400))


def test_order_and_unbiased_presets_hold_what_they_say():
    asked = questions(80, 40)
    means = {}
    for preset in ("order", "unbiased"):
        outcomes = ask(SimulatedClient(preset=preset, answer_mode="rating"), asked)
        means[preset] = [np.mean(digits_by(asked, outcomes, order)) for order in ("in", "rev")]
    # digits of both orders: the content cancels in their mean, the pull towards high digits stays
    assert np.mean(means["order"]) > 3.7
    assert np.mean(means["unbiased"]) == pytest.approx(3, abs=0.05)
