"""The connection test of the form."""

from benchlib.infrastructure.engines.connection_test import inspect_engine
from tests.fake_vllm import FakeVllm
from tests.infrastructure.engines.asking import KEY, run


def test_inspecting_an_engine_tells_what_it_can_do():
    async def scenario():
        async with FakeVllm(api_key=KEY) as fake:
            found = await inspect_engine(fake.address + "/v1", api_key=KEY)
            assert found == {
                "address": fake.address,
                "ok": True,
                "error": None,
                "engine_version": "0.32.0",
                "models": ["fake-model"],
                "supports": {"batch": True, "distribution": True, "structured": True},
                "notes": [],
            }
            fake.settings.batch = fake.settings.logprobs = fake.settings.regex = False
            fake.settings.json = fake.settings.response_format = False
            found = await inspect_engine(fake.address, api_key=KEY)
            assert found["supports"] == {"batch": False, "distribution": False, "structured": False}
            assert found["notes"]

    run(scenario)


def test_inspecting_what_is_no_engine_gives_a_sentence():
    async def scenario():
        async with FakeVllm(api_key=KEY) as fake:
            for address, key, model, says in [
                ("http://127.0.0.1:1", None, None, "refused the connection."),
                (fake.address, None, None, "wants an API key"),
                (fake.address, "wrong", None, "does not accept the API key"),
                (fake.address, KEY, "mine", "does not serve the model 'mine'"),
                ("nowhere.invalid", None, None, "cannot be resolved"),
                ("ftp://x", None, None, "is not an http address"),
                ("http://a:hunter2@x", None, None, "own field"),
            ]:
                found = await inspect_engine(address, api_key=key, model_name=model)
                assert not found["ok"]
                assert says in found["error"]
                assert found["error"].endswith(".")
                assert "hunter2" not in repr(found)
                assert KEY not in repr(found)

    run(scenario)
