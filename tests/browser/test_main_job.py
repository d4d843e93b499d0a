"""The main job with real eyes: form, progress, histogram; a kill midway, a resume, no loss."""

import re

import httpx
import pytest
from playwright.sync_api import expect

from tests.browser.conftest import settled

pytestmark = pytest.mark.browser


def shown_number(page, label):
    """The value of the metric with this label."""
    metric = page.get_by_test_id("stMetric").filter(has_text=re.compile(f"^{label}"))
    return int(metric.get_by_test_id("stMetricValue").inner_text().replace(",", ""))


def status_badge(page, status):
    """The badge of a run; its icon is a word to a text search."""
    return page.get_by_test_id("stMain").get_by_text(re.compile(rf"^\w*\s*{status}$")).first


def open_form(page, app):
    page.goto(app.url)
    page.get_by_role("button", name="Start the first run").click()
    expect(page.get_by_role("heading", name="Ready to launch")).to_be_visible()
    return settled(page)


def test_a_run_goes_from_the_form_to_the_histogram(start_app, page):
    app = start_app()
    open_form(page, app)
    expect(page.get_by_role("radio", name="Simulated rater")).to_be_checked()
    planned = shown_number(page, "Prompts")
    page.get_by_role("button", name="Launch").click()

    expect(page.get_by_role("heading", name="Progress")).to_be_visible()
    expect(page).to_have_url(re.compile(r"/progress\?run=1$"))
    expect(page.get_by_text("Every planned question has a rating.")).to_be_visible()
    assert shown_number(page, "Rated") == planned
    assert shown_number(page, "Missing") == 0

    page.get_by_test_id("stMain").get_by_role("link", name="Metrics").click()
    expect(page.get_by_role("heading", name="Metrics", exact=True)).to_be_visible()
    histogram = page.get_by_test_id("stPlotlyChart").first
    expect(histogram.locator(".gtitle")).to_contain_text("Ratings")
    expect(histogram.locator(".bars .point")).to_have_count(5)
    assert shown_number(page, "Answers") == planned
    expect(page.get_by_text("Simulated data").first).to_be_visible()


def test_a_killed_run_is_interrupted_and_resumes_with_one_click(start_app, page):
    app = start_app(BENCHLIB_LEASE_SECONDS="2")
    open_form(page, app)
    planned = shown_number(page, "Prompts")
    speed = page.get_by_role("spinbutton", name="Answers per second")
    speed.fill(str(planned / 15))
    speed.press("Tab")
    expect(page.get_by_test_id("stMetric").filter(has_text="Estimated time")).to_contain_text(
        "15 s"
    )
    settled(page).get_by_role("button", name="Launch").click()
    expect(status_badge(page, "running")).to_be_visible()
    expect(page.get_by_test_id("stPlotlyChart").locator(".bars .point").first).to_be_visible()
    page.wait_for_function(
        "([low]) => [...document.querySelectorAll('[data-testid=stMetric]')].some(metric =>"
        " metric.innerText.startsWith('Rated') &&"
        " Number(metric.innerText.replace(/\\D/g, '')) > low)",
        arg=[planned // 10],
    )

    app.kill()
    app.start()
    page.goto(f"{app.url}/progress?run=1")
    expect(status_badge(page, "interrupted")).to_be_visible()
    rated = shown_number(page, "Rated")
    assert 0 < rated < planned
    assert shown_number(page, "Missing") == planned - rated

    page.get_by_role("button", name="Resume run").click()
    expect(page.get_by_text("Every planned question has a rating.")).to_be_visible()
    assert shown_number(page, "Rated") == planned
    assert shown_number(page, "Failed") == 0
    status = httpx.get(f"{app.url}/api/benchmarks/1/status").json()
    assert (status["status"], status["done"], status["total"]) == ("done", planned, planned)
    metrics = httpx.get(f"{app.url}/api/runs/1/metrics").json()
    assert metrics["n"] == sum(metrics["hist"]["counts"]) == planned
