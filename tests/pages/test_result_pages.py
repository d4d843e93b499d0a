"""Metrics and answers: numbers of the service, filters in the address, text shown literally."""

import pytest

from benchlib.application.analysis import answer_panels
from benchlib.domain.records import AnswerFilter
from benchlib.presentation.exports.formats import FORMATS, TABLE_FORMATS
from tests.pages.conftest import figure, metric, settled, texts


def test_metrics_show_the_numbers_of_the_service(house, open_page):
    run_id = house.finished()
    metrics = house.service.get_metrics(run_id)
    at = open_page("metrics", run=run_id)
    assert metric(at, "Answers") == str(metrics["n"]) == "36"
    assert metric(at, "Personas") == "6"
    assert metric(at, "Missing") == "0"
    (bars,) = figure(at, "metrics_histogram")["data"]
    assert bars["customdata"] == metrics["hist"]["counts"]
    rows = figure(at, "metrics_categories")["data"][0]["y"]
    assert rows == ["competence", "warmth"]
    assert at.dataframe[0].value["count"].tolist() == [
        row["count"] for row in metrics["trait_categories"]["summary"]
    ]


def test_every_figure_and_table_of_metrics_can_be_taken_along(house, open_page):
    at = open_page("metrics", run=house.finished())
    assert not at.get("download_button"), "made when a list is opened"
    for key in ("metrics_histogram", "metrics_categories", "metrics_means_figure"):
        at.session_state[f"{key}_download"] = True
    at.session_state["metrics_summary_download"] = True
    settled(at.run())
    offered = [button.proto.id for button in at.get("download_button")]
    for key in ("metrics_histogram", "metrics_categories", "metrics_means_figure"):
        for kind in FORMATS:
            assert sum(found.endswith(f"-{key}_{kind}") for found in offered) == 1, (key, kind)
    for kind in TABLE_FORMATS:
        assert sum(found.endswith(f"-metrics_summary_{kind}") for found in offered) == 1, kind


def test_means_follow_attribute_and_trait_category_in_the_address(house, open_page):
    run_id = house.finished()
    at = open_page("metrics", run=run_id, attribute="origin", trait_category="warmth")
    rows = house.service.get_means(run_id, "origin", trait_category="warmth")["rows"]
    (dots,) = figure(at, "metrics_means_figure")["data"]
    assert dots["x"] == pytest.approx([row["mean"] for row in rows])
    assert at.dataframe[1].value["category"].tolist() == [row["category"] for row in rows]
    assert any("6 personas" in found.value for found in at.caption)
    at.selectbox(key="attribute").select("gender")
    settled(at.run())
    assert {
        label.split(" ")[0] for label in figure(at, "metrics_means_figure")["data"][0]["y"]
    } == {
        "female",
        "male",
    }


def test_a_run_without_answers_says_that_there_is_nothing_to_measure(house, open_page):
    at = open_page("metrics", run=house.queue())
    assert "no answers yet" in at.info[0].value
    assert metric(at, "Missing") == "36"


@pytest.mark.parametrize("page", ["metrics", "answers"])
def test_results_come_with_the_data_quality_of_their_run(house, open_page, page):
    run_id = house.finished()
    health = house.service.analysis.get_panel(answer_panels.data_quality, run_id)
    at = open_page(page, run=run_id)
    said = " ".join(found.value for found in at.markdown)
    assert all(item["label"] in said for item in health["items"])
    waiting = open_page(page, run=house.queue())
    assert not any(
        item["label"] in found.value for item in health["items"] for found in waiting.markdown
    )


def test_an_incomplete_run_is_marked(house, open_page):
    run_id = house.finished(simulated_fault_rate=0.5, max_attempts=1)
    for page in ("metrics", "answers"):
        at = open_page(page, run=run_id)
        said = " ".join(found.value for found in at.markdown)
        assert "Preliminary" in said
        assert "Simulated data" in said


def test_answers_are_filtered_by_the_address(house, open_page):
    run_id = house.finished()
    at = open_page("answers", run=run_id)
    assert len(at.dataframe[0].value) == 36
    first = house.service.runs.list_answers(run_id, AnswerFilter())[0]
    at = open_page("answers", run=run_id, trait=first.case_id, digit=first.rating_raw)
    where = AnswerFilter(case_ids=(first.case_id,), rating_raw=first.rating_raw)
    assert len(at.dataframe[0].value) == len(house.service.runs.list_answers(run_id, where))
    at = open_page("answers", run=run_id, personas="gender = female", order="rev")
    shown = at.dataframe[0].value
    assert set(shown["scale"]) == {"1 = very … 5 = not at all"}
    assert set(shown["persona"]) <= {"persona-0", "persona-2", "persona-4"}


def test_one_answer_is_shown_in_full_by_its_address(house, open_page):
    run_id = house.finished()
    answer = house.service.runs.list_answers(run_id, AnswerFilter())[5]
    question = house.service.runs.get_prompt(run_id, answer)
    at = open_page(
        "answers",
        run=run_id,
        trait=answer.case_id,
        order=answer.scale_order,
        persona=answer.persona_uuid,
    )
    assert metric(at, "Digit") == str(answer.rating_raw)
    assert [code.value for code in at.code] == [
        answer.raw_answer,
        question.system,
        question.user,
        f"answers?run={run_id}&trait={answer.case_id}&order={answer.scale_order}"
        f"&persona={answer.persona_uuid}",
    ]
    (bars,) = figure(at, "answer_distribution")["data"]
    assert bars["y"] == pytest.approx(answer.probabilities)


def test_a_filter_that_fits_nothing_says_so(house, open_page):
    at = open_page("answers", run=house.finished(), persona="nobody")
    assert "No answer matches" in at.info[0].value


def test_pages_of_answers_come_from_the_server(make_house, open_page):
    house = make_house().fill(n_personas=10, n_traits=8)
    run_id = house.finished()  # 10 x 8 pairs, half twice = 120 answers
    at = open_page("answers", run=run_id)
    first = at.dataframe[0].value
    assert len(first) == 50
    at.get("pagination")[0].select(3)
    settled(at.run())
    last = at.dataframe[0].value
    assert len(last) == 20
    stored = house.service.runs.list_answers(run_id, AnswerFilter(), limit=20, offset=100)
    assert last["persona"].tolist() == [answer.persona_uuid for answer in stored]
    at.selectbox(key="order").select("rev")
    settled(at.run())
    assert len(at.dataframe[0].value) == 50  # a new filter begins at its first page


def test_failures_and_missing_have_their_tabs(house, open_page):
    run_id = house.finished(simulated_fault_rate=0.5, max_attempts=1)
    run = house.service.get_run(run_id)
    at = open_page("answers", run=run_id, tab="Failures")
    assert len(at.dataframe[1].value) == run["failed"]
    assert at.dataframe[1].value["final"].all()
    at = open_page("answers", run=run_id, tab="Missing")
    assert f"{run['failed']} of 36 planned questions have no rating" in " ".join(texts(at))
    assert len(at.dataframe[0].value) == run["failed"]


def test_failures_and_missing_are_filtered_and_paged(make_house, open_page):
    house = make_house().fill(n_personas=10, n_traits=8)
    run_id = house.finished(simulated_fault_rate=0.9, max_attempts=1)
    n_lost = house.service.get_run(run_id)["failed"]
    assert n_lost > 50
    for tab, table, pager in (("Failures", 1, "failures_page"), ("Missing", 0, "missing_page")):
        at = open_page("answers", run=run_id, tab=tab, **{pager: 2})
        assert len(at.dataframe[table].value) == min(50, n_lost - 50)
        at.selectbox(key="order").select("rev")
        settled(at.run())
        where = AnswerFilter(scale_order="rev")
        if tab == "Failures":
            rows = house.service.runs.list_failures(run_id, where, limit=50)
            stored = [row.persona_uuid for row in rows]
            column = "persona"
        else:
            rows = house.service.runs.get_missing(run_id, where, limit=50)["samples"]
            stored = [row["persona_uuid"] for row in rows]
            column = "persona_uuid"
        assert at.dataframe[table].value[column].tolist() == stored
    at = open_page("answers", run=run_id, tab="Failures", reason="unusable")
    assert len(at.dataframe[1].value) == 50
    at = open_page("answers", run=run_id, tab="Missing", persona="nobody")
    assert "No missing question matches" in at.info[0].value


def test_a_complete_run_misses_nothing(house, open_page):
    run_id = house.finished()
    assert (
        "Every planned question" in open_page("answers", run=run_id, tab="Missing").success[0].value
    )
    assert "No attempt failed." in texts(open_page("answers", run=run_id, tab="Failures"))
