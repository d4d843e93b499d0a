"""The connection test of the form: who answers, what is served, what it can do."""

from benchlib.domain.asking.engine_reports import EngineConnection, untested_connection
from benchlib.domain.errors import BenchlibError, EngineFault
from benchlib.infrastructure.engines.allowed_hosts import normalise_address
from benchlib.infrastructure.engines.http import EngineHttp, open_session
from benchlib.infrastructure.engines.identity import EngineRefusal, choose_model, identify
from benchlib.infrastructure.engines.probe import Prober


async def inspect_engine(
    address: str,
    *,
    api_key: str | None = None,
    model_name: str | None = None,
    timeout_seconds: float = 30.0,
) -> EngineConnection:
    """Test a connection for a form; nothing is raised, `error` says what is wrong."""
    try:
        address = normalise_address(address)
        async with open_session(api_key) as session:
            http = EngineHttp(session, address, timeout_seconds)
            found = untested_connection(address)
            try:
                await _test(http, model_name, bool(api_key), found)
            except EngineRefusal as refusal:
                error: str | None = f"{address} {refusal}."
            except EngineFault as fault:
                error = str(fault)
            else:
                error = None
            return {**found, "ok": error is None, "error": error}
    except BenchlibError as error:
        # What is wrong with the address may be the password in it.
        return untested_connection("" if "@" in address else address, str(error))


async def _test(
    http: EngineHttp, model_name: str | None, has_key: bool, found: EngineConnection
) -> None:
    """Fill in what the server is and can do, as far as it answers."""
    identity = await identify(http, has_key=has_key)
    found["engine_version"] = identity.version
    found["models"] = [model.name for model in identity.models]
    name = choose_model(identity, model_name)
    prober = Prober(http, name, identity.kind == "vllm", 0.0, 200)
    plan = await prober.find_plan("distribution")
    structured = plan.enforced or plan.logprobs_source == "choice"
    if plan.logprobs_source == "logprob_token_ids":
        structured = await prober.find_structured("rating") is not None
    found["supports"] = {
        "batch": plan.route == "batch",
        "distribution": plan.logprobs_source is not None,
        "structured": structured,
    }
    found["notes"] = list(prober.notes)
