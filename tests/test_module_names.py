"""One word, one thing: what docs/GLOSSARY.md asks of words, asked of module names."""

from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = {
    "domain": ROOT / "benchlib" / "domain",
    "application": ROOT / "benchlib" / "application",
    "infrastructure": ROOT / "benchlib" / "infrastructure",
    "presentation": ROOT / "benchlib" / "presentation",
    "pages": ROOT / "pages",
}
SHARED = {
    "analysis": "what is computed from a run's answers",
    "answers": "what a model replied to questions, and how it is read",
    "comparison": "two to eight runs on the questions they share",
    "dataset_designs": "ways of building a dataset",
    "datasets": "fixed lists of personas",
    "deltas": "a category's mean minus the baseline's",
    "distributions": "probabilities of the five ratings",
    "engines": "model servers",
    "forest": "deltas by trait, pooled",
    "metrics": "histograms and means of a run's ratings",
    "omnibus": "whether an attribute matters at all",
    "order_effects": "disagreement between the two scale orders",
    "runs": "benchmark runs",
    "traits": "what personas are rated on",
}
"""Names that several layers may use, because they mean the same in each."""


def modules_of(layer):
    """Last part of the name -> where it stands, for modules and packages of a layer."""
    found = defaultdict(list)
    for path in sorted(LAYERS[layer].rglob("*.py")):
        if "versions" in path.parts:  # migrations are numbered
            continue
        named = path.parent if path.name == "__init__.py" else path
        if named != LAYERS[layer]:
            found[named.stem].append(str(named.relative_to(ROOT)))
    return found


@pytest.mark.parametrize("layer", LAYERS)
def test_no_two_modules_of_a_layer_share_a_name(layer):
    found = modules_of(layer)
    assert found
    assert {name: where for name, where in found.items() if len(where) > 1} == {}


def test_only_listed_names_are_used_in_several_layers():
    where = defaultdict(list)
    for layer in LAYERS:
        for name in modules_of(layer):
            where[name].append(layer)
    assert {name for name, layers in where.items() if len(layers) > 1} == set(SHARED)
