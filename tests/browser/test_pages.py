"""What only a browser shows: clicks on rows, dialogs, addresses that follow, second tabs."""

import re
from functools import partial

import httpx
import pytest
from playwright.sync_api import TimeoutError, expect

from tests.browser.conftest import PATIENCE_MS, App, settled

pytestmark = pytest.mark.browser

CLICK_MS = 12_000
"""After so long without an effect, a click is taken to have come too early."""


@pytest.fixture(scope="module")
def app(tmp_path_factory, browser):
    """An app with two complete runs."""
    started = App(tmp_path_factory.mktemp("pages")).start()
    page = browser.new_page()
    page.set_default_timeout(PATIENCE_MS)
    with api(started) as client:
        for seed in (1, 2):
            page.goto(f"{started.url}/progress?run={start(client, seed=seed)}")
            page.get_by_text("Every planned question has a rating.").wait_for()
    page.close()
    yield started
    started.stop()


def api(app):
    """A client that opens a connection per request: the app closes idle ones as it likes."""
    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.Client(base_url=f"{app.url}/api", timeout=60, limits=limits)


def start(client, **fields):
    body = {"dataset_id": 1, "llm": "simulated", "dual_fraction": 0.1, **fields}
    return client.post("/benchmarks/start", json=body).raise_for_status().json()["run_id"]


def main_area(page):
    return page.get_by_test_id("stMain")


def pick(page, label, option):
    """Choose an option of a select box."""
    main_area(page).get_by_role("combobox", name=label).click()
    page.get_by_role("option", name=option, exact=True).click()
    settled(page)


def click_table(page, x, y, until):
    """Click into the first table until it had its effect.

    The table is a canvas; nothing says when it is laid out and reacts to clicks.
    """
    table = page.get_by_test_id("stDataFrame").first
    table.locator("canvas").first.wait_for()
    for _ in range(PATIENCE_MS // CLICK_MS):
        table.scroll_into_view_if_needed()
        box = table.bounding_box()
        place = (box["x"] + x, box["y"] + y)
        page.mouse.move(*place)
        try:
            return until(partial(page.mouse.click, *place))
        except (TimeoutError, AssertionError):
            continue
    pytest.fail("The table did not answer to clicks.")


def test_choices_go_into_the_address_and_a_reload_restores_them(app, page):
    page.goto(f"{app.url}/metrics?run=1")
    settled(page)
    pick(page, "Attribute", "religion")
    pick(page, "Trait category", "warmth")
    expect(page).to_have_url(re.compile(r"attribute=religion"))
    expect(page).to_have_url(re.compile(r"trait_category=warmth"))
    expect(page).to_have_url(re.compile(r"run=1"))
    page.reload()
    settled(page)
    title = page.get_by_test_id("stPlotlyChart").locator(".gtitle")
    expect(title.get_by_text("Mean rating by religion")).to_be_visible()
    expect(page.get_by_role("combobox", name="Trait category")).to_have_value("warmth")


@pytest.mark.parametrize("name", ["metrics", "omnibus", "deltas", "forest", "order_effects"])
def test_figures_have_room_for_their_labels_before_they_are_drawn(app, page, name):
    """Where the margin is too small, Plotly draws the whole figure a second time."""
    page.goto(f"{app.url}/{name}?run=1")
    settled(page)
    page.locator(".js-plotly-plot .main-svg").first.wait_for()
    figures = page.evaluate(
        "() => [...document.querySelectorAll('.js-plotly-plot')]"
        ".map(plot => [plot.layout.margin, plot._fullLayout._size])"
    )
    assert figures
    for given, taken in figures:
        for side in "lrtb":
            assert taken[side] == given[side], side


def test_the_tab_and_the_page_of_answers_go_into_the_address(app, page):
    page.goto(f"{app.url}/answers?run=1")
    settled(page)
    main_area(page).get_by_role("button", name=re.compile("2$")).first.click()
    expect(page).to_have_url(re.compile(r"page=2"))
    page.get_by_role("tab", name="Missing").click()
    expect(page).to_have_url(re.compile(r"tab=Missing"))
    expect(page.get_by_text("Every planned question has a rating.")).to_be_visible()


def test_a_click_on_a_row_opens_the_answer_and_its_prompt(app, page):
    page.goto(f"{app.url}/answers?run=1")
    settled(page)

    def opens(click):
        click()
        expect(page.get_by_role("heading", name="One answer")).to_be_visible(timeout=CLICK_MS)

    click_table(page, 16, 52, opens)
    expect(page.get_by_text("Description of the person:")).to_be_visible()
    page.goto(page.get_by_text(re.compile(r"^http.*/answers\?run=1&")).inner_text())
    expect(page).to_have_url(re.compile(r"persona=.*"))
    expect(page.get_by_role("heading", name="One answer")).to_be_visible()


def test_a_click_on_a_row_of_runs_opens_the_run(app, page):
    page.goto(f"{app.url}/runs?run=2")
    settled(page)

    def opens(click):
        click()
        expect(page).to_have_url(re.compile(r"run=1"), timeout=CLICK_MS)

    click_table(page, 16, 88, opens)
    expect(page.get_by_text(re.compile("^Run 1: "))).to_be_visible()


def test_deleting_asks_and_then_deletes(app, page):
    with api(app) as client:
        run_id = start(client, seed=3)
        page.goto(f"{app.url}/progress?run={run_id}")
        expect(page.get_by_text("Every planned question has a rating.")).to_be_visible()
        page.goto(f"{app.url}/runs?run={run_id}")
        settled(page)
        page.get_by_role("button", name="Delete run").click()
        page.get_by_role("button", name="Keep it").click()
        expect(page.get_by_role("dialog")).to_have_count(0)
        assert client.get(f"/runs/{run_id}").status_code == 200
        page.get_by_role("button", name="Delete run").click()
        page.get_by_role("button", name="Delete permanently").click()
        expect(page.get_by_role("dialog")).to_have_count(0)
        expect(page.get_by_text(re.compile(f"^Run {run_id}: "))).to_have_count(0)
        assert client.get(f"/runs/{run_id}").status_code == 404
        assert len(client.get("/runs").json()) == 2


def test_cancel_works_at_once_and_a_second_tab_sees_it(app, page):
    with api(app) as client:
        run_id = start(client, seed=4, simulated_items_per_second=5)
        page.goto(f"{app.url}/progress?run={run_id}")
        other = page.context.new_page()
        other.goto(f"{app.url}/progress?run={run_id}")
        expect(other.get_by_role("button", name="Cancel run")).to_be_visible()
        page.get_by_role("button", name="Cancel run").click()
        for tab in (page, other):
            expect(tab.get_by_role("button", name="Resume run")).to_be_visible()
            expect(tab.get_by_text("Run cancelled.")).to_be_visible()
        client.delete(f"/runs/{run_id}").raise_for_status()


def test_a_link_in_the_table_of_runs_leads_to_the_run(app, page):
    page.goto(f"{app.url}/runs")
    settled(page)

    def opens(click):
        with page.context.expect_page(timeout=CLICK_MS) as opened:
            click()
        return opened.value

    tab = click_table(page, 120, 52, opens)
    expect(tab).to_have_url(re.compile(r"/progress\?run=\d+$"))
