"""The connection test of the form: who answers, what is served, what it can do."""

from dataclasses import dataclass, replace

from benchlib.domain.errors import BenchlibError, EngineFault
from benchlib.infrastructure.engines.allowed_hosts import normalise_address
from benchlib.infrastructure.engines.http import (
    EngineHttp,
    open_session,
)
from benchlib.infrastructure.engines.identity import (
    EngineRefusal,
    ServedModel,
    choose_model,
    identify,
)
from benchlib.infrastructure.engines.probe import Prober


@dataclass(frozen=True, slots=True)
class EngineInspection:
    """The result of a connection test, for a form.

    Attributes:
        address: As it will be used.
        problem: A sentence if it cannot be used; all else is then as far as known.
        kind: "vllm" or "openai-compatible"; None if unknown.
        version: As `/version` reports, if it does.
        models: What is served.
        model_name: The model that was tested, if any.
        takes_batches: Many questions go into one request; None if unknown, as the next two.
        gives_distributions: It reports the probabilities of all five ratings.
        keeps_formats: It keeps answers to a JSON format.
        notes: Sentences for the user.
    """

    address: str
    problem: str | None
    kind: str | None = None
    version: str | None = None
    models: tuple[ServedModel, ...] = ()
    model_name: str | None = None
    takes_batches: bool | None = None
    gives_distributions: bool | None = None
    keeps_formats: bool | None = None
    notes: tuple[str, ...] = ()


async def inspect_engine(
    address: str,
    *,
    api_key: str | None = None,
    model_name: str | None = None,
    timeout_seconds: float = 30.0,
) -> EngineInspection:
    """Test a connection for a form; what is wrong comes back as a sentence, nothing is raised."""
    try:
        address = normalise_address(address)
        async with open_session(api_key) as session:
            http = EngineHttp(session, address, timeout_seconds)
            found = EngineInspection(address, None)
            try:
                identity = await identify(http, has_key=bool(api_key))
                found = replace(
                    found,
                    kind=identity.kind,
                    version=identity.version,
                    models=identity.models,
                )
                name = choose_model(identity, model_name)
                return await _test(http, name, replace(found, model_name=name))
            except EngineRefusal as refusal:
                return replace(found, problem=f"{address} {refusal}.")
            except EngineFault as fault:
                return replace(found, problem=str(fault))
    except BenchlibError as error:
        # What is wrong with it may be the password it holds.
        return EngineInspection("" if "@" in address else address, str(error))


async def _test(http: EngineHttp, name: str, found: EngineInspection) -> EngineInspection:
    prober = Prober(http, name, found.kind == "vllm", 0.0, 200)
    plan = await prober.find_plan("distribution")
    structured = plan.enforced or plan.logprobs_source == "choice"
    if plan.logprobs_source == "logprob_token_ids":
        structured = await prober.find_structured("rating") is not None
    return replace(
        found,
        takes_batches=plan.route == "batch",
        gives_distributions=plan.logprobs_source is not None,
        keeps_formats=structured,
        notes=tuple(prober.notes),
    )
