"""HTTP to one address of an engine; any failure becomes an `EngineFault`.

The API key is kept in a header of the session and nowhere else: no message, address or repr of
this module contains it, and it is redacted from replies that repeat it. Redirects are not followed,
so it cannot leak to another host either.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import aiohttp
import orjson

from benchlib.domain.errors import EngineFault, InvalidInput
from benchlib.domain.vocabulary import FailureKind
from benchlib.infrastructure.engines.allowed_hosts import open_socket

CONNECT_SECONDS: Final = 5.0
"""How long to wait for a connection, whatever the limit for the whole request."""

_LARGEST_BODY: Final = 64 * 2**20
_LONGEST_WAIT_SECONDS: Final = 3600.0
_LONGEST_MESSAGE: Final = 300
_SHORTEST_SECRET: Final = 8
"""Shorter keys are placeholders ("EMPTY", "none") and could be part of any answer."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server answered, whatever its status.

    Attributes:
        status: HTTP status.
        body: Undecoded.
        retry_after_seconds: From `Retry-After`, if it was sent.
    """

    status: int
    body: bytes
    retry_after_seconds: float | None = None

    def json(self) -> Any:
        """The decoded body; None if it is not JSON."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return None

    def message(self) -> str:
        """The server's own error message on one line, shortened; may be empty."""
        value = self.json()
        found = value.get("error", value.get("detail", "")) if isinstance(value, dict) else ""
        if isinstance(found, dict):
            found = found.get("message", "")
        text = " ".join(str(found).split())
        return text if len(text) <= _LONGEST_MESSAGE else text[: _LONGEST_MESSAGE - 1] + "…"


def open_session(api_key: str | None) -> aiohttp.ClientSession:
    """A session for all addresses of a client; needs a running event loop.

    Raises:
        InvalidInput: The key contains characters that cannot be sent.
    """
    headers = {"User-Agent": "benchlib", "Accept-Encoding": "identity"}
    if api_key:
        if not (api_key.isascii() and api_key.isprintable()):
            raise InvalidInput(
                "The API key contains characters that cannot be sent in a header; paste it again."
            )
        headers["Authorization"] = f"Bearer {api_key}"
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, socket_factory=open_socket),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=headers,
        auto_decompress=False,
        trust_env=False,
    )


class EngineHttp:
    """One address, asked through a shared session."""

    def __init__(
        self, session: aiohttp.ClientSession, address: str, timeout_seconds: float
    ) -> None:
        self.address: Final = address
        self._session: Final = session
        key = session.headers.get("Authorization", "").removeprefix("Bearer ").encode()
        self._secret: Final = key if len(key) >= _SHORTEST_SECRET else None
        self._timeout: Final = aiohttp.ClientTimeout(
            total=timeout_seconds, sock_connect=CONNECT_SECONDS
        )
        self._short: Final = aiohttp.ClientTimeout(
            total=min(timeout_seconds, 2 * CONNECT_SECONDS), sock_connect=CONNECT_SECONDS
        )

    def __repr__(self) -> str:
        return f"EngineHttp({self.address})"

    async def get(self, path: str) -> Reply:
        """Request something small.

        Raises:
            EngineFault: No answer came.
        """
        return await self._request("GET", path, None, self._short)

    async def post(self, path: str, body: bytes) -> Reply:
        """Send JSON.

        Raises:
            EngineFault: No answer came.
        """
        return await self._request("POST", path, body, self._timeout)

    async def _request(
        self, method: str, path: str, body: bytes | None, timeout: aiohttp.ClientTimeout
    ) -> Reply:
        if self._session.closed:
            raise EngineFault(FailureKind.UNREACHABLE, "The connection to the engine was closed.")
        headers = None if body is None else _JSON_HEADERS
        try:
            async with self._session.request(
                method,
                self.address + path,
                data=body,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                content = await _read(response)
                if self._secret is not None:
                    content = content.replace(self._secret, b"[key]")
                wait = _retry_after(response.headers) if "Retry-After" in response.headers else None
                return Reply(response.status, content, wait)
        except aiohttp.ConnectionTimeoutError:
            reason = f"did not accept a connection within {CONNECT_SECONDS:.0f} s"
            kind = FailureKind.UNREACHABLE
        except TimeoutError:
            reason = f"gave no answer within {timeout.total:g} s"
            kind = FailureKind.TIMEOUT
        except aiohttp.ClientConnectorDNSError:
            reason, kind = "has a host name that cannot be resolved", FailureKind.UNREACHABLE
        except aiohttp.ClientConnectorCertificateError:
            reason, kind = "has a certificate that is not trusted", FailureKind.UNREACHABLE
        except aiohttp.ClientConnectorError as error:
            reason, kind = _connect_reason(error), FailureKind.UNREACHABLE
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, ConnectionError):
            reason, kind = "broke off the connection", FailureKind.UNREACHABLE
        except aiohttp.ClientError:
            reason, kind = "did not answer in HTTP", FailureKind.SERVER_ERROR
        raise EngineFault(kind, f"{self.address} {reason}.")


_JSON_HEADERS: Final = {"Content-Type": "application/json"}


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body, up to a limit: a server that never stops sending must not exhaust memory."""
    length = response.content_length
    if length is not None and length <= _LARGEST_BODY:
        return await response.read()
    parts, size = [], 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > _LARGEST_BODY:
            raise aiohttp.ClientPayloadError
        parts.append(part)
    return b"".join(parts)


def _connect_reason(error: aiohttp.ClientConnectorError) -> str:
    if isinstance(error.os_error, ConnectionRefusedError):
        return "refused the connection"
    return f"could not be reached ({error.os_error.strerror or 'no reason given'})"


def _retry_after(headers: Any) -> float | None:
    """Seconds to wait; a date is taken relative to the server's own clock."""
    text = headers["Retry-After"].strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            now = parsedate_to_datetime(headers["Date"])
            seconds = (_aware(parsedate_to_datetime(text)) - _aware(now)).total_seconds()
        except (KeyError, ValueError):
            return None
    return min(seconds, _LONGEST_WAIT_SECONDS) if seconds >= 0 else None


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
