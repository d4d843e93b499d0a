"""Which hosts the server asks on behalf of a form."""

import asyncio
import socket

import aiohttp
import pytest

from benchlib.domain.errors import EngineFault, InvalidInput
from benchlib.infrastructure.engines.allowed_hosts import checked_addresses, open_socket
from benchlib.infrastructure.engines.http import EngineHttp, open_session
from benchlib.settings import Settings


def settings(tmp_path, **fields):
    return Settings(data_dir=tmp_path, **fields)


@pytest.mark.parametrize(
    "address", ["http://localhost:8000", "127.0.0.1:1", "http://127.9.9.9", "http://[::1]:8000/v1"]
)
def test_this_machine_is_always_allowed(tmp_path, address):
    assert len(checked_addresses((address,), settings(tmp_path))) == 1


@pytest.mark.parametrize(
    "address",
    [
        "http://gpu.example:8000",
        "http://10.0.0.7",
        "http://0.0.0.0:8000",
        "http://2130706433",  # 127.0.0.1 as one number: a spelling to slip through
        "http://0x7f.1:8000",
        "http://localhost.example",
        "http://[::ffff:10.0.0.7]",
    ],
)
def test_another_host_needs_a_setting(tmp_path, address):
    with pytest.raises(InvalidInput, match="BENCHLIB_ENGINE_HOSTS"):
        checked_addresses((address,), settings(tmp_path))


def test_hosts_are_allowed_by_either_setting_in_any_case(tmp_path):
    chosen = settings(
        tmp_path,
        vllm_base_url="http://gpu-1:8000,http://GPU-2:8000",
        engine_hosts="Box.lan, 10.0.0.7",
    )
    addresses = ("http://gpu-2:9000", "http://box.LAN.", "http://10.0.0.7")
    assert len(checked_addresses(addresses, chosen)) == 3
    with pytest.raises(InvalidInput, match=r"gpu-3"):
        checked_addresses(("http://gpu-1", "http://gpu-3"), chosen)
    assert checked_addresses(("http://any.where",), settings(tmp_path, engine_hosts="*"))


@pytest.mark.parametrize(
    "address",
    [
        "http://169.254.169.254",
        "http://[::ffff:169.254.169.254]",
        "http://[fd00:ec2::254]",
        "http://100.100.100.200",
    ],
)
def test_metadata_is_never_asked(tmp_path, address):
    with pytest.raises(InvalidInput, match="metadata"):
        checked_addresses((address,), settings(tmp_path, engine_hosts=f"*,{address[7:]}"))


@pytest.mark.parametrize("host", ["169.254.169.254", "2852039166", "0xa9fea9fe", "0251.254.43518"])
def test_metadata_is_refused_when_the_connection_is_made(host):
    """Whatever spelling or name led there: these are what the resolver makes of numbers."""
    (found, *_) = socket.getaddrinfo(host, 80, type=socket.SOCK_STREAM)
    assert found[4][0] == "169.254.169.254"
    with pytest.raises(OSError, match="metadata"):
        open_socket(found)


def test_a_name_that_leads_to_metadata_is_refused(monkeypatch):
    async def lookup(_self, host, port=0, family=socket.AF_INET):
        fields = {"hostname": host, "host": "169.254.169.254", "port": port}
        return [{**fields, "family": family, "proto": 0, "flags": 0}]

    monkeypatch.setattr(aiohttp.resolver.ThreadedResolver, "resolve", lookup)
    monkeypatch.setattr(aiohttp.resolver.DefaultResolver, "resolve", lookup)

    async def ask():
        async with open_session(None) as session:
            await EngineHttp(session, "http://innocent.example", 5).get("/v1/models")

    with pytest.raises(EngineFault, match="metadata"):
        asyncio.run(ask())
