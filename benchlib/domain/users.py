"""Who may do what: three roles, and how a login gets one."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Final

EVERYBODY: Final = "*"
"""In the list of viewers: anyone whom the provider lets log in."""


class Role(IntEnum):
    """Each role may do everything that the ones before it may."""

    VIEWER = 1
    RESEARCHER = 2
    ADMIN = 3

    @property
    def label(self) -> str:
        """The role, for people to read."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class User:
    """Someone who uses the dashboard.

    Attributes:
        name: As the activity log shows it.
        role: None = may not even look.
    """

    name: str
    role: Role | None


OWNER: Final = User("owner", Role.ADMIN)
"""The private user of a dashboard without login."""

DASHBOARD: Final = User("dashboard", Role.ADMIN)
"""The program itself."""

API_TOKEN: Final = User("api token", Role.ADMIN)
"""Anyone who has the API token."""

NOBODY: Final = User("nobody", None)
"""Someone who is not logged in."""


@dataclass(frozen=True, slots=True)
class RoleRules:
    """How a login gets its role: the highest that the claim and the lists give.

    Attributes:
        claim: The claim of the token that names roles; None = no claim does.
        members: Role -> e-mail addresses in lower case.
    """

    claim: str | None
    members: Mapping[Role, frozenset[str]]


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """Who did what, when.

    Attributes:
        kind: Kind of the object: run, dataset, trait or server.
        object_id: Its id, if it has one.
        detail: A few words that still identify the object after it is deleted.
    """

    at: datetime
    user_name: str
    action: str
    kind: str
    object_id: int | None
    detail: str


def identify(claims: Mapping[str, object], rules: RoleRules) -> User:
    """The user behind the claims of a provider's token.

    An e-mail address counts, as a name and for the lists, only if the provider has verified it:
    anyone can type any other.

    Returns:
        A user without a role if neither the claim nor the lists give one.
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
        claimed = claims.get(rules.claim)
        names = claimed if isinstance(claimed, list) else [claimed]
        roles += [role for role in Role if role.label in names]
    return User(address or f"sub:{claims.get('sub', '')}", max(roles, default=None))
