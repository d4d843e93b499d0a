import ast
import re
from pathlib import Path

import pytest

from benchlib.settings import DEFAULT_VLLM_URL, Login, Settings

ROOT = Path(__file__).parent.parent
DOMAIN = sorted((ROOT / "benchlib" / "domain").rglob("*.py"))
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]

# What takes the place of a setting that has no default of its own.
FALLBACKS = {
    "BENCHLIB_DB_URL": "SQLite file in the data folder",
    "BENCHLIB_VLLM_PYTHON": "the dashboard's interpreter",
    "BENCHLIB_LOG_FORMAT": "`text` on a terminal, else `json`",
    "VLLM_BASE_URL": f"`{DEFAULT_VLLM_URL}`",
}


def compute_functions():
    return [
        node.name
        for path in DOMAIN
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("compute_")
    ]


def test_there_is_something_to_document():
    assert "compute_deltas" in compute_functions()


@pytest.mark.parametrize("name", compute_functions())
def test_every_compute_function_is_documented(name):
    assert f"`{name}`" in (ROOT / "docs" / "METRICS.md").read_text()


def test_metrics_name_no_function_that_is_gone():
    text = (ROOT / "docs" / "METRICS.md").read_text()
    named = set(re.findall(r"`(compute_[a-z0-9_]+)`", text))
    assert named <= set(compute_functions())


def setting_rows(document):
    """First cell, without marks -> second cell, of every row that names a setting."""
    found = re.findall(
        r"^\| (?:section )?`([A-Z_\[\]a-z]+)` \| (.*?) \|", document.read_text(), re.M
    )
    assert len(found) == len({name for name, _ in found})
    return dict(found)


def settings_with_defaults():
    """Names as users write them -> defaults as docs/SETTINGS.md writes them."""
    expected = {}
    for field, about in Settings.model_fields.items():
        alias = about.validation_alias
        name = alias.choices[0] if alias else f"BENCHLIB_{field.upper()}"
        name = "[auth]" if field == "auth" else name
        if about.default in (None, ""):
            expected[name] = FALLBACKS.get(name, "none")
        elif isinstance(about.default, bool):
            expected[name] = f"`{about.default:d}`"
        else:
            expected[name] = f"`{about.default}`"
    return expected


def test_every_setting_is_documented_with_its_default():
    assert setting_rows(ROOT / "docs" / "SETTINGS.md") == settings_with_defaults()


def test_the_readme_shows_five_settings_that_exist():
    shown = setting_rows(ROOT / "README.md")
    assert len(shown) == 5
    assert shown.items() <= settings_with_defaults().items()


def test_every_line_of_the_section_auth_is_documented():
    text = (ROOT / "docs" / "SETTINGS.md").read_text()
    assert [name for name in Login.model_fields if f"`{name}`" not in text] == []


def anchors(document):
    """The addresses GitHub gives to the headings of a document."""
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"```.*?```", "", document.read_text(), flags=re.S), re.M
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", NAMES)
def test_every_link_within_the_repository_leads_somewhere(name):
    document = ROOT / name
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = document.parent / file if file else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("name", NAMES)
def test_every_source_file_that_a_document_names_exists(name):
    files = [
        f"/{path.relative_to(ROOT)}"
        for folder in ("benchlib", "benchmarks", "pages", "tests")
        for path in (ROOT / folder).rglob("*.py")
    ] + ["/app.py"]
    named = re.findall(r"`([\w/.-]+\.py)(?:::\w+)?`", (ROOT / name).read_text())
    assert [one for one in named if not any(file.endswith(f"/{one}") for file in files)] == []
