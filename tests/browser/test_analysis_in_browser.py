"""The forest with real eyes: a click on a row lands on the answers behind it."""

import re
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from playwright.sync_api import expect

from tests.browser.conftest import settled

pytestmark = pytest.mark.browser


@pytest.fixture
def finished(start_app, page):
    """An app with one finished simulated run of the sample data."""
    app = start_app()
    with httpx.Client(base_url=app.url, timeout=60) as client:
        body = {"dataset_id": 1, "llm": "simulated"}
        client.post("/api/benchmarks/start", json=body).raise_for_status()
    page.goto(f"{app.url}/progress?run=1")
    expect(page.get_by_text("Every planned question has a rating.")).to_be_visible()
    return app


def open_forest(page, app):
    page.goto(f"{app.url}/forest?run=1&attribute=gender&sort=name")
    chart = page.get_by_test_id("stPlotlyChart").first
    expect(chart.locator(".gtitle")).to_contain_text("gender:")
    settled(page)
    return chart


def test_a_click_on_a_row_opens_the_answers_behind_it(finished, page):
    chart = open_forest(page, finished)
    expect(chart.locator(".gtitle")).to_contain_text("by trait")
    expect(chart.locator(".g-gtitle")).to_contain_text("SIMULATED DATA")
    label = chart.locator(".textpoint text").filter(has_text=re.compile("^careless$"))
    expect(label).to_have_count(1)
    label.scroll_into_view_if_needed()
    row = label.bounding_box()
    middle = chart.locator(".subplot.x2y2").locator(".scatterlayer .points path").first
    square = middle.bounding_box()
    x, y = square["x"] + square["width"] / 2, row["y"] + row["height"] / 2
    page.mouse.move(x, y)
    expect(chart.locator(".hoverlayer .hovertext")).to_contain_text("careless")
    page.mouse.click(x, y)

    expect(page.get_by_role("heading", name="Answers", exact=True)).to_be_visible()
    settled(page)
    query = parse_qs(urlsplit(page.url).query)
    assert query["run"] == ["1"]
    (chosen,) = query["personas"]
    attribute, _, group = chosen.partition(" = ")
    assert attribute == "gender"
    main = page.get_by_test_id("stMain")
    expect(main.get_by_text(query["trait"][0]).first).to_be_visible()
    expect(main.get_by_text(f"gender = {group}").first).to_be_visible()


def test_a_figure_and_its_table_are_downloaded(finished, page):
    open_forest(page, finished)
    page.get_by_role("button", name="Download").first.click()
    for name, start in (("SVG", b"<svg"), ("CSV", b"trait_id,"), ("LaTeX", b"% Needs")):
        with page.expect_download() as started:
            page.get_by_role("button", name=name, exact=True).click()
        found = started.value
        assert found.suggested_filename.startswith("run-1-forest-0-simulated-")
        with open(found.path(), "rb") as file:
            assert file.read(len(start)) == start
