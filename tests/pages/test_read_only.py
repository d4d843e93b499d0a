"""A dashboard that only shows: every page works, and nothing on it writes."""

import pytest

from tests.pages.conftest import PAGES, settled


def content(house, folder):
    """All that the store and its folder hold."""
    with house.store.read() as session:
        rows = list(session.connection().connection.driver_connection.iterdump())
    return rows, sorted(path for path in folder.rglob("*") if "store.db" not in path.name)


def test_pages_are_found():
    assert {"overview", "start_run", "runs", "forest", "activity"} <= set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_every_page_shows_a_finished_run_and_no_button_writes(
    make_house, three_runs, open_page, tmp_path, page
):
    showing = make_house(like=three_runs, read_only=True)
    before = content(showing, tmp_path)
    for run_id in (1, 2, 3) if page in ("progress", "runs") else (1,):
        at = open_page(page, run=run_id)
        assert "Read-only" in at.info[0].value
        assert at.title
        assert not at.error
        for key in [button.key for button in at.button if not button.disabled]:
            settled(at.button(key=key).click().run())
            assert not at.error, key
            at = open_page(page, run=run_id)
    assert content(showing, tmp_path) == before
