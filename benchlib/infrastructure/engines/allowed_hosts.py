"""Which hosts may be used as engines: an address typed into a form is requested by our server."""

import socket
from collections.abc import Iterable
from errno import EACCES
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, Final

from yarl import URL

from benchlib.domain.errors import InvalidInput
from benchlib.settings import Settings

_METADATA: Final = (
    ip_network("169.254.0.0/16"),
    ip_network("fe80::/10"),
    ip_network("fd00:ec2::/32"),
    ip_network("100.100.100.200/32"),
)
"""Where clouds give credentials to any process inside: link-local, AWS over IPv6, Alibaba."""


def normalise_address(address: str) -> str:
    """The base URL a person meant: with a scheme; no `/v1`, trailing slash, query or fragment.

    Raises:
        InvalidInput: It is not an http(s) URL, or it contains a user name or password.
    """
    text = address.strip()
    if "://" not in text:
        text = f"http://{text}"
    try:
        url = URL(text)
        host, port = url.host, url.explicit_port
    except ValueError:
        url, host, port = URL(), None, None
    if url.user is not None or url.password is not None:
        raise InvalidInput(
            "The engine address contains a user name or password; put the key into its own field."
        )
    if url.scheme not in ("http", "https") or not host or " " in text:
        raise InvalidInput(
            f"The engine address {text[:200]!r} is not an http address; "
            "write it like http://localhost:8000."
        )
    path = url.path.rstrip("/").removesuffix("/v1").rstrip("/")
    return str(URL.build(scheme=url.scheme, host=host, port=port, path=path)).rstrip("/")


def checked_addresses(addresses: Iterable[str], settings: Settings) -> tuple[str, ...]:
    """The normalised addresses, each on an allowed host.

    Allowed are this machine and the hosts in VLLM_BASE_URL and BENCHLIB_ENGINE_HOSTS, where `*`
    allows every host. No setting allows cloud metadata addresses.

    Raises:
        InvalidInput: One is not an address, or its host is not allowed.
    """
    checked = tuple(normalise_address(address) for address in addresses)
    named = {_host(normalise_address(address)) for address in settings.engine_addresses}
    allowed = {*named, *settings.allowed_hosts}
    for address in checked:
        host = _host(address)
        literal = _literal(host)
        if literal is not None and _is_metadata(literal):
            raise InvalidInput(
                f"{address} is a cloud metadata address, which is never used; correct it."
            )
        if not ({host, "*"} & allowed or host == "localhost" or _is_loopback(literal)):
            raise InvalidInput(
                f"The host {host} is not allowed as an engine; the administrator of this "
                "dashboard can add it to BENCHLIB_ENGINE_HOSTS or VLLM_BASE_URL."
            )
    return checked


def open_socket(address: tuple[Any, ...]) -> socket.socket:
    """A socket for a resolved address: the last check, after all name resolution.

    Args:
        address: As `socket.getaddrinfo` gives it.

    Raises:
        PermissionError: It is a cloud metadata address.
    """
    family, kind, protocol, _, target = address
    found = _literal(str(target[0]).partition("%")[0])
    if found is not None and _is_metadata(found):
        raise PermissionError(EACCES, "cloud metadata addresses are never used")
    return socket.socket(family=family, type=kind, proto=protocol)


def _host(address: str) -> str:
    return (URL(address).host or "").lower().rstrip(".")


def _literal(host: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(host)
    except ValueError:
        return None
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return found


def _is_loopback(literal: IPv4Address | IPv6Address | None) -> bool:
    return literal is not None and literal.is_loopback


def _is_metadata(literal: IPv4Address | IPv6Address) -> bool:
    return any(literal in network for network in _METADATA)
