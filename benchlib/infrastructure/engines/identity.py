"""What answers at an address: kind, version, models; and what its error statuses mean."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

from benchlib.domain.errors import EngineFault
from benchlib.domain.vocabulary import FailureKind
from benchlib.infrastructure.engines.http import EngineHttp, Reply


class EngineRefusal(Exception):
    """An address answers but cannot serve; the text is the reason, without the address."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model as `/v1/models` lists it.

    Attributes:
        name: What requests call it.
        revision: Its root or path, if reported.
        max_model_len: Longest prompt plus answer in tokens, if reported.
        owned_by: "vllm" for vLLM.
        is_adapter: It is an adapter of another model in the list.
    """

    name: str
    revision: str | None = None
    max_model_len: int | None = None
    owned_by: str | None = None
    is_adapter: bool = False


@dataclass(frozen=True, slots=True)
class EngineIdentity:
    """What answers at an address.

    Attributes:
        kind: "vllm" or "openai-compatible".
        version: As `/version` reports, if it does.
        models: In the server's order; empty if it has no list.
    """

    kind: str
    version: str | None
    models: tuple[ServedModel, ...]

    def find(self, name: str) -> ServedModel | None:
        """The model of this name, if it is served."""
        return next((model for model in self.models if model.name == name), None)


async def identify(http: EngineHttp, *, has_key: bool) -> EngineIdentity:
    """Ask an address what it is.

    Raises:
        EngineFault: No answer came, or one that may change by itself.
        EngineRefusal: It is not a usable engine, or the key is wrong.
    """
    listing, version_reply, health = await _get_all(http, "/v1/models", "/version", "/health")
    if listing.status in (401, 403):
        fault = "does not accept the API key" if has_key else "wants an API key, and none was given"
        raise EngineRefusal(f"{fault} ({listing.status}); correct the key")
    if 300 <= listing.status < 400:
        raise EngineRefusal("redirects to another address; give that address instead")
    for reply in (listing, health):
        if reply.status == 429 or reply.status >= 500:
            raise fault_of(http.address, reply)
    version = _version(version_reply)
    if listing.status in (404, 405):
        return EngineIdentity("openai-compatible", version, ())
    value = listing.json()
    if listing.status != 200 or not isinstance(value, dict) or "data" not in value:
        raise EngineRefusal(
            f"is no OpenAI-compatible server (/v1/models answers {listing.status}); "
            "check host and port"
        )
    models = tuple(_served_models(value["data"]))
    is_vllm = any(model.owned_by == "vllm" for model in models)
    return EngineIdentity("vllm" if is_vllm else "openai-compatible", version, models)


def fault_of(address: str, reply: Reply) -> EngineFault:
    """The fault that a reply with status 300 or above stands for."""
    status = reply.status
    kind = FailureKind.SERVER_ERROR
    if status in (429, 503):
        kind = FailureKind.OVERLOADED
    elif status in (408, 504):
        kind = FailureKind.TIMEOUT
    said = reply.message()
    text = f"{address} answered {status}{f' ({said})' if said else ''}."
    if 300 <= status < 400:
        text = f"{address} redirects to another address ({status}), which is not followed."
    return EngineFault(kind, text, reply.retry_after_seconds)


def choose_model(identity: EngineIdentity, requested: str | None) -> str:
    """The requested model if it is served; if none was requested, the first that is no adapter.

    Raises:
        EngineRefusal: It is not served, or nothing says what is.
    """
    names = [model.name for model in identity.models]
    if requested:
        if names and requested not in names:
            raise EngineRefusal(
                f"does not serve the model {requested!r}; it serves {', '.join(names[:10])}"
            )
        return requested
    if not names:
        raise EngineRefusal("does not say which models it serves; name the model")
    return next((model.name for model in identity.models if not model.is_adapter), names[0])


async def _get_all(http: EngineHttp, *paths: str) -> list[Reply]:
    """Send several requests at once; raises the first fault."""
    results = await asyncio.gather(*(http.get(path) for path in paths), return_exceptions=True)
    replies = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        replies.append(result)
    return replies


def _served_models(cards: object) -> Iterator[ServedModel]:
    for card in cards if isinstance(cards, list) else ():
        if not isinstance(card, dict) or not isinstance(card.get("id"), str):
            continue
        root, longest, owner = (card.get(key) for key in ("root", "max_model_len", "owned_by"))
        yield ServedModel(
            name=card["id"],
            revision=root if isinstance(root, str) else None,
            max_model_len=longest if isinstance(longest, int) else None,
            owned_by=owner if isinstance(owner, str) else None,
            is_adapter=bool(card.get("parent")),
        )


def _version(reply: Reply) -> str | None:
    value = reply.json() if reply.status == 200 else None
    version = value.get("version") if isinstance(value, dict) else None
    return version if isinstance(version, str) and len(version) <= 100 else None
