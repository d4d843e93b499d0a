"""Comparisons by the service: numbers of the domain, what differs, errors, what is kept."""

import orjson
import pytest

from benchlib.application.benchmark_service import BenchmarkService
from benchlib.domain.analysis.comparison import compute_delta_differences
from benchlib.domain.analysis.level_differences import compute_level_differences
from benchlib.domain.analysis.shared_runs import compute_shared_runs
from benchlib.domain.errors import InvalidInput, NotFound
from benchlib.domain.vocabulary import RunStatus
from benchlib.infrastructure.loading import data_loader
from benchlib.settings import Settings
from tests.rated_runs import add_rated_run, add_run_like, execute_sql, people
from tests.samples import get_run


@pytest.fixture(autouse=True)
def _start_and_end_without_memory():
    data_loader.forget_all_runs()
    yield
    data_loader.forget_all_runs()


@pytest.fixture
def service(store, tmp_path):
    return BenchmarkService(store, None, Settings(data_dir=tmp_path))


def first_rater(i, t, order):
    return 1 + (7 * i + 3 * t) % 5


def second_rater(i, t, order):
    return 1 + (7 * i + 3 * t + (i % 2) * (t % 2)) % 5


@pytest.fixture
def first(store):
    attributes = {"gender": ("f", "m"), "origin": ("n", "s", "e")}
    return add_rated_run(store, first_rater, personas=people(18, **attributes), seed=5)


def domain_of(service, store, *run_ids):
    loaded = [data_loader.load_run_cached(store, get_run(store, run_id)) for run_id in run_ids]
    grids = {one.run.id: one.grid for one in loaded}
    return compute_shared_runs(grids, loaded[0].cells().attributes)


def test_comparisons_are_those_of_the_domain(store, service, first):
    second = add_run_like(store, first, second_rater, model_name="other")
    shared = domain_of(service, store, first, second)
    levels = service.analysis.compare_metrics([first, second])
    assert levels["levels"] == compute_level_differences(shared)
    assert (levels["n"], levels["n_cells"], levels["n_personas"]) == (2 * 18 * 4, 18 * 4, 18)
    # the runs differ in warmth alone: competence, without any noise, is tested by permutation
    assert levels["correction"]["size"] == levels["levels"]["family_size"] == 3
    competence = levels["levels"]["rows"][1]
    assert (competence["trait_category"], competence["verdict"]) == ("competence", "equivalent")
    assert "runs × sets of traits" in levels["correction"]["family"]
    deltas = service.analysis.compare_deltas(
        [first, second], trait_category="warmth", by="by", alpha=0.1
    )
    assert deltas["data"] == compute_delta_differences(
        shared, trait_category="warmth", method="by", alpha=0.1
    )
    assert deltas["correction"]["method"] == "by"
    one = service.analysis.compare_deltas([first, second], "gender", "m")
    assert list(one["data"]) == ["gender"]
    assert one["data"]["gender"]["baseline"] == "m"
    (row,) = one["data"]["gender"]["rows"]
    assert row["difference"] == pytest.approx(row["delta"] - row["delta_reference"])
    assert [run["n_cells_dropped"] for run in one["runs"]] == [0, 0]
    assert (one["preliminary"], one["simulated"]) == (False, False)
    orjson.dumps(one)


def test_the_smallest_effect_of_interest_is_passed_on(store, service, first):
    second = add_run_like(store, first, second_rater)
    levels = service.analysis.compare_metrics([first, second], sesoi=2)["levels"]
    assert levels["sesoi"] == 2
    assert all(row["equivalent"] for row in levels["rows"])
    data = service.analysis.compare_deltas([first, second], sesoi=0.01)["data"]
    assert {table["sesoi"] for table in data.values()} == {0.01}
    with pytest.raises(InvalidInput, match="sesoi"):
        service.analysis.compare_metrics([first, second], sesoi=0)


def test_what_differs_is_listed_and_nothing_else(store, service, first):
    second = add_run_like(
        store, first, second_rater, model_name="other", language="de", seed=6, temperature=0.5
    )
    differs = service.analysis.compare_metrics([first, second])["differs"]
    assert {found["what"]: found["values"] for found in differs} == {
        "model": ["scripted", "other"],
        "language": ["en", "de"],
        "seed": ["5", "6"],
        "temperature": ["0", "0.5"],
    }
    other = add_run_like(store, first, second_rater)
    assert service.analysis.compare_metrics([first, other])["differs"] == []
    fewer = add_run_like(
        store, first, second_rater, trait_ids=get_run(store, first).config.trait_ids[:3]
    )
    (traits_differ,) = service.analysis.compare_metrics([first, fewer])["differs"]
    assert [value[:8] for value in traits_differ["values"]] == ["4 traits", "3 traits"]


def test_a_simulated_run_makes_the_comparison_simulated(store, service, first):
    made_up = add_run_like(store, first, second_rater, llm="simulated")
    found = service.analysis.compare_deltas([first, made_up])
    assert found["simulated"] is True
    assert [run["simulated"] for run in found["runs"]] == [False, True]
    assert service.analysis.compare_order_metrics([first, made_up])["simulated"] is True


def test_a_running_run_is_preliminary_and_not_kept(store, service, first):
    second = add_run_like(store, first, second_rater, status=RunStatus.RUNNING, leave_out=7)
    found = service.analysis.compare_metrics([first, second])
    assert found["preliminary"] is True
    assert [run["preliminary"] for run in found["runs"]] == [False, True]
    assert found["n_cells"] == 18 * 4 - 7
    assert [run["n_cells_dropped"] for run in found["runs"]] == [7, 0]
    assert [run["n_personas_dropped"] for run in found["runs"]] == [1, 1]
    assert found["missing"] == 7


def test_kept_comparisons_know_the_content_of_every_run(store, service, first):
    second = add_run_like(store, first, second_rater)
    before = service.analysis.compare_metrics([first, second])
    assert service.analysis.compare_metrics([first, second]) == before
    execute_sql(store, f"UPDATE benchmarkresult SET rating_raw = 5 WHERE run_id = {second}")
    after = service.analysis.compare_metrics([first, second])
    assert after["levels"] != before["levels"]
    back = service.analysis.compare_metrics([second, first])
    for row, flipped in zip(after["levels"]["rows"], back["levels"]["rows"], strict=True):
        assert row["difference"] == pytest.approx(-flipped["difference"])


def test_order_effects_stand_beside_each_other(store, service):
    both = add_rated_run(
        store, first_rater, personas=people(10, gender=("f", "m")), orders=("in", "rev"), name="two"
    )
    alone = add_run_like(store, both, second_rater)
    found = service.analysis.compare_order_metrics([both, alone])
    own = service.get_order_metrics(both)
    assert found["runs"][0]["exact_rate"] == own["rma"]["exact_rate"]
    assert found["runs"][0]["position_shift"] == own["obe"]["position_shift"]
    assert found["runs"][0]["kappa"] == own["agreement"]["kappa"]["quadratic"]["value"]
    assert (found["runs"][1]["n_pairs"], found["runs"][1]["exact_rate"]) == (0, None)


def test_what_cannot_be_compared_is_said(store, service, first):
    second = add_run_like(store, first, second_rater)
    others = add_rated_run(store, first_rater, personas=people(4, gender=("f", "m")), name="others")
    for compare in (
        service.analysis.compare_metrics,
        service.analysis.compare_deltas,
        service.analysis.compare_order_metrics,
    ):
        with pytest.raises(InvalidInput, match="2 to 8 runs; 1"):
            compare([first])
        with pytest.raises(InvalidInput, match="2 to 8 runs; 9"):
            compare([first] * 9)
        with pytest.raises(InvalidInput, match=f"Run {first} is named twice"):
            compare([first, second, first])
        with pytest.raises(NotFound, match="run 99"):
            compare([first, 99])
        with pytest.raises(InvalidInput, match="no trait category 'beauty'"):
            compare([first, second], trait_category="beauty")
    with pytest.raises(InvalidInput, match="share no persona"):
        service.analysis.compare_metrics([first, others])
    with pytest.raises(InvalidInput, match="no attribute beauty"):
        service.analysis.compare_deltas([first, second], "beauty")
    with pytest.raises(InvalidInput, match="Name the attribute"):
        service.analysis.compare_deltas([first, second], baseline="f")
    with pytest.raises(InvalidInput, match="alpha"):
        service.analysis.compare_metrics([first, second], alpha=2)


def test_read_only_compares_and_writes_nothing(store, tmp_path, first):
    second = add_run_like(store, first, second_rater)
    service = BenchmarkService(store, None, Settings(data_dir=tmp_path, read_only=True))
    assert service.analysis.compare_metrics([first, second])["ok"]
    assert not list(tmp_path.rglob("*.npz"))
