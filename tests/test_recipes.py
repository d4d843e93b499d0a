"""The recipes of docs/CONTRIBUTING.md, followed in a copy of the tree by a made-up newcomer.

Each test makes the edits that its recipe names and no others, lets mypy say what is missing in
between, and runs a test of the new thing in the copy.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.requirements import require

ROOT = Path(__file__).parent.parent
COPIED = (
    "benchlib",
    "pages",
    "tests",
    "docs",
    ".streamlit",
    "app.py",
    "pyproject.toml",
    "README.md",
)


class Tree:
    """A copy of this repository that a recipe is tried on."""

    def __init__(self, root):
        self.root = root
        self.changed = set()
        unwanted = shutil.ignore_patterns("__pycache__", "images", "fixtures", "golden")
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, root / name, ignore=unwanted)
            else:
                shutil.copy(ROOT / name, root / name)
        if (ROOT / ".mypy_cache").exists():  # saves checking what has not changed
            shutil.copytree(ROOT / ".mypy_cache", root / ".mypy_cache")

    def write(self, file, text):
        self.changed.add(file)
        (self.root / file).write_text(text)

    def insert(self, file, text, *, before="", after="", times=1):
        """Put text between what stands before and after it, at each such place."""
        self.changed.add(file)
        path = self.root / file
        source = path.read_text()
        assert source.count(after + before) == times, file
        path.write_text(source.replace(after + before, after + text + before))

    def append(self, file, text):
        self.write(file, (self.root / file).read_text() + text)

    def run(self, *arguments):
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=self.root,
            env={name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"},
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout + done.stderr

    def mypy(self, *only):
        """Files in which mypy finds errors; all are checked unless some are named."""
        require(importlib.util.find_spec("mypy") is not None, "mypy (of .[dev])")
        code, report = self.run("mypy", *only)
        assert code in (0, 1), report
        return set(re.findall(r"^([\w/]+\.py):\d+: error", report, re.MULTILINE))

    def check(self, *tests):
        code, report = self.run("pytest", "-q", "-p", "no:cacheprovider", *tests)
        assert code == 0, report


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)


THE_STATISTIC = '''"""Mean rating of each trait."""

from typing import TypedDict

from benchlib.domain.analysis.cells import Cells
from benchlib.domain.stats.welch import none_if_nan


class TraitMean(TypedDict):
    """A trait's mean aligned rating, 1..5; None if nobody rated it."""

    case_id: str
    mean: float | None


def compute_trait_means(cells: Cells) -> list[TraitMean]:
    """Mean aligned rating of every trait, in the order of the cells."""
    return [
        {"case_id": str(case_id), "mean": none_if_nan(float(mean))}
        for case_id, mean in zip(cells.traits["case_id"], cells.trait_means, strict=True)
    ]
'''

THE_PANEL = '''

class TraitMeansQuery(OfRatings):
    """Mean rating of each trait."""


class TraitMeansPanel(SampleInfo):
    """Mean rating of each trait."""

    n: int
    n_personas: int
    rows: list[TraitMean]


@run_panel("trait means", TraitMeansQuery, path="trait-means")
def trait_means(loaded: LoadedRun, query: TraitMeansQuery) -> TraitMeansPanel:
    """Mean rating of each trait."""
    cells = loaded.cells(use_expected=query.use_expected)
    return {
        **sample_info(loaded, use_expected=query.use_expected),
        "n": cells.n_ratings,
        "n_personas": cells.n_personas,
        "rows": compute_trait_means(cells),
    }
'''

THE_FIGURE = '''

def trait_means_figure(rows: Sequence[TraitMean]) -> go.Figure:
    """Mean rating per trait as bars."""
    figure = framed_figure("Mean rating by trait", "valence-aligned", ROW_HEIGHT * len(rows) + 160)
    return figure.add_bar(
        x=[row["mean"] for row in rows],
        y=[row_label(row["case_id"]) for row in rows],
        orientation="h",
    )
'''

ON_THE_PAGE = """
trait_means = service.analysis.get_panel(detail_panels.trait_means, run["id"])
downloads.show_figure(
    downloads.draw(trait_means_figure, provenance, trait_means["rows"]),
    "trait_means",
    "Mean rating by trait",
    provenance,
    trait_means["rows"],
)
"""

A_NEW_PANEL = '''
import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from benchlib.application.benchmark_service import BenchmarkService
from benchlib.settings import Settings
from tests.apis import api_over
from tests.pages.conftest import figure
from tests.rated_runs import add_rated_run, people

ROWS = [("rated-trait-0", 1), ("rated-trait-1", 2), ("rated-trait-2", 3), ("rated-trait-3", 2)]
"""Traits 0 to 3 get the digits 1 to 4; the last two are unfavourable: 6 - 3 = 3, 6 - 4 = 2."""


def test_the_api_answers_from_the_cache_the_second_time(store, tmp_path):
    add_rated_run(store, lambda i, t, order: t + 1, personas=people(4, gender=("f", "m")))
    service = BenchmarkService(store, None, Settings(data_dir=tmp_path))
    with TestClient(api_over(service)) as client:
        panel = client.get("/runs/1/trait-means").json()
        assert [tuple(row.values()) for row in panel["rows"]] == ROWS
        assert (panel["n"], panel["n_personas"], panel["missing"]) == (16, 4, 0)
        with store.read() as session:
            found = session.connection().execute(text("SELECT panel FROM benchcache"))
            assert found.scalars().all().count("trait means") == 1
        assert client.get("/runs/1/trait-means").json() == panel


def test_the_page_draws_it(house, open_page):
    at = open_page("omnibus", run=house.finished())
    bars = figure(at, "trait_means")["data"][0]
    assert len(bars["y"]) == 4
    assert all(1 <= mean <= 5 for mean in bars["x"])
'''


def test_a_statistic_is_a_function_a_panel_a_figure_and_its_place_on_a_page(tree):
    tree.write("benchlib/domain/analysis/trait_means.py", THE_STATISTIC)

    panels = "benchlib/application/analysis/detail_panels.py"
    an_import = "from benchlib.domain.analysis.trait_means import "
    tree.insert(
        panels,
        f"{an_import}TraitMean, compute_trait_means\n",
        before="from benchlib.domain.analysis.trait_sets ",
    )
    tree.append(panels, THE_PANEL)

    figures = "benchlib/presentation/figures/means.py"
    tree.insert(figures, f"{an_import}TraitMean\n", before="from benchlib.domain.vocabulary ")
    tree.append(figures, THE_FIGURE)

    page = "pages/omnibus.py"
    tree.insert(
        page,
        "from benchlib.presentation.figures.means import trait_means_figure\n",
        before="from benchlib.presentation.figures.omnibus ",
    )
    tree.append(page, ON_THE_PAGE)

    tree.append(
        "docs/METRICS.md", "\n`compute_trait_means`: the mean aligned rating of each trait.\n"
    )
    assert len(tree.changed) == 5
    tree.insert(
        "docs/API.md",
        "| GET | `/api/runs/{run_id}/trait-means` | `use_expected` | `rows` |\n",
        before="| GET | `/api/runs/{run_id}/health-check` |",
    )
    tree.write("tests/pages/test_trait_means.py", A_NEW_PANEL)
    tree.check(
        "tests/pages/test_trait_means.py",
        "tests/test_docs.py",
        "tests/presentation/api/test_analysis_routes.py",
        "-k",
        "trait_means or compute or every_route",
    )


A_RUN_IN_WORDS = """
from sqlalchemy import text

from benchlib.domain.asking.answer_modes import ANSWER_MODES
from benchlib.infrastructure.engines.simulated import SimulatedClient
from benchlib.infrastructure.execution.executor import execute_benchmark_run
from tests.samples import add_run, claim, get_run, worker_context


class Words:
    async def factory(self, config, api_key, settings):
        return SimulatedClient(answer_mode=config.answer_mode)


def test_a_run_in_words(store):
    run_id = add_run(store, llm="simulated", answer_mode="words")
    claim(store)
    assert execute_benchmark_run(worker_context(store, Words()), run_id) == "done"
    assert get_run(store, run_id).done == 36
    with store.read() as session:
        rows = session.connection().execute(
            text("SELECT DISTINCT rating_raw, raw_answer FROM benchmarkresult ORDER BY rating_raw")
        )
        words = ["", "one", "two", "three", "four", "five"]
        found = [tuple(row) for row in rows]
    assert len(found) > 2
    assert all(said == words[digit] for digit, said in found)
    assert ANSWER_MODES["words"].parse("three").rating_raw == 3
"""


def test_an_answer_mode_is_added_where_mypy_asks_for_it(tree):
    vocabulary = "benchlib/domain/vocabulary.py"
    modes = "benchlib/domain/asking/answer_modes.py"
    wording = "benchlib/domain/asking/wording.py"
    probe = "benchlib/infrastructure/engines/probe.py"
    simulated = "benchlib/infrastructure/engines/simulated.py"

    tree.insert(vocabulary, '"words", ', after="AnswerMode = Literal[")
    prompts = "benchlib/domain/asking/prompts.py"  # looks the instructions up by mode
    assert tree.mypy() == {modes, prompts, probe, simulated}

    tree.insert(
        modes,
        """
        case "words":
            return ModeSpec("A number word", parse_rating_text)""",
        before="\n        case _:\n            assert_never(mode)",
    )
    tree.insert(wording, "    words: str\n", after="    text: str\n")

    for texts, instruction in (
        ('"text": "', "Answer with one word from one to five."),
        ('"text": (', "Important: your whole answer is one word."),
    ):
        tree.insert(
            wording, f'\n        "words": "{instruction}",', before=f"\n        {texts}", times=2
        )
    tree.insert(
        probe,
        """
            case "words":
                return self._text_plan("words")""",
        before="\n            case _:\n                assert_never(requested)",
    )
    tree.insert(
        simulated,
        """
            case "words":
                texts = ["one", "two", "three", "four", "five"]""",
        before="\n            case _:\n                assert_never(self._answer_mode)",
    )
    assert tree.mypy(prompts, *tree.changed) == set()
    assert len(tree.changed) == 5
    tree.write("tests/test_words.py", A_RUN_IN_WORDS)
    tree.check(
        "tests/test_words.py", "tests/domain/asking/test_answer_modes.py", "-k", "not earlier"
    )


A_MARKDOWN_FILE = """
from starlette.testclient import TestClient

from benchlib.application.benchmark_service import BenchmarkService
from benchlib.settings import Settings
from tests.apis import api_over
from tests.rated_runs import add_rated_run, people


def test_ratings_as_markdown(store, tmp_path):
    run_id = add_rated_run(store, lambda i, t, order: 3, personas=people(4, gender=("f", "m")))
    service = BenchmarkService(store, None, Settings(data_dir=tmp_path))
    with TestClient(api_over(service)) as client:
        answer = client.get(f"/runs/{run_id}/export/metrics.markdown")
    assert answer.headers["content-type"].startswith("text/markdown")
    assert answer.headers["content-disposition"].endswith('.md"')
    lines = answer.text.splitlines()
    assert lines[:3] == ["rating | count | share", "--- | --- | ---", "1 | 0 | 0.0"]
    assert lines[4].startswith("3 | ")
    assert lines[4].endswith(" | 1.0")
"""


def test_an_export_format_is_a_writer_and_an_entry(tree):
    tree.insert(
        "benchlib/presentation/exports/table_formats.py",
        '''
def write_markdown(table: Table) -> bytes:
    """A Markdown table."""
    rows = [list(table.columns), ["---"] * len(table.columns)]
    rows += [[str(row[name]) for name in table.columns] for row in table.rows]
    return "\\n".join(" | ".join(cells) for cells in rows).encode()


''',
        before="\ndef write_csv(",
    )
    formats = "benchlib/presentation/exports/formats.py"
    tree.insert(formats, "    write_markdown,\n", before="    write_parquet,\n)")
    tree.insert(
        formats,
        """
        TableFormat("markdown", "Markdown", "text/markdown", write_markdown, "md"),""",
        after='TableFormat("latex", "LaTeX", "application/x-tex", write_latex, "tex"),',
    )
    tree.insert(
        "docs/API.md",
        "\n| `markdown` | table, `.md` | text/markdown | none |",
        before="\n\n| method | path | parameters | the file |",
    )
    assert len(tree.changed) == 3
    tree.write("tests/test_markdown.py", A_MARKDOWN_FILE)
    tree.check(
        "tests/test_markdown.py",
        "tests/presentation/test_formats.py",
        "--deselect=tests/presentation/test_formats.py::test_a_new_format_is_one_entry_and_its_writer",
    )
