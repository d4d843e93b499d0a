"""Which role a login gets."""

import pytest

from benchlib.domain.users import EVERYBODY, Role, RoleRules, identify

LISTS = RoleRules(
    None,
    {
        Role.ADMIN: frozenset({"ada@example.org"}),
        Role.RESEARCHER: frozenset({"rosa@example.org", "ada@example.org"}),
        Role.VIEWER: frozenset({"vera@example.org"}),
    },
)
CLAIM = RoleRules("roles", {})


def verified(address, **claims):
    return {"sub": "1", "email": address, "email_verified": True, **claims}


@pytest.mark.parametrize(
    ("claims", "role"),
    [
        (verified("ada@example.org"), Role.ADMIN),  # the highest of two lists
        (verified("Rosa@Example.ORG"), Role.RESEARCHER),
        (verified("vera@example.org"), Role.VIEWER),
        (verified("eve@example.org"), None),
        (verified(""), None),
        (verified(["ada@example.org"]), None),
        ({"sub": "1", "email": "ada@example.org"}, None),
        ({"sub": "1", "email": "ada@example.org", "email_verified": False}, None),
        ({"sub": "1", "email": "ada@example.org", "email_verified": "true"}, None),
        ({"sub": "ada@example.org", "preferred_username": "ada@example.org"}, None),
        ({}, None),
    ],
)
def test_lists_count_addresses_that_the_provider_verified(claims, role):
    assert identify(claims, LISTS).role is role


@pytest.mark.parametrize(
    ("said", "role"),
    [
        ("viewer", Role.VIEWER),
        (["viewer", "admin", "staff"], Role.ADMIN),
        (["researcher"], Role.RESEARCHER),
        ("Admin", None),  # roles are written as they are
        ("administrator", None),
        ([], None),
        ([["admin"]], None),
        ({"admin": True}, None),
        (3, None),
        (True, None),
        (None, None),
    ],
)
def test_a_claim_names_roles(said, role):
    assert identify({"sub": "1", "roles": said}, CLAIM).role is role


def test_a_claim_that_is_not_set_gives_nothing():
    assert identify({"sub": "1", "roles": "admin"}, LISTS).role is None
    assert identify({"sub": "1", "groups": "admin"}, CLAIM).role is None


def test_the_highest_of_claim_and_lists_counts():
    rules = RoleRules("roles", LISTS.members)
    assert identify(verified("vera@example.org", roles="researcher"), rules).role is Role.RESEARCHER
    assert identify(verified("ada@example.org", roles="viewer"), rules).role is Role.ADMIN


def test_everybody_may_look_where_that_is_set():
    rules = RoleRules(None, {Role.VIEWER: frozenset({EVERYBODY})})
    assert identify({"sub": "1"}, rules).role is Role.VIEWER


def test_only_a_verified_address_is_a_name():
    assert identify(verified("Ada@example.org"), LISTS).name == "ada@example.org"
    unverified = {"sub": "77", "email": "ada@example.org", "name": "Ada"}
    assert identify(unverified, LISTS).name == "sub:77"
