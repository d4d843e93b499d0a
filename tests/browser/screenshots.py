"""Pictures of every page, light and dark, wide and narrow.

    python -m tests.browser.screenshots FOLDER [--url http://localhost:8501]

Without an address, starts an app of its own with three simulated runs: one complete, one with
failures, one at work.
"""

import argparse
import tempfile
from pathlib import Path

import httpx
from playwright.sync_api import sync_playwright

from tests.browser.conftest import App, open_browser, settled

PAGES = {
    "overview": "/",
    "start_run": "/start_run",
    "progress_running": "/progress?run=3",
    "progress_partial": "/progress?run=2",
    "runs": "/runs?run=2",
    "metrics": "/metrics?run=1&attribute=origin",
    "omnibus": "/omnibus?run=1",
    "deltas": "/deltas?run=1",
    "forest": "/forest?run=1",
    "order_effects": "/order_effects?run=1",
    "compare": "/compare?runs=1,2",
    "answers": "/answers?run=1",
    "answers_one": "/answers?run=1&persona={persona}&trait={trait}&order={order}",
    "answers_failures": "/answers?run=2&tab=Failures",
    "answers_missing": "/answers?run=2&tab=Missing",
    "datasets": "/datasets",
    "traits": "/traits",
    "engines": "/engines",
    "activity": "/activity",
}
THEMES = ("light", "dark")
WIDTHS = (1400, 420)
RUNS = (
    {},
    {"simulated_fault_rate": 0.1, "max_attempts": 1, "seed": 2},
    {"simulated_items_per_second": 20, "seed": 3},
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--url", help="of an app with at least three runs")
    parser.add_argument("--only", nargs="*", default=list(PAGES), choices=list(PAGES))
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if arguments.url:
        take_pictures(arguments.folder, arguments.url, arguments.only)
        return
    with tempfile.TemporaryDirectory() as folder:
        app = App(folder).start()
        try:
            take_empty_pictures(arguments.folder, app.url)
            start_runs(app.url)
            take_pictures(arguments.folder, app.url, arguments.only)
        finally:
            app.stop()


def start_runs(url):
    """Start the runs; return when the last one is at work."""
    with httpx.Client(base_url=url) as client, sync_playwright() as playwright:
        for run in RUNS:
            body = {"dataset_id": 1, "llm": "simulated", **run}
            client.post("/api/benchmarks/start", json=body).raise_for_status()
        browser = open_browser(playwright)
        page = browser.new_page()
        page.goto(f"{url}/progress?run={len(RUNS)}")
        page.get_by_test_id("stPlotlyChart").locator(".bars").first.wait_for(timeout=120_000)
        browser.close()


def take_empty_pictures(folder, url):
    pages = {"empty_overview": "/", "empty_progress": "/progress", "empty_runs": "/runs"}
    _take(folder, url, pages)


def take_pictures(folder, url, only=tuple(PAGES)):
    """One picture per page, theme and width: page-theme-width.png."""
    latest = httpx.get(f"{url}/api/runs/1").json()["tally"]["latest"][-1]
    words = {
        "persona": latest["persona"],
        "trait": latest["case_id"],
        "order": latest["scale_order"],
    }
    _take(folder, url, {name: PAGES[name].format(**words) for name in only})


def _take(folder, url, pages):
    with sync_playwright() as playwright:
        browser = open_browser(playwright)
        for theme in THEMES:
            for width in WIDTHS:
                context = browser.new_context(
                    viewport={"width": width, "height": 1000}, color_scheme=theme
                )
                page = context.new_page()
                for name, path in pages.items():
                    _look(page, url + path, width)
                    page.screenshot(path=folder / f"{name}-{theme}-{width}.png")
                context.close()
        browser.close()


def _look(page, address, width):
    """Open a page and make the window as high as it."""
    page.set_viewport_size({"width": width, "height": 1000})
    page.goto(address)
    settled(page)
    page.wait_for_load_state("networkidle")
    for _ in range(2):
        # Charts and tables are drawn again after a resize; nothing says when that is done.
        page.wait_for_timeout(1000)
        height = page.get_by_test_id("stMain").evaluate("element => element.scrollHeight")
        page.set_viewport_size({"width": width, "height": min(max(height, 600), 6000)})
    page.wait_for_timeout(1000)


if __name__ == "__main__":
    main()
