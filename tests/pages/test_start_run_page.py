"""The form: filled in, checked, counted, launched; nothing typed is lost, no key is stored."""

import json

import pytest

from benchlib.domain.vocabulary import RunStatus
from tests.fake_vllm import fake_vllm_process
from tests.pages.conftest import metric, settled


@pytest.fixture(scope="module")
def server():
    with fake_vllm_process() as address:
        yield address


@pytest.fixture(scope="module")
def locked_server():
    with fake_vllm_process("--api-key", "sk-secret", "--model", "a *model*") as address:
        yield address


def test_launch_works_at_once_and_leads_to_the_progress(house, open_page):
    at = open_page("start_run")
    assert at.segmented_control(key="start_engine").value == "simulated"
    assert metric(at, "Prompts") == "29"  # 6 personas x 4 traits, 20 % of 24 pairs twice
    settled(at.button(key="start_launch").click().run())
    (run,) = house.service.list_runs()
    assert run["status"] == RunStatus.QUEUED
    assert run["simulated"]
    assert at.title[0].value == "Progress"
    assert at.query_params["run"] == str(run["id"])


def test_choices_arrive_in_the_run(house, open_page):
    at = open_page("start_run")
    at.multiselect(key="start_categories").set_value(["warmth"])
    at.selectbox(key="start_mode").select("rationale")
    at.selectbox(key="start_language").select("de")
    at.selectbox(key="start_scale").select("rev")
    at.slider(key="start_dual").set_value(0.5)
    at.number_input(key="start_seed").set_value(7)
    at.number_input(key="start_speed").set_value(12.5)
    at.slider(key="start_faults").set_value(0.1)
    at.selectbox(key="start_preset").select("order")
    at.text_area(key="start_system").set_value("Be brief.")
    settled(at.run())
    assert metric(at, "Prompts") == "18"  # 6 x 2, half of 12 pairs twice
    assert metric(at, "Estimated time") == "1 s"  # 18 / 12.5
    settled(at.button(key="start_launch").click().run())
    config = house.service.get_run(1)["config"]
    assert config["answer_mode"] == "rationale"
    assert config["language"] == "de"
    assert config["scale_mode"] == "rev"
    assert config["dual_fraction"] == 0.5
    assert config["seed"] == 7
    assert config["simulated_items_per_second"] == 12.5
    assert config["simulated_fault_rate"] == 0.1
    assert config["simulated_preset"] == "order"
    assert config["system_prompt"] == "Be brief."
    asked = {trait.id: trait.category for trait in house.datasets.list_traits()}
    assert {asked[trait_id] for trait_id in config["trait_ids"]} == {"warmth"}


def test_the_preview_is_what_is_sent(house, open_page):
    at = open_page("start_run")
    command = {"dataset_id": 1, "llm": "simulated", "dual_fraction": 0.2}
    run = house.service.get_run(house.queue(**command))
    assert run["config"]["scale_mode"] == "random50"
    shown = [code.value for code in at.code]
    assert any("1 = not at all trait0" in text for text in shown)
    assert any("1 = very trait0" in text for text in shown)
    assert all(code.language in ("", "plaintext") for code in at.code)


def test_the_time_is_unknown_until_a_run_was_finished(house, open_page):
    at = open_page("start_run")
    assert metric(at, "Estimated time") == "–"
    assert any("unknown until the first answers" in found.value for found in at.caption)


def test_leaving_out_every_trait_says_so_beside_the_form_and_keeps_what_was_typed(house, open_page):
    at = open_page("start_run")
    at.number_input(key="start_seed").set_value(99)
    at.multiselect(key="start_categories").set_value([])
    settled(at.run())
    assert at.error[0].value == "Choose at least one trait."
    assert "Complete the form" in at.info[0].value
    assert not [button for button in at.button if button.key == "start_launch"]
    assert at.number_input(key="start_seed").value == 99
    at.multiselect(key="start_categories").set_value(["warmth"])
    settled(at.run())
    assert not at.error
    assert at.number_input(key="start_seed").value == 99


def test_a_server_needs_a_model_name(house, open_page):
    at = open_page("start_run")
    at.segmented_control(key="start_engine").set_value("vllm")
    settled(at.run())
    assert "Name the model" in at.error[0].value
    assert "Complete the form" in at.info[0].value


def test_a_wrong_address_is_refused_by_the_label_of_its_field(make_house, open_page, server):
    house = make_house(address=server).fill()
    at = open_page("start_run")
    at.text_input(key="start_address").set_value("http://me:secret@host")
    settled(at.run())
    assert at.error[0].value.startswith(r"Address\: leave user names and keys out")
    assert at.text_input(key="start_address").value == "http://me:secret@host"
    assert not house.service.list_runs()


def test_the_form_tells_what_the_run_can_find(house, open_page):
    at = open_page("start_run")
    at.session_state["start_detectable"] = True
    settled(at.run())
    table = at.dataframe[0].value
    assert table["attribute"].tolist() == ["gender", "origin"]
    assert (table["mde"] > 0).all()


def test_a_connection_test_says_what_is_wrong(house, open_page):
    at = open_page("start_run")
    at.segmented_control(key="start_engine").set_value("vllm")
    settled(at.run())
    at.text_input(key="start_address").set_value("http://127.0.0.1:9")
    settled(at.button(key="start_test").click().run())
    assert "http://127.0.0.1:9" in [found.value for found in at.text]
    assert any("not usable" in found.value for found in at.markdown)


def test_a_key_is_neither_stored_nor_in_the_address(house, open_page, locked_server):
    at = open_page("start_run")
    at.segmented_control(key="start_engine").set_value("vllm")
    settled(at.run())
    field = at.text_input(key="start_api_key")
    assert field.proto.type == field.proto.PASSWORD
    field.set_value("sk-secret")
    at.text_input(key="start_address").set_value(locked_server)
    settled(at.button(key="start_test").click().run())
    assert "Models: a *model*" in [found.value for found in at.text]
    assert at.selectbox(key="start_model").value == "a *model*"
    settled(at.button(key="start_launch").click().run())
    assert at.title[0].value == "Progress"
    run = house.service.get_run(1)
    assert (run["model_name"], run["config"]["vllm_base_url"]) == ("a *model*", locked_server)
    assert "sk-secret" not in json.dumps(run)
    assert "sk-secret" not in str(dict(at.query_params))
    assert "sk-secret" not in str(at.session_state.to_dict())


def test_the_form_opens_with_the_server_that_answers(make_house, open_page, server):
    house = make_house(address=server).fill()
    at = open_page("start_run")
    assert at.segmented_control(key="start_engine").value == "vllm"
    assert at.selectbox(key="start_model").value == "fake-model"
    settled(at.button(key="start_launch").click().run())
    house.execute(1)
    run = house.service.get_run(1)
    assert (run["status"], run["n_results"]) == (RunStatus.DONE, run["total"])
    assert metric(open_page("progress", run=1), "Rated") == str(run["total"])


def test_every_field_explains_itself(house, open_page):
    at = open_page("start_run")
    for engine in ("simulated", "managed", "vllm"):
        at.segmented_control(key="start_engine").set_value(engine)
        settled(at.run())
        fields = [
            *at.selectbox,
            *at.multiselect,
            *at.number_input,
            *at.slider,
            *at.text_input,
            *at.text_area,
            *at.segmented_control,
        ]
        assert len(fields) > 10
        for field in fields:
            assert field.help, field.key
            assert field.key


def test_reading_only_hides_the_launch(make_house, open_page):
    make_house(read_only=True).fill()
    at = open_page("start_run")
    assert at.button(key="start_launch").disabled
    assert "Read-only" in at.info[0].value


def test_without_materials_the_page_says_where_to_get_them(make_house, open_page):
    make_house()
    at = open_page("start_run")
    assert "needs a dataset" in at.info[0].value
