import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOMAIN = sorted((ROOT / "benchlib" / "domain").rglob("*.py"))


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
