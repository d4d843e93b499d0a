"""Overview, progress and runs: what is shown is what the store holds."""

from datetime import UTC, datetime

import pytest

from benchlib.domain.vocabulary import RunStatus
from benchlib.infrastructure.storage.models import BenchmarkRun
from tests.pages.conftest import figure, metric, settled, texts


def badges(at):
    return [found.value for found in at.markdown if found.value.startswith(":")]


def test_the_first_visit_tells_of_the_materials_and_leads_to_the_form(house, open_page):
    at = open_page("overview")
    assert "6 personas and 4 traits" in at.info[0].value
    settled(at.button(key="overview_start").click().run())
    assert at.title[0].value == "Start run"


def test_the_overview_shows_what_runs_what_ended_and_what_failed(house, open_page):
    house.finished()
    house.finished(simulated_fault_rate=0.9, max_attempts=1)
    house.queue()
    at = open_page("overview")
    assert [found.value for found in at.subheader] == [
        "Running now",
        "Latest finished run",
        "Needs attention",
    ]
    said = " ".join(badges(at))
    assert "queued" in said
    assert "partial" in said
    assert "Simulated data" in said
    assert "0 of 36 answers" in at.get("progress")[0].proto.text
    bars = figure(at, "overview_tally")["data"]
    assert sum(sum(bar["y"]) for bar in bars) == house.service.get_run(2)["n_results"]


def test_a_cancelled_run_is_not_what_finished_last(house, open_page):
    house.finished()
    cancelled = house.finished(seed=2)
    with house.store.write() as session:
        session.get(BenchmarkRun, cancelled).status = "cancelled"
    at = open_page("overview")
    assert [text for text in texts(at) if text.startswith("Run ")] == [
        "Run 1: simulated-rater on six"
    ]


def test_progress_tells_the_truth_of_a_queued_a_complete_and_a_partial_run(house, open_page):
    run_id = house.queue()
    at = open_page("progress", run=run_id)
    assert (metric(at, "Rated"), metric(at, "Missing")) == ("0", "36")
    house.execute(run_id)
    settled(at.run())
    assert (metric(at, "Rated"), metric(at, "Missing"), metric(at, "Failed")) == ("36", "0", "0")
    assert "Every planned question has a rating" in at.success[0].value
    bars = figure(at, "progress_tally")["data"]
    assert sum(sum(bar["y"]) for bar in bars) == 36
    assert len(at.dataframe[0].value) == 8  # last answers

    at = open_page("progress", run=house.finished(simulated_fault_rate=0.9, max_attempts=1))
    run = house.service.get_run(2)
    assert run["status"] == RunStatus.PARTIAL
    assert metric(at, "Failed") == str(run["failed"])
    failures = next(found.value for found in at.dataframe if "Reason" in found.value)
    assert failures.to_dict("records") == [
        {"Reason": "answer without a valid rating", "Attempts": run["failed"]}
    ]


def test_cancel_and_resume_work_at_once(house, open_page):
    run_id = house.queue()
    at = open_page("progress", run=run_id)
    settled(at.button(key="progress_cancel").click().run())
    assert house.service.get_run(run_id)["status"] == RunStatus.CANCELLED
    assert "cancelled" in " ".join(badges(at))
    settled(at.button(key=f"resume_{run_id}").click().run())
    assert house.service.get_run(run_id)["status"] == RunStatus.QUEUED
    house.execute(run_id)
    settled(at.run())
    assert metric(at, "Rated") == "36"
    assert not [button for button in at.button if button.key in ("progress_cancel", "resume_1")]


def test_a_run_of_a_server_may_be_resumed_at_another_address_with_a_key(house, open_page):
    run_id = house.queue(llm="vllm", model_name="m", vllm_base_url="http://127.0.0.1:9")
    house.service.runs.cancel_benchmark(run_id)
    at = open_page("progress", run=run_id)
    at.text_input(key=f"resume_address_{run_id}").set_value("http://127.0.0.1:10")
    at.text_input(key=f"resume_key_{run_id}").set_value("sk-secret")
    settled(at.button(key=f"resume_{run_id}").click().run())
    run = house.service.get_run(run_id)
    assert run["status"] == RunStatus.QUEUED
    assert run["config"]["vllm_base_url"] == "http://127.0.0.1:10"
    assert "sk-secret" not in str(run)


@pytest.mark.parametrize("page", ["progress", "metrics", "answers", "runs"])
def test_the_run_in_the_address_is_shown_and_kept_by_other_pages(house, open_page, page):
    house.finished()
    house.finished(seed=1)
    at = open_page(page, run=1)
    assert at.selectbox(key="run_picker").value == 1
    at.switch_page("metrics.py")
    at.query_params.clear()
    settled(at.run())
    assert at.selectbox(key="run_picker").value == 1
    assert at.query_params["run"] == "1"
    at.selectbox(key="run_picker").select(2)
    settled(at.run())
    assert at.query_params["run"] == "2"
    assert "Run 2:" in texts(at)[0]


@pytest.mark.parametrize("page", ["progress", "metrics", "answers", "runs"])
@pytest.mark.parametrize("asked", ["99", "-1", "x", "<b>", "²", "9" * 30])
def test_an_address_of_no_run_says_so_and_shows_another(
    make_house, one_run, open_page, page, asked
):
    make_house(like=one_run)
    at = open_page(page, run=asked)
    assert "does not exist" in at.warning[0].value
    assert at.selectbox(key="run_picker").value == 1


@pytest.mark.parametrize("page", ["progress", "metrics", "answers", "runs"])
def test_without_a_run_every_page_leads_to_the_form(house, open_page, page):
    at = open_page(page)
    assert "no run yet" in at.info[0].value
    assert [link.label for link in at.get("page_link")] == ["Start a run"]


def test_runs_are_searched_filtered_and_sorted(house, open_page):
    house.finished()
    house.finished(simulated_fault_rate=0.9, max_attempts=1)
    house.queue()
    house.service.runs.annotate_run(1, note="the pilot", tags=["paper"])
    at = open_page("runs")
    assert at.dataframe[0].value["id"].tolist() == [3, 2, 1]
    assert at.dataframe[0].value["status"].tolist() == ["queued", "partial", "done"]
    assert at.dataframe[0].value["answers"].tolist()[2] == 36
    at.text_input(key="q").set_value("pilot PAPER")
    settled(at.run())
    assert at.dataframe[0].value["id"].tolist() == [1]
    at.text_input(key="q").set_value("")
    at.multiselect(key="status").set_value(["queued", "done"])
    at.selectbox(key="sort").select("Oldest")
    settled(at.run())
    assert at.dataframe[0].value["id"].tolist() == [1, 3]


def test_an_address_restores_search_filter_and_sort(house, open_page):
    house.finished()
    house.queue()
    at = open_page("runs", q="rater", status=["queued", "done"], sort="Oldest")
    assert at.dataframe[0].value["id"].tolist() == [1, 2]
    at = open_page("runs", status="done")
    assert at.dataframe[0].value["id"].tolist() == [1]


def test_tags_and_notes_are_saved(house, open_page):
    run_id = house.finished()
    at = open_page("runs", run=run_id)
    assert at.button(key="runs_save").disabled
    at.text_area(key=f"runs_note_{run_id}").set_value("Looks <b>odd</b>.")
    at.multiselect(key=f"runs_tags_{run_id}").set_value(["pilot"])
    settled(at.run())
    settled(at.button(key="runs_save").click().run())
    run = house.service.get_run(run_id)
    assert (run["note"], run["tags"]) == ("Looks <b>odd</b>.", ["pilot"])


def test_deleting_asks_first(house, open_page):
    house.finished()
    run_id = house.finished(seed=1)
    at = open_page("runs", run=run_id)
    settled(at.button(key="runs_delete").click().run())
    assert at.button(key="runs_delete_yes")
    assert at.button(key="runs_delete_no")
    assert len(house.service.list_runs()) == 2


def test_configuration_and_manifest_can_be_read(house, open_page):
    at = open_page("runs", run=house.finished(seed=5))
    config, manifest = (found.value for found in at.json)
    assert '"seed": 5' in config or '"seed":5' in config
    assert "prompt" in manifest


def test_reading_only_hides_every_write(house, make_house, open_page):
    house.finished()
    house.queue()
    make_house(read_only=True)
    for page, run in (("progress", 2), ("runs", 1), ("runs", 2), ("overview", 1), ("engines", 1)):
        at = open_page(page, run=run)
        pressable = {button.key for button in at.button if not button.disabled}
        assert pressable <= {"engines_test"}, page
        assert "Read-only" in at.info[0].value


def test_times_that_differ_in_their_fractions_of_a_second_are_shown(house, open_page):
    run_ids = [house.queue(seed=seed) for seed in (1, 2)]
    whole = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    with house.store.write() as session:
        session.get(BenchmarkRun, run_ids[0]).created_at = whole
    shown = open_page("runs").dataframe[0].value
    assert shown.set_index("id")["created"][run_ids[0]] == whole
    assert len(shown) == 2
