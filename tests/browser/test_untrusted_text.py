"""What personas, traits, models and people write is shown, never run, rendered or linked."""

import httpx
import pytest

from benchlib.application.benchmark_service import BenchmarkService
from benchlib.domain.material.personas import PersonaDraft
from benchlib.domain.material.traits import TraitDraft
from benchlib.infrastructure.storage import datasets, traits
from benchlib.infrastructure.storage.database import open_store
from benchlib.settings import Settings
from tests.browser.conftest import settled
from tests.fake_vllm import fake_vllm_process
from tests.samples import NOW

pytestmark = pytest.mark.browser

HOSTILE = (
    "<b>bold</b> <a href='https://bad.example'>bad</a> <img src=x onerror=alert(1)> "
    "<script>alert(2)</script> [bad](https://bad.example) "
    "![bad](https://bad.example/a.png) https://bad.example www.bad.example "
    ":material/home: :red[bad] $x^2$ **bold** `code`"
)
PAGES = (
    "",
    "start_run",
    "progress?run=1",
    "progress?run=2",
    "runs?run=1",
    "runs?run=2",
    "metrics?run=1",
    "omnibus?run=1",
    "deltas?run=1",
    "forest?run=1",
    "order_effects?run=1",
    "answers?run=1",
    "answers?run=1&persona=persona-0&order=in&trait=bad",
    "answers?run=2&tab=Failures",
    "answers?run=2&tab=Missing",
    "datasets",
    "traits",
    "engines",
)
RENDERED = ", ".join(
    (
        "a[*|href*='bad.example']",  # figures are SVG, whose links have a name space
        "img[src*='bad.example']",
        "img[src='x']",
        "strong:text-is('bold')",
        "b:text-is('bold')",
        "tspan[style*='bold']:text-is('bold')",
    )
)


def fill(folder):
    """A store whose dataset, traits, notes and tags are hostile."""
    folder.mkdir(parents=True)
    store = open_store(f"sqlite:///{folder / 'benchlib.db'}")
    people = [PersonaDraft(f"persona-{i}", {"gender": f"{i % 2} {HOSTILE}"}) for i in range(6)]
    trait = TraitDraft(
        case_id="bad",
        adjective={"en": HOSTILE, "de": HOSTILE},
        question={"en": "How {adjective} is this person?", "de": "Wie {adjective}?"},
        category=HOSTILE,
        valence=1,
    )
    with store.write() as session:
        datasets.add_dataset(session, HOSTILE, "imported", people, parameters={}, now=NOW)
        traits.add_traits(session, [trait], now=NOW)
    return store


def test_nothing_hostile_is_rendered_on_any_page(start_app, page, tmp_path):
    data = tmp_path / "hostile"
    store = fill(data)
    dialogs = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    with fake_vllm_process("--model", HOSTILE) as address:
        app = start_app(BENCHLIB_DATA_DIR=str(data), VLLM_BASE_URL=address)
        start = {"dataset_id": 1, "model_name": HOSTILE, "dual_fraction": 1}
        with httpx.Client(base_url=f"{app.url}/api/benchmarks", timeout=60) as client:
            for model in (HOSTILE, "no" + HOSTILE):
                client.post("/start", json={**start, "model_name": model}).raise_for_status()
        service = BenchmarkService(store, None, Settings(data_dir=data))
        service.runs.annotate_run(1, note=HOSTILE, tags=[HOSTILE[:40]])
        page.goto(f"{app.url}/progress?run=2")
        page.get_by_text("The run could not go on.").wait_for()
        for path in PAGES:
            settled_page = visit(page, f"{app.url}/{path}")
            assert settled_page.locator(RENDERED).count() == 0, path
            assert settled_page.get_by_test_id("stException").count() == 0, path
    store.close()
    assert not dialogs


def visit(page, address):
    page.goto(address)
    settled(page)
    page.wait_for_load_state("networkidle")
    return page
