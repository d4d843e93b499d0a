"""What goes wrong before a run."""

import asyncio

import pytest

from benchlib.domain.errors import EngineChanged, EngineFault, EngineNotReachable, InvalidInput
from benchlib.infrastructure.engines.allowed_hosts import normalise_address
from benchlib.infrastructure.engines.vllm_client import VllmClient
from tests.fake_vllm import FakeVllm, Fault
from tests.infrastructure.engines.asking import KEY, check_answered, connected, questions, run


def test_everything_that_was_tried_is_listed_with_its_reason():
    async def scenario():
        wrong_key, other_model = FakeVllm(api_key="right"), FakeVllm(model="other", api_key=KEY)
        async with wrong_key, other_model, FakeVllm() as silent, FakeVllm(healthy=False) as sick:
            refused = "http://127.0.0.1:1"
            await silent.stop()
            addresses = [refused, wrong_key.address, other_model.address + "/v1/", sick.address]
            with pytest.raises(EngineNotReachable) as caught:
                await VllmClient.connect(addresses, KEY, "mine", "distribution")
            lines = str(caught.value).splitlines()
            assert lines[0].startswith("No engine can serve this run")
            assert lines[1] == f"- {refused} refused the connection."
            assert lines[2] == (
                f"- {wrong_key.address} does not accept the API key (401); correct the key."
            )
            assert lines[3] == (
                f"- {other_model.address} does not serve the model 'mine'; it serves other."
            )
            assert lines[4].startswith(f"- {sick.address} answered 503")
            assert KEY not in str(caught.value)
            with pytest.raises(EngineNotReachable, match="wants an API key, and none was given"):
                await VllmClient.connect([wrong_key.address], None, None, "distribution")

    run(scenario)


def test_a_server_that_never_answers_is_given_up():
    async def silence(reader, writer):
        await reader.read()
        writer.close()

    async def scenario():
        server = await asyncio.start_server(silence, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            with pytest.raises(EngineNotReachable, match=r"gave no answer within 0\.2 s"):
                await VllmClient.connect(
                    [f"127.0.0.1:{port}"], None, None, "distribution", timeout_seconds=0.2
                )

    run(scenario)


def test_what_does_not_speak_http_is_no_engine():
    async def babble(reader, writer):
        await reader.read(10)
        writer.write(b"SSH-2.0-OpenSSH\r\n\r\n")
        writer.close()

    async def scenario():
        server = await asyncio.start_server(babble, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            with pytest.raises(EngineNotReachable, match="did not answer in HTTP"):
                await VllmClient.connect([f"127.0.0.1:{port}"], None, None, "distribution")

    run(scenario)


def test_chat_that_is_refused_is_told_in_the_servers_words():
    async def scenario():
        faults = Fault("status", times=2, status=400, message="No chat template")
        async with FakeVllm(faults=[faults]) as fake:
            with pytest.raises(EngineNotReachable, match=r"400 to a test question \(No chat templ"):
                await VllmClient.connect([fake.address], None, None, "distribution")

    run(scenario)


def test_a_busy_server_is_given_a_moment_before_a_run():
    async def scenario():
        busy = Fault("status", times=2, status=429, retry_after="0")
        async with FakeVllm(faults=[busy]) as fake, connected(fake) as client:
            assert client.report.answer_mode_used == "distribution"

    run(scenario)


def test_an_empty_list_of_addresses_is_said_to_be_one():
    with pytest.raises(EngineNotReachable, match="no address was given"):
        asyncio.run(VllmClient.connect([], None, None, "distribution"))


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("localhost:8000", "http://localhost:8000"),
        (" http://localhost:8000/v1/ ", "http://localhost:8000"),
        ("https://host.example/engine/v1", "https://host.example/engine"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("http://host.example?x=1#y", "http://host.example"),
    ],
)
def test_addresses_are_taken_as_meant(given, meant):
    assert normalise_address(given) == meant


@pytest.mark.parametrize("given", ["", "ftp://x", "http://", "http://a b", "http://x:99999"])
def test_addresses_that_are_none_are_refused(given):
    with pytest.raises(InvalidInput, match="is not an http address"):
        normalise_address(given)


def test_an_address_with_a_password_is_refused_without_repeating_it():
    with pytest.raises(InvalidInput, match="own field") as caught:
        normalise_address("http://me:hunter2@host:8000")
    assert "hunter2" not in str(caught.value)


def test_a_key_that_cannot_be_sent_is_refused_without_repeating_it():
    with pytest.raises(InvalidInput, match="paste it again") as caught:
        asyncio.run(VllmClient.connect(["localhost:1"], "abc\nX-Evil: 1", None, "text"))
    assert "Evil" not in str(caught.value)


def test_the_key_shows_up_nowhere():
    async def scenario():
        async with FakeVllm(api_key=KEY) as fake, connected(fake, key=KEY) as client:
            asked = questions(3)
            check_answered(asked, await client.ask(asked))
            fake.settings.api_key = "another"
            with pytest.raises(EngineChanged, match="no longer accepts the API key") as caught:
                await client.ask(asked)
            shown = [repr(client), str(client), repr(client.report), repr(client.addresses)]
            shown += [repr(value) for value in vars(client).values()]
            shown += [str(caught.value), repr(caught.value)]
            assert not any(KEY in text for text in shown)

    run(scenario)


def test_a_server_that_repeats_the_key_is_not_quoted_with_it():
    async def scenario():
        async with FakeVllm(api_key=KEY) as fake, connected(fake, key=KEY) as client:
            fake.script(Fault("status", status=429, message=f"{KEY} has no quota"))
            with pytest.raises(EngineFault, match=r"\[key\] has no quota") as caught:
                await client.ask(questions(3))
            assert KEY not in repr(caught.value)

    run(scenario)
