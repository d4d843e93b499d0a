"""Keys, tokens and passwords are used, and are found nowhere afterwards."""

from traceback import format_exception

import httpx
import pytest
from playwright.sync_api import expect

from benchlib import bootstrap
from benchlib.application.dataset_service import DatasetService
from benchlib.infrastructure.storage.database import open_store
from benchlib.settings import Settings, get_settings
from tests.browser.conftest import settled
from tests.fake_vllm import fake_vllm_process

pytestmark = pytest.mark.browser

KNOWN_KEY = "sk-known-to-all-6f1d"
FORM_KEY = "sk-of-a-form-77aa"
WRONG_KEY = "sk-that-is-wrong-90bc"
TOKEN = "token-of-the-api-31fe"
PASSWORD = "password-of-the-store-58d2"
SECRETS = (KNOWN_KEY, FORM_KEY, WRONG_KEY, TOKEN, PASSWORD)

PAGES = (
    *("", "start_run", "datasets", "traits", "engines"),
    *(f"{page}?run=1" for page in ("progress", "runs", "metrics", "omnibus", "deltas", "forest")),
    *("order_effects?run=1", "answers?run=1"),
    *("progress?run=3", "runs?run=4", "answers?run=4"),
)
FORMATS = ("csv", "parquet", "latex", "html")
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


def check(texts):
    """No text holds a secret; each is named by where it was found."""
    for name, text in texts.items():
        content = text if isinstance(text, bytes) else text.encode()
        assert not [secret for secret in SECRETS if secret.encode() in content], name


def run_to_its_end(client, **command):
    body = {"dataset_id": 1, "model_name": "fake-model", "trait_ids": [1, 2], **command}
    answer = client.post("/benchmarks/start", json=body)
    run_id = answer.raise_for_status().json()["run_id"]
    while (status := client.get(f"/benchmarks/{run_id}/status").json())["status"] in (
        "queued",
        "running",
    ):
        pass
    return status


def answers_of_the_api(client, run_ids):
    """What every reading route answers, by its address."""
    texts = {}
    paths = client.get("/openapi.json").raise_for_status().json()["paths"]
    for path, operations in paths.items():
        if "get" not in operations:
            continue
        for run_id in run_ids if "{run_id}" in path else (1,):
            for kind in FORMATS if "{format}" in path else ("",):
                address = path.format(
                    run_id=run_id, dataset_id=1, trait_category="warmth", format=kind
                )
                answer = client.get(address, params=needed(operations["get"]))
                assert answer.status_code != 422, (address, answer.text)
                assert answer.status_code < 500, (address, answer.text)
                texts[str(answer.url)] = answer.content + repr(answer.headers).encode()
    return texts


def needed(operation):
    """The parameters without which a route refuses."""
    known = {"attribute": "gender"}
    return {
        one["name"]: known[one["name"]]
        for one in operation.get("parameters", ())
        if one["in"] == "query" and one["required"]
    }


def test_keys_and_tokens_are_found_nowhere(start_app, page, tmp_path):
    frames, addresses = {}, set()
    page.on(
        "websocket",
        lambda socket: socket.on(
            "framereceived", lambda frame: frames.update({f"frame {len(frames)}": frame})
        ),
    )
    page.on("request", lambda request: addresses.add(request.url))
    with (
        fake_vllm_process("--api-key", KNOWN_KEY) as known,
        fake_vllm_process("--api-key", FORM_KEY) as other,
    ):
        app = start_app(
            VLLM_BASE_URL=known,
            VLLM_API_KEY=KNOWN_KEY,
            BENCHLIB_API_TOKEN=TOKEN,
            BENCHLIB_ENGINE_PATIENCE_SECONDS="0",
        )
        with httpx.Client(base_url=f"{app.url}/api", timeout=60, headers=AUTHORIZED) as client:
            assert run_to_its_end(client)["status"] == "done"
            form = {"vllm_base_url": other, "vllm_api_key": FORM_KEY}
            assert run_to_its_end(client, **form)["status"] == "done"
            wrong = run_to_its_end(client, **{**form, "vllm_api_key": WRONG_KEY})
            assert wrong["status"] == "failed"
            assert "key" in wrong["error"]
            faults = [{"kind": kind, "message": FORM_KEY} for kind in ("truncated", "status")]
            httpx.post(
                f"{other}/fake/script", json={"faults": [{"kind": "ok", "times": 9}, *faults]}
            )
            broken = run_to_its_end(client, **form)
            assert broken["status"] == "failed", broken
            away = run_to_its_end(client, **{**form, "vllm_base_url": "http://127.0.0.1:9"})
            assert away["status"] == "failed"
            refused = [
                client.post("/benchmarks/start", json={"vllm_api_key": [FORM_KEY]}),
                client.post("/benchmarks/start", json={FORM_KEY: 1, "vllm_api_key": FORM_KEY}),
                client.get("/runs", headers={"Authorization": f"Bearer {WRONG_KEY}"}),
            ]
            assert [answer.status_code for answer in refused] == [422, 422, 401]
            check({f"refusal {i}": answer.text for i, answer in enumerate(refused) if i != 1})
            check(answers_of_the_api(client, (1, 3)))

        page.goto(f"{app.url}/engines")
        for label, text in (("Address", other), ("API key", FORM_KEY)):
            settled(page).get_by_role("textbox", name=label).fill(text)
            page.get_by_role("textbox", name=label).press("Enter")
        settled(page).get_by_role("button", name="Test connection").click()
        expect(page.get_by_text("fake-model").first).to_be_visible()
        for path in PAGES:
            page.goto(f"{app.url}/{path}")
            settled(page)
            check({f"/{path}": page.content()})
        app.stop()
    check(frames)
    check({address: address for address in addresses})
    check({"log": "".join(app.log)})
    files = [path for path in app.folder.rglob("*") if path.is_file()]
    assert any(b"fake-model" in path.read_bytes() for path in files)  # what is there is found
    check({str(path): path.read_bytes() for path in files})
    store = open_store(f"sqlite:///{app.folder / 'data' / 'benchlib.db'}")
    service = DatasetService(store)
    check({kind: service.export_personas(1, kind) for kind in ("csv", "parquet")})
    store.close()
    assert len(frames) > len(PAGES)


@pytest.mark.postgres
def test_the_password_of_the_store_is_found_nowhere(postgres_url, tmp_path, caplog, monkeypatch):
    url = postgres_url.replace("test@", f"test:{PASSWORD}@")
    parts = bootstrap.build(Settings(db_url=url, data_dir=tmp_path))
    texts = {"health": repr(parts.service.get_health()), "store": parts.store.database}
    bootstrap.close(parts)
    for number, wrong in enumerate(
        (
            url.replace("/fresh", "/absent"),
            url.replace(f":{PASSWORD}@", f":{PASSWORD}@127.0.0.1:9"),
            f"postgresql://test:{PASSWORD}:{PASSWORD}@[::1/fresh",
            f"postgresql://test:{PASSWORD}@host:port/fresh",
            f"mysql://test:{PASSWORD}@host/fresh",
            f"postgresql://test@/absent?host={tmp_path}&password={PASSWORD}",
        )
    ):
        monkeypatch.setenv("BENCHLIB_DB_URL", wrong)
        get_settings.cache_clear()
        with pytest.raises(SystemExit, match="benchlib cannot start") as caught:
            bootstrap.check_start()
        texts[f"URL {number}"] = "".join(format_exception(caught.value))
    get_settings.cache_clear()
    texts["log"] = caplog.text
    check(texts)
