"""What people see who log in: pages by role, and who did what."""

import pytest

from tests.pages.conftest import PAGES, settled, texts
from tests.samples import LOGIN

WITH_RUN_BUTTONS = ("progress", "runs")
STRANGER = {"is_logged_in": False}


def person(role):
    return {
        "is_logged_in": True,
        "sub": "77",
        "email": f"{role}@example.org",
        "email_verified": True,
        "roles": role,
    }


@pytest.fixture
def house(make_house, three_runs):
    """A dashboard with users."""
    return make_house(like=three_runs, auth=LOGIN, role_claim="roles")


def pressable(at):
    return {button.key for button in at.button if not button.disabled}


@pytest.mark.parametrize("page", PAGES)
def test_nobody_sees_anything_without_a_login(house, open_page, page):
    at = open_page(page, STRANGER, run=1)
    assert [button.key for button in at.button] == ["log_in"]
    assert [title.value for title in at.title] == ["benchlib"]
    assert texts(at) == ["Log in to see this dashboard."]
    assert len(at.main.children) == 3  # title, sentence, button
    assert not at.sidebar.children


def test_somebody_without_a_role_sees_only_that(house, open_page):
    at = open_page("overview", person("guest"))
    assert "have no role" in at.error[0].value
    assert pressable(at) == {"log_out"}
    assert texts(at) == ["guest@example.org"] * 2  # in the sidebar, and below the sentence
    assert len(at.main.children) == 3


@pytest.mark.parametrize("page", PAGES)
def test_a_viewer_can_press_nothing_that_changes(house, open_page, page):
    for run_id in (1, 2, 3) if page in WITH_RUN_BUTTONS else (1,):
        at = open_page(page, person("viewer"), run=run_id)
        assert pressable(at) <= {"log_out", "start_detectable"}, page
        assert "viewer@example.org" in texts(at)
        assert not at.file_uploader


def test_a_researcher_may_all_but_delete_and_run_the_server(house, open_page):
    looks = [(page, run_id) for page in WITH_RUN_BUTTONS for run_id in (2, 3)]
    looks += [(page, 1) for page in ("start_run", "datasets", "engines", "runs")]
    keys = set()
    for page, run_id in looks:
        keys |= pressable(open_page(page, person("researcher"), run=run_id))
    assert {"start_launch", "progress_cancel", "runs_cancel", "resume_2", "engines_test"} <= keys
    assert not keys & {"runs_delete", "datasets_delete_yes", "server_start", "server_stop"}


def test_an_admin_may_delete_and_see_who_did_what(house, open_page):
    at = open_page("runs", person("admin"), run=1)
    assert "runs_delete" in pressable(at)
    at = open_page("datasets", person("admin"))
    assert "datasets_delete_yes" in pressable(at)
    at = open_page("activity", person("admin"))
    assert at.dataframe[0].value["detail"].tolist() == ["simulated-rater on six"] * 3


@pytest.mark.parametrize("role", ["viewer", "researcher"])
def test_others_do_not_see_who_did_what(house, open_page, role):
    at = open_page("activity", person(role))
    assert not at.dataframe
    assert "Activity" not in [title.value for title in at.title]


def test_what_somebody_does_bears_the_name(house, open_page):
    at = open_page("progress", person("researcher"), run=3)
    settled(at.button(key="progress_cancel").click().run())
    settled(at.button(key="resume_3").click().run())
    actions = house.service.list_activity(limit=2)
    assert [(one.user_name, one.action) for one in actions] == [
        ("researcher@example.org", "resumed"),
        ("researcher@example.org", "cancelled"),
    ]
    at = open_page("start_run", person("researcher"))
    settled(at.button(key="start_launch").click().run())
    assert "Launched by researcher@example.org" in texts(at)


def test_an_empty_record_says_so(make_house, open_page):
    make_house().fill()
    assert "No action has been recorded yet" in open_page("activity").info[0].value


def test_the_record_comes_in_pages_newest_first(make_house, open_page):
    house = make_house().fill()
    for number in range(51):
        house.datasets.set_trait_active(1 + number % 2, number % 4 < 2)
    at = open_page("activity")
    shown = at.dataframe[0].value
    assert len(shown) == 50
    assert shown["action"].tolist()[:2] == ["deactivated", "activated"]
    assert shown["user"].unique().tolist() == ["owner"]
    assert len(open_page("activity", page=2).dataframe[0].value) == 1
