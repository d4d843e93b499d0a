"""Who may do what: three roles, and how a login gets one."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Final

EVERYBODY: Final = "*"
"""In the list of viewers: whoever the provider lets log in."""


class Role(IntEnum):
    """Each role may do all that the ones before it may."""

    VIEWER = 1
    RESEARCHER = 2
    ADMIN = 3

    @property
    def label(self) -> str:
        """The role as people read it."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who acts.

    Attributes:
        name: What the record of activity shows.
        role: None for somebody who may not even look.
    """

    name: str
    role: Role | None


OWNER: Final = User("owner", Role.ADMIN)
"""The one private user of a dashboard without users."""

DASHBOARD: Final = User("dashboard", Role.ADMIN)
"""What the program does by itself."""

API_TOKEN: Final = User("api token", Role.ADMIN)
"""Whoever holds the token of the API."""

NOBODY: Final = User("nobody", None)
"""Somebody who is not logged in."""


@dataclass(frozen=True, slots=True)
class RoleRules:
    """How a login gets its role: the highest of what the claim and the lists give.

    Attributes:
        claim: The claim of the token that names roles; None if none is asked.
        members: Role -> e-mail addresses in lower case.
    """

    claim: str | None
    members: Mapping[Role, frozenset[str]]


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """Who did what, when.

    Attributes:
        kind: What it was done to: run, dataset, trait or server.
        object_id: Its number; None where it has none.
        detail: A few words that still tell what it was when it is gone.
    """

    at: datetime
    user_name: str
    action: str
    kind: str
    object_id: int | None
    detail: str


def identify(claims: Mapping[str, object], rules: RoleRules) -> User:
    """The user that a provider's token tells of.

    An e-mail address counts, as a name and for the lists, only where the provider has verified it:
    others are whatever somebody typed.

    Returns:
        A user without a role where neither claim nor lists give one.
    """
    email = claims.get("email")
    known = isinstance(email, str) and email != "" and claims.get("email_verified") is True
    address = str(email).lower() if known else None
    roles = [
        role
        for role, members in rules.members.items()
        if EVERYBODY in members or (address is not None and address in members)
    ]
    if rules.claim is not None:
        said = claims.get(rules.claim)
        names = said if isinstance(said, list) else [said]
        roles += [role for role in Role if role.label in names]
    return User(address or f"sub:{claims.get('sub', '')}", max(roles, default=None))
