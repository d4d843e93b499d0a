"""First contact with a run's addresses: which of them can serve it, and how they are asked."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from benchlib.domain.errors import EngineFault, EngineNotReachable
from benchlib.domain.records import Answer, EngineReport
from benchlib.domain.vocabulary import AnswerMode
from benchlib.infrastructure.engines.backoff import Backoff
from benchlib.infrastructure.engines.chat_protocol import REFUSED, AskPlan
from benchlib.infrastructure.engines.endpoints import Endpoint, absent_endpoint
from benchlib.infrastructure.engines.http import EngineHttp, Reply
from benchlib.infrastructure.engines.identity import (
    EngineIdentity,
    EngineRefusal,
    ServedModel,
    choose_model,
    fault_of,
    identify,
)
from benchlib.infrastructure.engines.probe import (
    Capabilities,
    ask_once,
    probe,
    sample_questions,
)


@dataclass(frozen=True, slots=True)
class Handshake:
    """What a client needs to start.

    Attributes:
        endpoints: The addresses in use, including those that do not answer yet.
        plan: How they are asked.
        report: For the run's manifest.
        model_answered: The model's name in replies, if they give one.
    """

    endpoints: tuple[Endpoint, ...]
    plan: AskPlan
    report: EngineReport
    model_answered: str | None


async def handshake(
    engines: list[EngineHttp],
    model_name: str | None,
    answer_mode: AnswerMode,
    *,
    temperature: float,
    max_new_tokens: int,
    has_key: bool,
    backoff: Backoff,
    clock: Callable[[], float],
) -> Handshake:
    """Contact all addresses, probe the first that can serve, check that the others match it.

    Raises:
        EngineNotReachable: None can serve; the message has a line for each.
    """
    candidates = await asyncio.gather(*(_identify(http, model_name, has_key) for http in engines))
    first: _Candidate | None = None
    found: Capabilities | None = None
    for candidate in candidates:
        if candidate.problem is not None:
            continue
        try:
            if first is None or found is None:
                found = await probe(
                    candidate.http,
                    candidate.model,
                    answer_mode,
                    is_vllm=candidate.identity.kind == "vllm",
                    temperature=temperature,
                    max_new_tokens=max_new_tokens,
                )
                first = candidate
            else:
                await _match(candidate, first, found)
        except EngineRefusal as refusal:
            candidate.problem = str(refusal)
        except EngineFault as fault:
            candidate.note(fault)
    if first is None or found is None:
        raise _not_reachable(candidates)
    notes = list(found.notes)
    if model_name is None and len(first.identity.models) > 1:
        notes.append(f"No model was named; the first one served is {first.model}.")
    endpoints = []
    for candidate in candidates:
        served = candidate.served
        if candidate.problem is None:
            revision = served.revision if served else None
            endpoints.append(Endpoint(candidate.http, revision, backoff))
        elif candidate.may_return:
            endpoints.append(absent_endpoint(candidate.http, candidate.sentence, clock(), backoff))
            notes.append(f"{candidate.sentence} It is used once it answers.")
        else:
            notes.append(f"{candidate.sentence} It is left out of this run.")
    served = first.served
    report = EngineReport(
        kind=first.identity.kind,
        addresses=tuple(endpoint.http.address for endpoint in endpoints),
        model_name=first.model,
        model_revision=served.revision if served else None,
        engine_version=first.identity.version,
        answer_mode=answer_mode,
        answer_mode_used=found.plan.mode,
        route=found.plan.route,
        logprobs_source=found.plan.logprobs_source,
        max_model_len=served.max_model_len if served else None,
        notes=tuple(notes),
    )
    return Handshake(tuple(endpoints), found.plan, report, found.model_answered)


_UNKNOWN = EngineIdentity("openai-compatible", None, ())


@dataclass(slots=True)
class _Candidate:
    """One address at first contact; `problem` does not name the address."""

    http: EngineHttp
    identity: EngineIdentity = _UNKNOWN
    model: str = ""
    problem: str | None = None
    may_return: bool = False

    @property
    def served(self) -> ServedModel | None:
        return self.identity.find(self.model)

    @property
    def sentence(self) -> str:
        return f"{self.http.address} {self.problem}."

    def note(self, fault: EngineFault) -> None:
        self.problem = str(fault).removeprefix(self.http.address).strip().removesuffix(".")
        self.may_return = True


async def _identify(http: EngineHttp, model_name: str | None, has_key: bool) -> _Candidate:
    candidate = _Candidate(http)
    try:
        candidate.identity = await identify(http, has_key=has_key)
        candidate.model = choose_model(candidate.identity, model_name)
    except EngineRefusal as refusal:
        candidate.problem = str(refusal)
    except EngineFault as fault:
        candidate.note(fault)
    return candidate


async def _match(candidate: _Candidate, first: _Candidate, found: Capabilities) -> None:
    """Check that another address serves the same model in the same way.

    Raises:
        EngineRefusal: It does not.
        EngineFault: It stopped answering.
    """
    if candidate.model != first.model:
        raise EngineRefusal(f"serves {candidate.model}, not {first.model}")
    sample = sample_questions(found.plan.mode)[:1]
    reply = await ask_once(candidate.http, found.plan, candidate.model, sample)
    if isinstance(reply, Reply):
        if reply.status not in REFUSED and reply.status != 404:
            raise fault_of(candidate.http.address, reply)
        raise EngineRefusal(f"cannot be asked like {first.http.address} ({reply.status})")
    needs_answer = found.plan.logprobs_source is not None or found.plan.enforced
    if needs_answer and not isinstance(reply.outcomes[0], Answer):
        raise EngineRefusal(f"cannot be asked like {first.http.address}")
    if reply.model != found.model_answered:
        raise EngineRefusal(f"answers as {reply.model}, not as {found.model_answered}")


def _not_reachable(candidates: list[_Candidate]) -> EngineNotReachable:
    lines = (
        "\n".join(f"- {candidate.sentence}" for candidate in candidates)
        or "- no address was given."
    )
    return EngineNotReachable(
        "No engine can serve this run; start a server or correct address, key or model. "
        f"Tried:\n{lines}"
    )
