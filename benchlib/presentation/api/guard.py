"""Who may call the API: programs with access, never foreign web pages; and no oversized bodies."""

import secrets
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse

LARGEST_BODY: Final = 2**20
"""Largest request body in bytes."""

_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


class Guard:
    """Lets a request through to the API, or refuses it with a sentence.

    - With the token (`Authorization: Bearer …`) a request may come from anywhere.
    - Without it, the Host header must be this machine's name or an address, which prevents DNS
      rebinding; only this machine may write, and only while no token is set.
    - Where people log in, reading and writing need the token; only /health is open to all.
    - A write must not come from a page of another origin, and a body must be JSON of at most
      LARGEST_BODY.

    Args:
        api: The application to protect.
        token: BENCHLIB_API_TOKEN; None if none is set.
        has_users: Whether people log in to the dashboard.
    """

    def __init__(self, api: App, token: str | None, *, has_users: bool = False) -> None:
        self._api = api
        self._token = token
        self._has_users = has_users
        self._names = {"localhost", socket.gethostname().lower()}

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._api(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal is None:
            body = await _body(receive)
            if body is None:
                refusal = _TOO_LARGE
        if refusal is not None:
            status, sentence = refusal
            challenge = {"WWW-Authenticate": "Bearer"} if status == 401 else None
            answer = JSONResponse({"ok": False, "error": sentence}, status, headers=challenge)
            await answer(scope, receive, send)
            return
        sent = False

        async def replay() -> Message:
            nonlocal sent
            if sent:
                return await receive()  # only a disconnect can follow
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._api(scope, replay, send)

    def _refusal(self, scope: MutableMapping[str, Any], headers: Headers) -> tuple[int, str] | None:
        given = headers.get("authorization")
        if given is not None and self._token is not None:
            expected = f"Bearer {self._token}"
            if not secrets.compare_digest(given.encode(), expected.encode()):
                return 401, "The token is wrong; send BENCHLIB_API_TOKEN as Authorization: Bearer."
            known = True
        else:
            known = False
        host = _hostname(f"//{headers.get('host', '')}")
        if not known and not (host in self._names or _is_address(host)):
            return 403, (
                "This name is not known to the dashboard; use its address, or set "
                "BENCHLIB_API_TOKEN and send it as Authorization: Bearer."
            )
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if self._has_users and not known and path != "/health":
            return 401, (
                "People log in to this dashboard, so the API needs the token; set "
                "BENCHLIB_API_TOKEN and send it as Authorization: Bearer."
            )
        if scope["method"] in _READS:
            return None
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != headers.get("host"):
            return 403, "Web pages of other origins may not write here."
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        if has_body and kind != "application/json":
            return 415, "Send the body as JSON, with Content-Type: application/json."
        if known:
            return None
        if self._token is not None:
            return 401, "Writing needs the token; send BENCHLIB_API_TOKEN as Authorization: Bearer."
        if not (_is_here(scope.get("client")) and _is_here(scope.get("server")) and _is_own(host)):
            return 401, (
                "Only this machine may write; set BENCHLIB_API_TOKEN where the dashboard runs and "
                "send it as Authorization: Bearer."
            )
        return None


_TOO_LARGE: Final = (
    413,
    f"The body is too large; the API takes at most {LARGEST_BODY // 2**20} MiB.",
)


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None as soon as it is too large, whatever Content-Length announced."""
    chunks, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b""  # the client has gone
        size += len(message.get("body", b""))
        if size > LARGEST_BODY:
            return None
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(chunks)


def _hostname(address: str) -> str:
    try:
        return (urlsplit(address).hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_address(host: str) -> bool:
    return _address(host) is not None


def _is_own(host: str) -> bool:
    return host == "localhost" or _is_loopback(host)


def _is_here(peer: Any) -> bool:
    """Whether one end of the connection is on this machine (or is a Unix socket)."""
    if not peer or peer[1] is None:
        return peer is not None
    return _is_loopback(peer[0])


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return address is not None and address.is_loopback


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """Parse an address; None if it is none. IPv4-mapped IPv6 (`::ffff:…`) becomes IPv4."""
    try:
        address = ip_address(host)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
