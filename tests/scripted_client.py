"""A model client that does what a test says, and remembers what it was asked."""

import asyncio
from collections.abc import Callable

from benchlib.domain.records import Answer, AnswerFailure, EngineReport
from benchlib.domain.vocabulary import FailureKind

REPORT = EngineReport(
    kind="vllm",
    addresses=("http://scripted",),
    model_name="scripted",
    model_revision="1",
    engine_version="0",
    answer_mode="distribution",
    answer_mode_used="distribution",
    route="batch",
    logprobs_source="logprob_token_ids",
)


def rate(question):
    """A rating that depends on the item only: 1..5."""
    return 1 + (question.item.persona.id + question.item.trait.id) % 5


class ScriptedClient:
    """Answers by `script(question)`: an Answer, an AnswerFailure, or an exception to raise."""

    def __init__(self, script: Callable | None = None, *, batch_size=4, report=REPORT):
        self.report = report
        self.batch_size = self.max_batch_size = batch_size
        self.concurrency = 1_000  # the run's own limit counts
        self.addresses = ()
        self.script = script or (lambda question: Answer(rate(question)))
        self.asked = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.closed = False

    async def ask(self, questions):
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(0)
        self.in_flight -= 1
        self.asked.extend(questions)
        outcomes = [self.script(question) for question in questions]
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
        return outcomes

    async def close(self):
        self.closed = True

    async def factory(self, config, api_key, settings):
        self.api_key = api_key
        return self


def unusable(text="I cannot say"):
    return AnswerFailure(FailureKind.UNUSABLE, "No rating in the answer.", text)
