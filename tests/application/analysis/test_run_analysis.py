import logging
import math
import threading
from time import monotonic, sleep

import numpy as np
import orjson
import pytest
from sqlalchemy import text

from benchlib.application import composition_cache
from benchlib.application.analysis import answer_panels, detail_panels, group_panels
from benchlib.application.analysis.power_plan import PowerQuery
from benchlib.application.benchmark_service import BenchmarkService
from benchlib.domain.analysis.adjusted_deltas import compute_adjusted_deltas
from benchlib.domain.analysis.answer_grid import AnswerGrid
from benchlib.domain.analysis.cells import compute_cells
from benchlib.domain.analysis.counterfactual import compute_counterfactuals
from benchlib.domain.analysis.deltas import compute_deltas
from benchlib.domain.analysis.forest import compute_forest
from benchlib.domain.analysis.omnibus import compute_omnibus
from benchlib.domain.analysis.order_effects import compute_order_effect_metrics
from benchlib.domain.analysis.trait_comparisons import ForestOptions
from benchlib.domain.errors import InvalidInput, NotFound, ReadOnly
from benchlib.domain.stats.power import compute_run_plan
from benchlib.domain.vocabulary import RunStatus
from benchlib.infrastructure.cache_warming import stop_warm_cache_jobs
from benchlib.infrastructure.loading import data_loader
from benchlib.infrastructure.storage import answer_blocks, benchmark_cache, datasets, runs, traits
from benchlib.settings import Settings
from tests.rated_runs import add_rated_run, execute_sql, people
from tests.samples import HANGS_SECONDS, NOW, get_run


@pytest.fixture(autouse=True)
def _start_and_end_without_memory():
    data_loader.forget_all_runs()
    yield
    stop_warm_cache_jobs()
    data_loader.forget_all_runs()


GROUPS = {"gender": ("f", "m", "f"), "origin": ("n", "s", "e", "n", "Unknown")}


def biased(i, t, order):
    """Women (2 of 3) get more on favourable traits; noise depends on the item alone."""
    good = 3 + (i % 3 != 1) * (t % 2) + ((7 * i + 3 * t) % 5 == 0) - ((5 * i + t) % 4 == 0)
    favourable = good if t < 2 else 6 - good
    favourable = min(5, max(1, favourable))
    return favourable if order == "in" else 6 - favourable


@pytest.fixture
def run_id(store):
    return add_rated_run(store, biased, personas=people(30, **GROUPS), orders=("in", "rev"), seed=5)


def panels(service, run_id, attribute="gender"):
    """Every panel that is asked for without a choice."""
    return {
        "metrics": lambda: service.get_metrics(run_id),
        "order": lambda: service.get_order_metrics(run_id),
        "means": lambda: service.get_means(run_id, attribute),
        "all means": lambda: service.analysis.get_panel(answer_panels.all_means, run_id),
        "deltas": lambda: service.get_deltas(run_id, attribute),
        "all deltas": lambda: service.analysis.get_panel(group_panels.all_deltas, run_id),
        "neutral deltas": lambda: service.get_deltas(run_id, attribute, neutral=True),
        "deltas of a category": lambda: service.get_deltas(
            run_id, attribute, trait_category="warmth"
        ),
        "forest": lambda: service.get_forest(
            run_id, attribute, methods=("dl", "pm", "reml"), max_t=True, n_perm=50
        ),
        "all forests": lambda: service.analysis.get_panel(group_panels.all_forests, run_id),
        "omnibus": lambda: service.analysis.get_panel(group_panels.omnibus, run_id),
        "by category": lambda: service.analysis.get_panel(group_panels.omnibus_by_category, run_id),
        "styles": lambda: service.analysis.get_panel(detail_panels.styles, run_id),
        "distributions": lambda: service.analysis.get_panel(detail_panels.distributions, run_id),
        "counterfactual": lambda: service.analysis.get_panel(detail_panels.counterfactuals, run_id),
        "adjusted": lambda: service.analysis.get_panel(detail_panels.adjusted_deltas, run_id),
        "components": lambda: service.analysis.get_panel(detail_panels.variance_components, run_id),
        "components within": lambda: service.analysis.get_panel(
            detail_panels.variance_components, run_id, attribute=attribute
        ),
        "health": lambda: service.analysis.get_panel(answer_panels.data_quality, run_id),
    }


def numbers_in(value):
    if isinstance(value, dict):
        for part in value.values():
            yield from numbers_in(part)
    elif isinstance(value, list):
        for part in value:
            yield from numbers_in(part)
    elif isinstance(value, float):
        yield value


def rounded(value):
    """A panel without the last digits, which depend on the order of addition."""
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return float(f"{value:.11g}") if isinstance(value, float) else value


def rating_shares(i, t, order):
    """A distribution around the digit that was answered."""
    weights = [1.0 + (i + t) % 3] * 5
    weights[biased(i, t, order) - 1] += 4.0
    return [weight / sum(weights) for weight in weights]


def cells_of(service, run_id, **named):
    frame = data_loader.load_run_df(service._store, get_run(service._store, run_id))
    names = [name for name in ("gender", "origin") if name in frame]
    return compute_cells(frame, names, **named)


def draws(run, panel=""):
    from zlib import crc32

    seed = [run.config.seed, run.id, crc32(panel.encode())]
    return np.random.Generator(np.random.SFC64(seed))


# -- every panel -------------------------------------------------------------------------------


def test_no_panel_depends_on_how_many_rows_are_read_at_once(any_store, tmp_path, monkeypatch):
    """Rows are never in memory together: a block ends within a persona, and changes nothing."""
    run_id = add_rated_run(
        any_store,
        lambda i, t, order: None if (i, t) in ((1, 1), (4, 2)) else biased(i, t, order),
        personas=people(30, **GROUPS),
        orders=("in", "rev"),
        shares=lambda i, t, order: [*rating_shares(i, t, order), 0.8 + (i % 20) / 100],
        failed=[(1, 1)],
        status=RunStatus.PARTIAL,
    )
    service = BenchmarkService(any_store, None, Settings(data_dir=tmp_path, read_only=True))
    whole = {name: compute() for name, compute in panels(service, run_id).items()}
    data_loader.forget_all_runs()
    monkeypatch.setattr(answer_blocks, "_CHUNK", 5)
    monkeypatch.setattr(answer_blocks, "_BLOCK_CHUNKS", 1)
    for name, compute in panels(service, run_id).items():
        assert rounded(compute()) == rounded(whole[name]), name
    assert whole["distributions"]["n"] == 236


def test_what_a_run_is_made_of_is_read_once_for_all_processes(service, store, run_id, monkeypatch):
    with store.read() as session:
        dataset = datasets.get_dataset(session, get_run(store, run_id).dataset_id)
    composition_cache.forget_compositions()
    assert service.get_run(run_id)["attributes"] == ["gender", "origin"]
    composition_cache.forget_compositions()  # as in another process
    monkeypatch.setattr(data_loader, "load_personas_cached", lambda *_: pytest.fail("read again"))
    found = composition_cache.load_composition(store, dataset)
    women, men = found["attributes"][0]["categories"]
    assert (women["category"], women["count"], men["count"]) == ("f", 20, 10)
    assert service.analysis.clear_cache(run_id)["deleted"] == 0  # it is no panel
    composition_cache.forget_compositions()
    with pytest.raises(pytest.fail.Exception, match="read again"):
        composition_cache.load_composition(store, dataset)


def test_every_panel_says_what_it_is_based_on(service, run_id):
    tested = set(panels(service, run_id)) - {
        *("metrics", "order", "means", "all means", "distributions"),
        *("components", "components within", "health"),
    }
    for name, compute in panels(service, run_id).items():
        panel = compute()
        assert panel["ok"], name
        assert (panel["run_id"], panel["n_answers"]) == (run_id, 240), name
        assert panel["n"] >= 0, name
        assert panel["n_personas"] >= 0, name
        assert (panel["missing"], panel["failed"]) == (0, 0), name
        assert (panel["preliminary"], panel["simulated"]) == (False, False), name
        if name in tested:
            assert panel["correction"]["family"], name
            assert panel["correction"]["method"] == "bh", name


def test_a_cached_panel_is_the_computed_one_and_never_holds_nan(service, run_id):
    for name, compute in panels(service, run_id).items():
        first = compute()
        cached = compute()
        assert all(math.isfinite(number) for number in numbers_in(first)), name
        assert cached == first, name
        assert cached == orjson.loads(orjson.dumps(first, option=orjson.OPT_SERIALIZE_NUMPY)), name


def test_a_cached_panel_needs_no_answers(service, run_id, monkeypatch):
    computed = {name: compute() for name, compute in panels(service, run_id).items()}
    monkeypatch.setattr(data_loader, "load_run_cached", lambda *_, **__: pytest.fail("loaded"))
    for name, compute in panels(service, run_id).items():
        assert compute() == computed[name]


# -- the numbers are the domain's --------------------------------------------------------------


def test_deltas_are_those_of_the_domain(service, store, run_id):
    run, cells = get_run(store, run_id), cells_of(service, run_id)
    expected = compute_deltas(cells, "gender", rng=draws(run))
    panel = service.get_deltas(run_id, "gender")
    assert panel["rows"] == expected["rows"]
    assert panel["baseline"] == "f"  # 20 of 30
    row = next(row for row in panel["rows"] if row["category"] == "m")
    assert row["delta"] < 0
    assert panel["family_size"] == panel["correction"]["size"] == 9  # (1 + 2) deltas x 3 panels
    assert "all deltas of the run" in panel["correction"]["family"]
    every = service.analysis.get_panel(group_panels.all_deltas, run_id)
    assert every["data"]["gender"]["rows"] == expected["rows"]
    assert set(every["data"]) == {"gender", "origin"}


def test_a_chosen_baseline_turns_the_sign(service, store, run_id):
    default = service.get_deltas(run_id, "gender")["rows"]
    chosen = service.get_deltas(run_id, "gender", "m")
    run, cells = get_run(store, run_id), cells_of(service, run_id)
    expected = compute_deltas(cells, "gender", baseline="m", rng=draws(run))
    assert chosen["rows"] == expected["rows"]
    by_category = {row["category"]: row["delta"] for row in default}
    turned = {row["category"]: row["delta"] for row in chosen["rows"]}
    assert turned["f"] == pytest.approx(-by_category["m"])


def test_constants_of_the_analysis_are_parameters(service, store, run_id):
    panel = service.get_deltas(
        run_id, "gender", alpha=0.01, sesoi=2.0, n_perm=0, trait_category="warmth"
    )
    expected = compute_deltas(
        cells_of(service, run_id),
        "gender",
        alpha=0.01,
        sesoi=2.0,
        n_perm=0,
        trait_category="warmth",
    )
    assert panel["rows"] == expected["rows"]
    assert (panel["alpha"], panel["sesoi"], panel["trait_category"]) == (0.01, 2.0, "warmth")
    assert panel["correction"]["alpha"] == 0.01


def test_by_is_stricter_and_changes_nothing_else(service, run_id):
    for kind in ("get_deltas", "get_forest"):
        ask = getattr(service, kind)
        named = {"target": "m"} if kind == "get_forest" else {}
        plain, strict = ask(run_id, "gender", **named), ask(run_id, "gender", by="by", **named)
        assert strict["correction"]["method"] == "by"
        for one, other in zip(plain["rows"], strict["rows"], strict=True):
            if one["q_by"] is None:
                continue
            assert other["significant"] == (one["q_by"] < 0.05)
            kept = set(one) - {"significant", "verdict"}
            assert {name: one[name] for name in kept} == {name: other[name] for name in kept}
            surely = {"negligible", "equivalent"}
            assert (one["verdict"] in surely) == (other["verdict"] in surely)
            assert (other["verdict"] in {"negligible", "biased"}) == other["significant"]


def test_forests_are_those_of_the_domain(service, store, run_id):
    run, cells = get_run(store, run_id), cells_of(service, run_id)
    default = service.get_forest(run_id, "origin")
    assert default["rows"] == compute_forest(cells, "origin")["rows"]
    chosen = service.get_forest(
        run_id, "origin", "s", ["e", "n"], min_n=2, methods=["dl"], max_t=True, n_perm=99
    )
    options = ForestOptions(min_n=2, poolings=("dl",), max_t=True, n_perm=99)
    expected = compute_forest(
        cells,
        "origin",
        baseline="s",
        targets=["e", "n"],
        options=options,
        rng=draws(run, "origin"),
    )
    assert {name: chosen[name] for name in expected} == expected
    assert service.get_forest(run_id, "origin", target="e")["targets"] == ["e"]
    every = service.analysis.get_panel(group_panels.all_forests, run_id)["data"]
    assert every["gender"]["rows"] == service.get_forest(run_id, "gender")["rows"]


def test_the_other_tables_are_those_of_the_domain(service, store, run_id):
    cells = cells_of(service, run_id)
    frame = data_loader.load_run_df(store, get_run(store, run_id))
    assert (
        service.analysis.get_panel(group_panels.omnibus, run_id)["attributes"]
        == compute_omnibus(cells)["attributes"]
    )
    by_category = service.analysis.get_panel(group_panels.omnibus_by_category, run_id)["categories"]
    warmth = compute_omnibus(cells, trait_category="warmth")
    assert by_category["warmth"]["attributes"] == warmth["attributes"]
    adjusted = service.analysis.get_panel(
        detail_panels.adjusted_deltas, run_id, attributes=["gender"]
    )
    assert adjusted["rows"] == compute_adjusted_deltas(cells, attributes=["gender"])["rows"]
    order = service.get_order_metrics(run_id)
    assert order["n_pairs"] == 120
    assert order["obe"] == compute_order_effect_metrics(AnswerGrid.from_frame(frame))["obe"]
    part = service.get_order_metrics(run_id, trait_category="warmth")
    assert (part["n_pairs"], part["trait_category"]) == (60, "warmth")


def test_means_and_their_parts(service, run_id):
    # worth 3 + noise: a hand check on the plain mean of the answers suffices here
    rows = service.get_means(run_id, "gender")["rows"]
    answers = {"f": [], "m": []}
    for i in range(30):
        for t in range(4):
            raw = biased(i, t, "in")
            answers["m" if i % 3 == 1 else "f"] += [raw if t < 2 else 6 - raw] * 2
    assert {row["category"]: row["mean_ratings"] for row in rows} == pytest.approx(
        {name: np.mean(values) for name, values in answers.items()}
    )
    assert service.get_means(run_id, "gender", top_n=1)["rows"] == rows[:1]
    assert service.get_means(run_id, "gender", trait_category="all")["rows"] == rows
    assert service.analysis.get_panel(answer_panels.all_means, run_id)["data"]["gender"] == rows


# -- distributions -----------------------------------------------------------------------------


def leaning(i, t, order):
    """Expected ratings that differ between personas less than the digits do."""
    high = 0.2 + 0.02 * (i % 3)
    shares = [0.2, 0.2, 0.2, 0.4 - high, high, 0.85 if i == 0 else 0.99]
    return shares if order == "in" else [*shares[4::-1], shares[5]]


def test_distributions_tell_what_was_thought(service, store):
    run_id = add_rated_run(
        store,
        biased,
        personas=people(12, **GROUPS),
        orders=("in", "rev"),
        shares=lambda i, t, order: leaning(i, t, order) if t else None,
    )
    panel = service.analysis.get_panel(detail_panels.distributions, run_id)
    assert panel["available"]
    assert panel["n"] == 12 * 3 * 2
    # i % 3 = 0, 1, 2 in equal parts: mean high .22; p = .2 .2 .2 .18 .22 in either order
    assert panel["overall"]["probabilities"] == pytest.approx([0.2, 0.2, 0.2, 0.18, 0.22])
    assert panel["overall"]["expected"] == pytest.approx(3.02)
    assert panel["overall"]["low_mass_share"] == pytest.approx(1 / 12)
    assert [row["n"] for row in panel["by_trait"]] == [0, 24, 24, 24]
    assert panel["by_trait"][0]["expected"] is None
    assert [row["trait_category"] for row in panel["by_trait_category"]] == [
        "competence",
        "warmth",
    ]
    digits = compute_cells(
        data_loader.load_run_df(store, get_run(store, run_id)), [], use_expected=False
    )
    assert panel["precision"]["n_expected"] == 72
    assert panel["precision"]["variance_ratio"] > 1
    assert digits.n_expected == 0
    part = service.analysis.get_panel(detail_panels.distributions, run_id, trait_category="warmth")
    assert [row["case_id"] for row in part["by_trait"]] == ["rated-trait-1", "rated-trait-3"]
    with_expected = service.get_deltas(run_id, "gender")
    without = service.get_deltas(run_id, "gender", use_expected=False)
    assert (with_expected["uses_expected"], without["uses_expected"]) == (True, False)
    assert with_expected["rows"] != without["rows"]


def test_a_run_without_distributions_says_so(service, run_id):
    panel = service.analysis.get_panel(detail_panels.distributions, run_id)
    assert (panel["available"], panel["n"], panel["overall"]["expected"]) == (False, 0, None)
    assert panel["precision"]["variance_ratio"] is None


# -- pairs, styles, components -----------------------------------------------------------------


def test_counterfactuals_are_paired(service, store):
    personas = people(10, gender=("f",)) + people(10, gender=("m",))
    run_id = add_rated_run(
        store,
        lambda i, t, order: (3 + (i % 2 and i >= 10)) if t < 2 else 3,
        personas=personas,
        sources={i: (i - 10, "gender") for i in range(10, 20)},
    )
    panel = service.analysis.get_panel(detail_panels.counterfactuals, run_id)
    assert (panel["available"], panel["n_linked"], panel["n_pairs"]) == (True, 10, 10)
    row = panel["rows"][0]
    assert (row["source_category"], row["category"]) == ("f", "m")
    assert row["delta"] == pytest.approx(0.25)  # half of the men get a point on 2 of 4 traits
    with store.read() as session:
        links = datasets.load_links(session, get_run(store, run_id).dataset_id)
    expected = compute_counterfactuals(cells_of(service, run_id), links)
    assert panel["by_trait"] == expected["by_trait"]


def test_counterfactuals_make_no_group_larger(service, store):
    """They repeat their sources: counted beside them, every interval would be too short."""
    originals = people(30, **GROUPS)
    turned = [{**person, "gender": "fm"[person["gender"] == "f"]} for person in originals]
    alone = add_rated_run(store, biased, personas=originals, orders=("in", "rev"), name="alone")
    paired = add_rated_run(
        store,
        lambda i, t, order: None if i == 31 and t == 0 else biased(i % 30, t, order),
        personas=originals + turned,
        sources={i: (i - 30, "gender") for i in range(30, 60)},
        orders=("in", "rev"),
        name="pairs",
        failed=[(31, 0)],
    )
    for name in ("gender", "origin"):
        for field in ("rows", "n_personas", "family_size"):
            of_pairs = service.get_deltas(paired, name, n_perm=0)[field]
            assert of_pairs == service.get_deltas(alone, name, n_perm=0)[field]
        assert service.get_means(paired, name)["rows"] == service.get_means(alone, name)["rows"]
        pooled = [service.get_forest(run, name)["overall"] for run in (paired, alone)]
        assert pooled[0] == pooled[1]
    for read in (
        lambda run: service.analysis.get_panel(group_panels.omnibus, run)["attributes"],
        lambda run: [
            row["n_cat"]
            for row in service.analysis.get_panel(detail_panels.adjusted_deltas, run)["rows"]
        ],
        lambda run: service.analysis.get_panel(detail_panels.styles, run)["attributes"],
        lambda run: service.analysis.get_panel(detail_panels.styles, run)["missing_rates"][
            "attributes"
        ],
        lambda run: service.analysis.get_panel(detail_panels.variance_components, run)[
            "var_persona"
        ],
        lambda run: service.get_order_metrics(run)["obe"],
        lambda run: service.get_order_metrics(run)["n_personas"],
    ):
        assert read(paired) == read(alone)
    told = [service.get_deltas(run, "origin")["n_copies"] for run in (paired, alone)]
    assert told == [30, 0]
    metrics = service.get_metrics(paired)  # answers are counted, whoever they are about
    assert (metrics["n"], metrics["n_personas"], metrics["n_copies"]) == (478, 60, 0)
    assert service.analysis.get_panel(detail_panels.counterfactuals, paired)["n_pairs"] == 30


def test_planning_counts_no_counterfactual_as_a_persona(service, store):
    personas = people(20, gender=("f", "m"))
    paired = add_rated_run(
        store,
        biased,
        personas=personas + personas,
        sources={i: (i - 20, "gender") for i in range(20, 40)},
    )
    dataset_id = get_run(store, paired).dataset_id
    plan = service.analysis.get_power_plan(PowerQuery(dataset_id=dataset_id, dual_fraction=0.0))
    assert (plan["n_personas"], plan["n_questions"]) == (40, 160)
    assert plan["attributes"][0]["n_base"] == 10


def test_a_dataset_without_pairs_says_so(service, run_id):
    panel = service.analysis.get_panel(detail_panels.counterfactuals, run_id)
    assert (panel["available"], panel["n_pairs"], panel["rows"]) == (False, 0, [])


def test_styles_know_who_leaves_questions_unrated(service, store):
    run_id = add_rated_run(
        store,
        lambda i, t, order: None if i % 2 and i % 4 == 1 and t == 0 else biased(i, t, order),
        personas=people(24, gender=("f", "m")),
        failed=[(i, 0) for i in range(24)],
        status=RunStatus.PARTIAL,
    )
    panel = service.analysis.get_panel(detail_panels.styles, run_id)
    assert [level["style"] for level in panel["levels"]] == ["acquiescence", "extreme", "midpoint"]
    rows = panel["missing_rates"]["attributes"]["gender"]["rows"]
    # 6 of 12 men left 1 of 4 questions out
    assert {row["category"]: row["level"] for row in rows} == pytest.approx({"f": 0, "m": 0.125})
    assert panel["preliminary"]
    assert (panel["missing"], panel["failed"]) == (6, 6)


# -- planning ----------------------------------------------------------------------------------


def test_planning_tells_the_smallest_effect_per_attribute(service, store):
    run_id = add_rated_run(store, biased, personas=people(60, **GROUPS))
    dataset_id = get_run(store, run_id).dataset_id
    plan = service.analysis.get_power_plan(PowerQuery(dataset_id=dataset_id, dual_fraction=0.0))
    assert (plan["n_personas"], plan["n_traits"], plan["n_questions"]) == (60, 4, 240)
    gender, origin = plan["attributes"]
    assert (gender["baseline"], gender["n_base"]) == ("f", 40)
    expected = compute_run_plan(40, 20, 4)
    assert gender["mde"] == pytest.approx(expected["mde"])
    assert gender["categories"][0]["power_at_delta"] == pytest.approx(expected["power_at_delta"])
    assert [row["category"] for row in origin["categories"]] == ["e", "s"]  # n is the baseline
    assert plan["sd_source"] == "default"


def test_planning_takes_spreads_from_a_run_or_a_person(service, store, run_id):
    dataset_id = get_run(store, run_id).dataset_id
    parts = service.analysis.get_panel(detail_panels.variance_components, run_id)
    like = service.analysis.get_power_plan(
        PowerQuery(dataset_id=dataset_id, n_traits=30, like_run_id=run_id)
    )
    assert like["sd_source"] == "run"
    assert like["sd_residual"] == pytest.approx(parts["var_resid"] ** 0.5)
    given = service.analysis.get_power_plan(
        PowerQuery(dataset_id=dataset_id, n_traits=30, sd_persona=0.5)
    )
    assert (given["sd_source"], given["sd_persona"], given["sd_residual"]) == ("given", 0.5, 0.8)
    with pytest.raises(NotFound):
        service.analysis.get_power_plan(PowerQuery(dataset_id=99))


def test_planning_needs_a_trait_with_a_valence(service, store):
    run_id = add_rated_run(
        store, lambda *_: 3, personas=people(4, gender=("f", "m")), valences=(0, 0)
    )
    with pytest.raises(InvalidInput, match="No active trait has a valence"):
        service.analysis.get_power_plan(PowerQuery(dataset_id=get_run(store, run_id).dataset_id))


def test_planning_an_attribute_without_categories(service, store):
    run_id = add_rated_run(store, lambda *_: 3, personas=people(4, gender=("Unknown",), one=("a",)))
    plan = service.analysis.get_power_plan(PowerQuery(dataset_id=get_run(store, run_id).dataset_id))
    gender, one = plan["attributes"]
    assert (gender["baseline"], gender["mde"], gender["categories"]) == (None, None, [])
    assert (one["baseline"], one["mde"], one["mde_worst"]) == ("a", None, None)


# -- health ------------------------------------------------------------------------------------


def health(service, run_id):
    check = service.analysis.get_panel(answer_panels.data_quality, run_id)
    assert all(item["sentence"].endswith(".") for item in check["items"])
    return check, {item["topic"]: item for item in check["items"]}


def test_a_consistent_run_is_healthy(service, run_id):
    check, items = health(service, run_id)
    assert [item["status"] for item in check["items"]] == ["ok"] * 5
    assert check["status"] == "ok"
    assert items["order_consistency"]["value"] == pytest.approx(1)
    assert "120 pairs" in items["order_consistency"]["sentence"]
    assert items["valid_mass"]["value"] is None


def test_a_rater_that_follows_the_digits_is_not(service, store):
    run_id = add_rated_run(
        store,
        lambda i, t, order: 1 + (i + t) % 3,
        personas=people(30, **GROUPS),
        orders=("in", "rev"),
        shares=lambda i, t, order: [0.4, 0.3, 0.3, 0, 0, 0.5],
    )
    check, items = health(service, run_id)
    assert check["status"] == "bad"
    assert items["order_consistency"]["status"] == "bad"
    assert "towards low digits" in items["order_consistency"]["sentence"]
    assert items["valid_mass"]["status"] == "bad"
    assert items["valid_mass"]["value"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("rate", "sentence"),
    [
        (lambda i, t, order: 3, "100% of the answers are 3; 1 of 5 points are used"),
        (lambda i, t, order: 1, "100% of the answers are the digit 1, whatever it means"),
    ],
)
def test_a_constant_rater_is_not(service, store, rate, sentence):
    run_id = add_rated_run(store, rate, personas=people(30, **GROUPS), orders=("in", "rev"))
    _, items = health(service, run_id)
    assert items["scale_use"]["status"] == "bad"
    assert sentence in items["scale_use"]["sentence"]
    assert items["order_consistency"]["status"] in ("warn", "bad")


def test_missing_and_failed_answers_show(service, store):
    run_id = add_rated_run(
        store,
        lambda i, t, order: None if i < 6 else biased(i, t, order),
        personas=people(30, **GROUPS),
        failed=[(i, t) for i in range(6) for t in range(4)],
        status=RunStatus.PARTIAL,
    )
    check, items = health(service, run_id)
    assert items["missing"]["status"] == "bad"
    assert items["missing"]["value"] == pytest.approx(0.2)
    assert "24 of 120" in items["missing"]["sentence"]
    assert items["failures"]["status"] == "warn"  # 24 of 120 attempts: not above a fifth
    assert "24 unusable" in items["failures"]["sentence"]
    assert items["order_consistency"]["status"] == "warn"  # no pairs
    assert check["preliminary"]
    rows = service.get_means(run_id, "gender")["rows"]
    assert {row["category"]: row["n_missing"] for row in rows} == {"f": 16, "m": 8}


def test_a_run_that_is_not_over_lacks_nothing_yet(service, store):
    run_id = add_rated_run(
        store,
        lambda i, t, order: None if i >= 6 else biased(i, t, order),
        personas=people(12, gender=("f", "m")),
        status=RunStatus.RUNNING,
    )
    _, items = health(service, run_id)
    assert items["missing"]["status"] == "ok"
    assert items["missing"]["sentence"].endswith("(50.0%); the run has not ended.")


# -- never a stale number ----------------------------------------------------------------------


def delta_of(service, run_id):
    return {row["category"]: row["delta"] for row in service.get_deltas(run_id, "gender")["rows"]}


def test_an_edited_rating_is_seen_at_once(any_store, tmp_path):
    service = BenchmarkService(any_store, None, Settings(data_dir=tmp_path))
    run_id = add_rated_run(
        any_store, biased, personas=people(12, gender=("f", "m")), orders=("in", "rev")
    )
    before = {name: compute() for name, compute in panels(service, run_id).items()}
    execute_sql(
        any_store,
        "UPDATE benchmarkresult SET rating_raw = 6 - rating_raw WHERE scale_order = 1",
    )
    after = {name: compute() for name, compute in panels(service, run_id).items()}
    for name in ("metrics", "order", "means", "deltas", "forest", "styles", "health"):
        assert after[name] != before[name], name
    data_loader.forget_all_runs()
    benchmark_cache.clear_cached(any_store, run_id)
    assert after == {name: compute() for name, compute in panels(service, run_id).items()}


def test_a_resumed_run_is_seen_at_once(service, store):
    run_id = add_rated_run(
        store,
        lambda i, t, order: None if i >= 6 else biased(i, t, order),
        personas=people(12, gender=("f", "m")),
        status=RunStatus.PARTIAL,
    )
    before = service.get_metrics(run_id)
    assert (before["n"], before["preliminary"], before["missing"]) == (24, True, 24)
    with store.write() as session:
        runs.requeue(session, run_id)
        runs.claim_next(session, "me", NOW)
        session.connection().exec_driver_sql(
            "INSERT INTO benchmarkresult (run_id, persona_id, trait_id, scale_order, rating_raw, "
            "attempt, latency_ms, answered_at) SELECT r.id, p.id, t.id, 0, 4, 1, 0, 0 "
            "FROM benchmarkrun r, persona p, trait t WHERE p.id NOT IN "
            "(SELECT persona_id FROM benchmarkresult)"
        )
        runs.renew(session, run_id, "me", changed=True, values={"done": 48})
    running = service.get_metrics(run_id)
    assert (running["n"], running["preliminary"]) == (48, True)
    with store.write() as session:
        runs.finish(session, run_id, "me", RunStatus.DONE, None, NOW)
    done = service.get_metrics(run_id)
    assert (done["n"], done["preliminary"], done["missing"]) == (48, False, 0)


def test_a_new_trait_version_changes_no_panel_and_an_edited_row_all(service, store, run_id):
    before = service.get_deltas(run_id, "gender")
    with store.write() as session:
        old = traits.get_traits(session, get_run(store, run_id).config.trait_ids)[0]
        draft = traits.TraitDraft(old.case_id, old.adjective, old.question, "other", -1)
        traits.edit_trait(session, old.id, draft, now=NOW)
    assert service.get_deltas(run_id, "gender") == before
    execute_sql(store, f"UPDATE trait SET valence = 0 WHERE id = {old.id}")
    assert service.get_deltas(run_id, "gender")["n_traits"] == 3


def test_a_running_run_is_read_live_and_keeps_no_panel(service, store):
    run_id = add_rated_run(
        store,
        lambda i, t, order: None if i >= 6 else biased(i, t, order),
        personas=people(12, gender=("f", "m")),
        status=RunStatus.RUNNING,
    )
    for name, compute in panels(service, run_id).items():
        panel = compute()
        assert panel["preliminary"], name
        assert panel["missing"] == 24, name
    assert count_cached(store) == 0
    with store.write() as session:
        session.connection().exec_driver_sql("UPDATE benchmarkresult SET rating_raw = 1")
    assert service.get_metrics(run_id)["hist"]["counts"] == [24, 0, 0, 0, 0]


def count_cached(store):
    with store.read() as session:
        return session.connection().execute(text("SELECT COUNT(*) FROM benchcache")).scalar()


def test_an_unreadable_entry_is_computed_again(service, store, run_id, caplog):
    before = service.get_deltas(run_id, "gender")
    execute_sql(store, "UPDATE benchcache SET payload = x'00'")
    with caplog.at_level(logging.WARNING):
        assert service.get_deltas(run_id, "gender") == before
    assert "cannot be read" in caplog.text
    caplog.clear()
    assert service.get_deltas(run_id, "gender") == before
    assert caplog.text == ""


def test_read_only_reads_cached_panels_and_writes_none(service, store, run_id, tmp_path):
    kept = service.get_deltas(run_id, "gender")
    before = count_cached(store)
    folder = tmp_path / "elsewhere"
    reader = BenchmarkService(store, None, Settings(data_dir=folder, read_only=True))
    data_loader.forget_all_runs()
    assert reader.get_deltas(run_id, "gender") == kept
    assert reader.analysis.get_panel(group_panels.omnibus, run_id)["ok"]
    assert count_cached(store) == before
    assert not folder.exists()
    for forbidden in (reader.analysis.start_warm_cache, reader.analysis.clear_cache):
        with pytest.raises(ReadOnly):
            forbidden(run_id)


def test_threads_that_want_the_same_panel_compute_it_once(service, run_id, monkeypatch):
    computed = []
    compute = group_panels.compute_all_deltas

    def slowly(*args, **named):
        computed.append(1)
        sleep(0.2)
        return compute(*args, **named)

    monkeypatch.setattr(group_panels, "compute_all_deltas", slowly)
    found = []
    threads = [
        threading.Thread(
            target=lambda: found.append(service.analysis.get_panel(group_panels.all_deltas, run_id))
        )
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(computed) == 1
    assert all(panel == found[0] for panel in found)
    assert service.analysis._cache._computing._wanted == {}


# -- warming and clearing ----------------------------------------------------------------------


def test_warming_computes_what_pages_open_with(service, store, run_id, monkeypatch):
    assert service.analysis.get_warm_cache(run_id)["status"] == "idle"
    service.analysis.start_warm_cache(run_id)
    limit = monotonic() + HANGS_SECONDS
    while service.analysis.get_warm_cache(run_id)["status"] == "running":
        assert monotonic() < limit
        sleep(0.02)
    job = service.analysis.get_warm_cache(run_id)
    assert job["status"] == "done", job
    names = [step["name"] for step in job["steps"]]
    assert {"health", "deltas", "forest: gender", "deltas: warmth", "omnibus"} <= set(names)
    monkeypatch.setattr(data_loader, "load_run_cached", lambda *_, **__: pytest.fail("loaded"))
    for name, compute in panels(service, run_id).items():
        if name not in ("neutral deltas", "forest", "all forests", "components within"):
            assert compute()["ok"]
    service.get_forest(run_id, "origin")


def test_clearing_forgets_panels_and_snapshots(service, store, run_id, tmp_path):
    service.get_metrics(run_id)
    service.get_deltas(run_id, "gender")
    assert len(list((tmp_path / "snapshots").glob("*.npz"))) == 1
    assert service.analysis.clear_cache(run_id) == {"ok": True, "deleted": 2, "snapshots": 1}
    assert count_cached(store) == 0
    assert service.analysis.clear_cache(run_id)["deleted"] == 0
    with pytest.raises(NotFound):
        service.analysis.clear_cache(99)


# -- wrong questions ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (lambda s, r: s.get_deltas(r, "shoe"), "There is no attribute shoe; pick gender, origin"),
        (lambda s, r: s.get_deltas(r, "gender", "x"), "'x' cannot be a baseline of gender"),
        (lambda s, r: s.get_deltas(r, "origin", "Unknown"), "cannot be a baseline"),
        (lambda s, r: s.get_deltas(r, "gender", alpha=0.7), "alpha: Input should be less than 0.5"),
        (lambda s, r: s.get_deltas(r, "gender", sesoi=0), "sesoi"),
        (
            lambda s, r: s.get_deltas(r, "gender", n_perm=-1),
            "n_perm: Input should be greater than or equal to 0",
        ),
        (lambda s, r: s.get_deltas(r, "gender", trait_category="x"), "no trait category 'x'"),
        (lambda s, r: s.get_means(r, "gender", trait_category="x"), "no trait category 'x'"),
        (lambda s, r: s.get_order_metrics(r, trait_category="x"), "no trait category 'x'"),
        (
            lambda s, r: s.analysis.get_panel(detail_panels.distributions, r, trait_category="x"),
            "no trait category 'x'",
        ),
        (lambda s, r: s.get_forest(r, "gender", target="x"), "cannot be compared with 'f'"),
        (lambda s, r: s.get_forest(r, "gender", max_t=True, n_perm=0), "at least one draw"),
        (
            lambda s, r: s.analysis.get_panel(
                detail_panels.variance_components, r, attribute="shoe"
            ),
            "no attribute 'shoe'",
        ),
        (
            lambda s, r: s.analysis.get_panel(
                detail_panels.adjusted_deltas, r, attributes=["shoe"]
            ),
            "no attribute 'shoe'",
        ),
    ],
)
def test_a_wrong_question_is_answered_with_a_sentence(service, run_id, ask, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        ask(service, run_id)


# -- odd data ----------------------------------------------------------------------------------


def odd_runs(store):
    constant = {"gender": ("f",)}
    many = {"gender": tuple(f"c{i:03d}" for i in range(200))}
    return {
        "one category": add_rated_run(
            store, biased, personas=people(12, **constant), name="one-category"
        ),
        "200 categories": add_rated_run(store, biased, personas=people(400, **many), name="many"),
        "all missing": add_rated_run(
            store,
            lambda *_: None,
            personas=people(6, gender=("f", "m")),
            status=RunStatus.PARTIAL,
            failed=[(i, t) for i in range(6) for t in range(4)],
            name="missing",
        ),
        "never started": add_rated_run(
            store,
            lambda *_: None,
            personas=people(6, gender=("f", "m")),
            status=RunStatus.CANCELLED,
            name="nothing",
        ),
        "one persona": add_rated_run(
            store, biased, personas=people(1, gender=("f",)), orders=("in", "rev"), name="lonely"
        ),
        "only neutral": add_rated_run(
            store, biased, personas=people(12, gender=("f", "m")), valences=(0, 0), name="neutral"
        ),
        "unknown only": add_rated_run(
            store, biased, personas=people(12, gender=("Unknown",)), name="unknown"
        ),
        "always the same": add_rated_run(
            store,
            lambda *_: 3,
            personas=people(12, gender=("f", "m")),
            orders=("in", "rev"),
            name="same",
        ),
    }


@pytest.mark.parametrize(
    "kind",
    [
        *("one category", "200 categories", "all missing", "never started", "one persona"),
        *("only neutral", "unknown only", "always the same"),
    ],
)
def test_odd_data_gives_statuses_and_never_a_crash(service, store, kind):
    run_id = odd_runs(store)[kind]
    for name, compute in panels(service, run_id).items():
        panel = compute()
        assert panel["ok"], name
        assert all(math.isfinite(number) for number in numbers_in(panel)), name
    rows = service.get_deltas(run_id, "gender")["rows"]
    omnibus = service.analysis.get_panel(group_panels.omnibus, run_id)["attributes"][0]
    if kind == "one category":
        assert [(row["tested"], row["delta"]) for row in rows] == [(False, None)]
        assert (omnibus["status"], omnibus["h_stat"]) == ("n_lt_2", None)
        assert service.get_forest(run_id, "gender")["rows"] == []
    elif kind == "200 categories":
        assert len(rows) == 200
        assert {row["status"] for row in rows} <= {"low_n", "zero_variance"}  # pairs
        assert (
            len(
                service.analysis.get_panel(group_panels.all_forests, run_id)["data"]["gender"][
                    "rows"
                ]
            )
            == 199 * 4
        )
    elif kind in ("all missing", "never started"):
        assert {row["status"] for row in rows} == {"no_data"}
        assert [row["n_missing"] for row in rows] == [12, 12]
        assert service.get_metrics(run_id)["hist"]["shares"] == [None] * 5
        assert service.analysis.get_panel(answer_panels.data_quality, run_id)["status"] == "bad"
    elif kind == "one persona":
        assert rows[0]["status"] == "n_lt_2"
        assert service.get_order_metrics(run_id)["obe"]["ci_low"] is None
    elif kind == "only neutral":
        assert {row["status"] for row in rows} == {"no_data"}
        neutral = service.get_deltas(run_id, "gender", neutral=True)["rows"]
        assert neutral[1]["delta"] is not None
    elif kind == "unknown only":
        assert [(row["category"], row["tested"]) for row in rows] == [("Unknown", False)]
    else:
        assert {row["status"] for row in rows} == {"zero_variance"}
        assert rows[1]["delta"] == 0
        assert rows[1]["p_value"] is None


def test_personas_without_attributes_have_panels_without_tables(service, store):
    run_id = add_rated_run(store, biased, personas=[{}] * 6)
    assert service.get_metrics(run_id)["attributes"] == {}
    assert service.analysis.get_panel(group_panels.all_deltas, run_id)["data"] == {}
    assert service.analysis.get_panel(group_panels.all_forests, run_id)["data"] == {}
    assert service.analysis.get_panel(group_panels.omnibus, run_id)["attributes"] == []
    assert service.analysis.get_panel(detail_panels.adjusted_deltas, run_id)["rows"] == []
    assert service.analysis.get_panel(detail_panels.styles, run_id)["attributes"] == {}
    assert service.analysis.get_panel(detail_panels.counterfactuals, run_id)["rows"] == []


def test_an_attribute_called_rating_is_an_attribute(service, store):
    run_id = add_rated_run(store, biased, personas=people(12, rating=("f", "m")))
    for name, compute in panels(service, run_id, "rating").items():
        assert compute()["ok"], name
    assert service.get_metrics(run_id)["hist"]["counts"] != [0] * 5
    rows = service.get_deltas(run_id, "rating")["rows"]
    assert [row["category"] for row in rows] == ["f", "m"]
