"""The record of who did what: with the action or not at all."""

from datetime import timedelta

import pytest

from benchlib.domain.users import AuditRecord
from benchlib.infrastructure.storage import audit
from tests.samples import NOW


def write(store, *entries):
    with store.write() as session:
        for user, action, kind, object_id in entries:
            audit.add_entry(session, user, action, kind, object_id, "what", NOW)


def test_entries_come_back_newest_first_and_in_pages(any_store):
    write(any_store, ("ada", "launched", "run", 1), ("ben", "stopped", "server", None))
    with any_store.read() as session:
        assert audit.count_entries(session) == 2
        assert audit.list_entries(session, limit=1, offset=1) == [
            AuditRecord(NOW, "ada", "launched", "run", 1, "what")
        ]
        assert [one.user_name for one in audit.list_entries(session, limit=5, offset=0)] == [
            "ben",
            "ada",
        ]


def test_a_deed_that_is_rolled_back_leaves_no_entry(any_store):
    def delete_and_fail():
        with any_store.write() as session:
            audit.add_entry(session, "ada", "deleted", "run", 1, "", NOW)
            session.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        delete_and_fail()
    with any_store.read() as session:
        assert audit.count_entries(session) == 0


def test_who_launched_a_run_is_known_from_its_launch(any_store):
    write(
        any_store,
        ("ada", "launched", "run", 1),
        ("ben", "resumed", "run", 1),
        ("cleo", "launched", "run", 2),
        ("dora", "imported", "dataset", 3),
    )
    with any_store.read() as session:
        assert audit.launched_by(session, 1) == "ada"
        assert audit.launched_by(session, 2) == "cleo"
        assert audit.launched_by(session, 3) is None


def test_a_detail_is_short_and_a_time_keeps_its_moment(store):
    later = NOW + timedelta(milliseconds=7)
    with store.write() as session:
        audit.add_entry(session, "ada", "imported", "trait", None, "x" * 10_000, later)
    with store.read() as session:
        (entry,) = audit.list_entries(session, limit=1, offset=0)
    assert (entry.at, entry.detail) == (later, "x" * 300)
