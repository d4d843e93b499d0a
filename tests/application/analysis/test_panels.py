"""Every panel reports its sample and holds the numbers of the domain."""

import math

import numpy as np
import orjson
import pytest

from benchlib.application import composition_cache
from benchlib.application.analysis import answer_panels, detail_panels, group_panels
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
from benchlib.domain.errors import InvalidInput
from benchlib.domain.vocabulary import RunStatus
from benchlib.infrastructure.loading import data_loader
from benchlib.infrastructure.storage import answer_blocks, datasets
from benchlib.settings import Settings
from tests.application.analysis.rated_panels import (
    GROUPS,
    biased,
    cells_of,
    draws,
    numbers_in,
    panels,
    rating_shares,
    rounded,
)
from tests.rated_runs import add_rated_run, people
from tests.samples import get_run

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
    cells = cells_of(service, run_id)
    expected = compute_deltas(cells, "gender")
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
    cells = cells_of(service, run_id)
    expected = compute_deltas(cells, "gender", baseline="m")
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
    """They repeat their sources: counted as well, every interval would be too short."""
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
