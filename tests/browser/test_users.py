"""People who log in at a real provider, in a real browser: who may look, launch, delete."""

import json
import os
import re
import shutil
import subprocess
import sys

import httpx
import pytest
from playwright.sync_api import expect

from benchlib.application.benchmark_service import BenchmarkService
from benchlib.infrastructure.storage.database import open_store
from benchlib.settings import Settings
from tests.browser.conftest import ROOT, App, _free_port, settled

pytestmark = pytest.mark.browser

TOKEN = "token-9c1e-of-tests"
ELSEWHERE = re.compile(r"^https?://(?!127\.0\.0\.1[:/])")
PEOPLE = (
    {"sub": "vera", "email": "vera@example.org", "email_verified": True, "roles": "viewer"},
    {"sub": "rosa", "email": "rosa@example.org", "email_verified": True, "roles": ["researcher"]},
    {"sub": "ada", "email": "Ada@Example.org", "email_verified": True},
    {"sub": "mallory", "email": "ada@example.org", "email_verified": False},
)
SECRETS = """
[auth]
redirect_uri = "{app}/oauth2callback"
cookie_secret = "a-secret-of-tests-0123456789abcdef"
client_id = "benchlib"
client_secret = "client-secret-of-tests"
server_metadata_url = "{provider}/.well-known/openid-configuration"
"""


@pytest.fixture(scope="module")
def provider():
    """The address of an OpenID provider that knows PEOPLE; its process ends with the module."""
    port = _free_port()
    known = [word for who in PEOPLE for word in ("--user-claims", json.dumps(who))]
    command = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--port", str(port)]
    process = subprocess.Popen(
        [*command, *known], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    for line in process.stdout:
        if "running on" in line:
            break
    # Nothing is read any more: the few lines of this module fit into the pipe.
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(10)
    process.stdout.close()


@pytest.fixture(scope="module")
def app(tmp_path_factory, provider):
    folder = tmp_path_factory.mktemp("users")
    started = App(
        folder,
        place=folder,
        PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        BENCHLIB_ADMINS="ada@example.org",
        BENCHLIB_ROLE_CLAIM="roles",
        BENCHLIB_API_TOKEN=TOKEN,
    )
    (folder / ".streamlit").mkdir()
    shutil.copy(ROOT / ".streamlit" / "config.toml", folder / ".streamlit")
    secrets = SECRETS.format(app=started.url, provider=provider)
    (folder / ".streamlit" / "secrets.toml").write_text(secrets)
    started.start()
    yield started
    started.stop()


def log_in(page, app, name):
    page.route(ELSEWHERE, lambda route: route.abort())  # the provider's pages want a style sheet
    page.goto(app.url)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("button", name=name).first.click()  # known people, then those of before
    page.get_by_role("button", name="Log out").wait_for()
    settled(page)


def log_out(page):
    page.get_by_role("button", name="Log out").click()
    page.get_by_role("button", name="End session").click()  # the provider asks, too


def side(page):
    return page.get_by_test_id("stSidebar")


@pytest.mark.parametrize("path", ["/", "/runs", "/start_run"])
def test_a_stranger_sees_the_login_and_nothing_else(app, page, path):
    page.goto(app.url + path)
    settled(page)
    expect(page.get_by_role("button", name="Log in")).to_be_visible()
    expect(page.get_by_role("heading")).to_have_text(["benchlib"])
    expect(page.get_by_test_id("stMain").get_by_role("button")).to_have_count(1)
    expect(page.get_by_test_id("stSidebarNav")).to_have_count(0)


def test_a_stranger_reads_only_the_health_over_the_api(app):
    with httpx.Client(base_url=f"{app.url}/api") as client:
        assert client.get("/health").status_code == 200
        for path in ("/runs", "/models", "/openapi.json", "/docs", "/nowhere"):
            refused = client.get(path)
            assert refused.status_code == 401
            assert "BENCHLIB_API_TOKEN" in refused.json()["error"]
        known = {"Authorization": f"Bearer {TOKEN}"}
        assert client.get("/runs", headers=known).status_code == 200
        assert httpx.get(f"{app.url}/metrics").status_code == 401
        assert httpx.get(f"{app.url}/metrics", headers=known).status_code == 200


def test_a_viewer_looks_and_does_nothing(app, page):
    log_in(page, app, "vera")
    expect(side(page).get_by_text("vera@example.org")).to_be_visible()
    expect(side(page).get_by_text("viewer")).to_be_visible()
    expect(side(page).get_by_role("link", name="Activity")).to_have_count(0)
    page.goto(f"{app.url}/start_run")
    settled(page)
    expect(page.get_by_text("Launching runs requires the role researcher.")).to_be_visible()
    expect(page.get_by_role("button", name="Launch")).to_be_disabled()
    body = {"dataset_id": 1, "llm": "simulated"}
    started = page.request.post(f"{app.url}/api/benchmarks/start", data=body)
    assert started.status == 401  # the cookie of a login opens no API
    log_out(page)
    page.goto(f"{app.url}/runs")
    settled(page)
    expect(page.get_by_role("button", name="Log in")).to_be_visible()
    expect(page.get_by_role("heading")).to_have_text(["benchlib"])


def test_a_researcher_launches_and_cancels_and_an_admin_deletes_all_on_record(app, page, browser):
    log_in(page, app, "rosa")
    page.goto(f"{app.url}/start_run")
    settled(page)
    page.get_by_role("spinbutton", name="Answers per second").fill("5")
    page.keyboard.press("Enter")
    settled(page)
    page.get_by_role("button", name="Launch").click()
    expect(page.get_by_text("Launched by rosa@example.org")).to_be_visible()
    page.get_by_role("button", name="Cancel run").click()
    expect(page.get_by_text("Run cancelled.")).to_be_visible()
    page.goto(f"{app.url}/runs?run=1")
    settled(page)
    expect(page.get_by_role("button", name="Save tags and note")).to_be_visible()
    expect(page.get_by_role("button", name="Delete run")).to_have_count(0)

    other = browser.new_context().new_page()
    log_in(other, app, "ada")
    expect(side(other).get_by_text("admin")).to_be_visible()
    other.goto(f"{app.url}/runs?run=1")
    settled(other)
    other.get_by_role("button", name="Delete run").click()
    other.get_by_role("button", name="Delete permanently").click()
    expect(other.get_by_text("There is no run yet.")).to_be_visible()
    side(other).get_by_role("link", name="Activity").click()
    expect(other.get_by_text("3 actions")).to_be_visible()
    other.context.close()

    store = open_store(f"sqlite:///{app.folder / 'data' / 'benchlib.db'}")
    actions = BenchmarkService(store, None, Settings(data_dir=app.folder)).list_activity()
    store.close()
    assert [(one.user_name, one.action, one.object_id) for one in actions] == [
        ("ada@example.org", "deleted", 1),
        ("rosa@example.org", "cancelled", 1),
        ("rosa@example.org", "launched", 1),
    ]


def test_an_address_that_nobody_verified_gives_no_role(app, page):
    log_in(page, app, "mallory")
    expect(page.get_by_text("You are logged in, but have no role")).to_be_visible()
    expect(side(page).get_by_text("sub:mallory")).to_be_visible()
    expect(page.get_by_test_id("stSidebarNav")).to_have_count(0)
