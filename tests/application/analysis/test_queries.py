"""Queries: every choice is checked once, and is part of the cache key."""

import pytest

from benchlib.application.analysis import comparison_panels, group_panels, warm_up
from benchlib.application.analysis.comparison_panels import COMPARE_DELTAS, COMPARE_METRICS
from benchlib.application.analysis.panels import RUN_PANELS, run_panel
from benchlib.application.analysis.power_plan import PowerQuery
from benchlib.application.analysis.queries import MAX_N_PERM, Query
from benchlib.application.benchmark_service import BenchmarkService
from benchlib.application.commands import StartBenchmark
from benchlib.domain.errors import InvalidInput
from benchlib.infrastructure.storage import benchmark_cache
from benchlib.settings import Settings
from tests.rated_runs import add_rated_run, people

OTHERS = {
    "trait_category": "warmth",
    "use_expected": False,
    "neutral": True,
    "alpha": 0.01,
    "sesoi": 0.3,
    "by": "by",
    "n_perm": 7,
    "n_flips": 7,
    "attribute": "origin",
    "baseline": "m",
    "target": ("m",),
    "min_n": 2,
    "methods": ("dl",),
    "max_t": True,
    "attributes": ("gender",),
}
"""A valid value of every field that is not its default."""

NEEDED = {"attribute": "gender"}
PANELS = {**RUN_PANELS, **{panel.name: panel for panel in (COMPARE_METRICS, COMPARE_DELTAS)}}
FIELDS = [(name, field) for name, panel in PANELS.items() for field in panel.query.model_fields]


@pytest.fixture
def keys(store, tmp_path, monkeypatch):
    """Gives the cache key that a panel of run 1, or of runs 1 and 2, is looked up by."""
    for name in ("one", "two"):
        add_rated_run(store, lambda *_: 3, personas=people(4, gender=("f", "m")), name=name)
    cache = BenchmarkService(store, None, Settings(data_dir=tmp_path)).analysis._cache
    asked = []

    def remember(_store, key):
        asked.append(key)
        return {}

    monkeypatch.setattr(benchmark_cache, "get_cached", remember)

    def key_of(panel, **choices):
        query = panel.query.of(**choices)
        if panel.name in RUN_PANELS:
            cache.get(panel, 1, query)
        else:
            cache.get_of_runs(panel, [1, 2], query)
        return asked[-1]

    return key_of


@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_every_field_of_every_query_changes_the_cache_key(keys, name, field):
    panel = PANELS[name]
    needed = {
        known: NEEDED[known]
        for known, found in panel.query.model_fields.items()
        if found.is_required()
    }
    usual = keys(panel, **needed)
    assert keys(panel, **needed) == usual
    assert keys(panel, **{**needed, field: OTHERS[field]}) != usual


def test_two_panels_never_share_a_key(keys):
    needed = {"attribute": "gender"}
    found = [
        keys(panel, **{name: needed[name] for name in needed if name in panel.query.model_fields})
        for panel in PANELS.values()
    ]
    assert len(set(found)) == len(PANELS)


def test_a_comparison_is_keyed_by_its_other_runs(keys, store, tmp_path):
    add_rated_run(store, lambda *_: 3, personas=people(4, gender=("f", "m")), name="three")
    first = keys(COMPARE_METRICS)
    execute = "UPDATE benchmarkrun SET data_version = data_version + 1 WHERE id = 2"
    with store.write() as session:
        session.connection().exec_driver_sql(execute)
    assert keys(COMPARE_METRICS) != first


def test_the_ways_of_saying_all_traits_are_one_query():
    asked = {
        group_panels.OmnibusQuery.of(trait_category=category) for category in (None, "", "all")
    }
    assert asked == {group_panels.OmnibusQuery()}


@pytest.mark.parametrize("target", ["m", ["m"], ("m", "m"), ["m", ""]])
def test_one_target_and_several_are_one_query(target):
    query = group_panels.ForestQuery.of(attribute="gender", target=target)
    assert query.target == ("m",)
    assert group_panels.ForestQuery.of(attribute="gender", target=None).target == ()


@pytest.mark.parametrize(
    ("query", "choices", "sentence"),
    [
        (group_panels.OmnibusQuery, {"alpha": 0.5}, "alpha: Input should be less than 0.5"),
        (group_panels.AllDeltasQuery, {"n_perm": MAX_N_PERM + 1}, "n_perm: Input should be less"),
        (group_panels.OmnibusQuery, {"sesoi": 0.1}, "sesoi: Extra inputs are not permitted"),
        (group_panels.DeltasQuery, {}, "attribute: Field required"),
        (comparison_panels.CompareMetricsQuery, {"by": "bonferroni"}, "by: Input should be 'bh'"),
        (PowerQuery, {"dataset_id": 1, "power": 1}, "power: Input should be less than 1"),
    ],
)
def test_a_wrong_choice_is_named(query, choices, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        query.of(**choices)


def test_bounds_can_be_read_by_widgets():
    assert group_panels.OmnibusQuery.limits("alpha", 0.001) == (0.001, 0.499, 0.05)
    assert group_panels.AllDeltasQuery.limits("n_perm") == (0, MAX_N_PERM, 2_000)
    assert StartBenchmark.limits("batch_size") == (1, 1_024, 32)
    assert StartBenchmark.limits("seed") == (0, 2**31 - 1, 0)
    assert [type(number) for number in StartBenchmark.limits("temperature")] == [float] * 3


def test_a_panel_has_a_name_of_its_own():
    with pytest.raises(ValueError, match="There is a panel 'omnibus' already"):
        run_panel("omnibus", Query)(lambda _loaded, _query: None)


def test_a_warm_up_computes_cheap_panels_first_and_one_per_attribute(monkeypatch):
    by_module = sorted(RUN_PANELS.items(), key=lambda item: item[1].compute.__module__)
    monkeypatch.setattr(warm_up, "RUN_PANELS", dict(by_module))  # details imported before groups
    asked = []
    steps = warm_up.warm_up_steps(
        lambda panel, choices: asked.append((panel.name, choices)), ["a"], ["w"]
    )
    expected = [
        *("health", "metrics", "means", "order metrics"),
        *("omnibus", "omnibus by trait category", "deltas", "forest: a"),
        *("response styles", "variance components", "adjusted deltas", "counterfactuals"),
        *("distributions", "means: w", "deltas: w"),
    ]
    assert [name for name, _ in steps if name in expected] == expected
    for _, compute in steps:
        compute()
    assert ("forest", {"attribute": "a"}) in asked
    assert asked[-1] == ("deltas", {"trait_category": "w"})
