"""Services act for a user: each method states the role it needs, and enforces it."""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from typing import Concatenate, ParamSpec, Self, TypeVar

from sqlmodel import Session

from benchlib.domain.errors import NotAllowed, ReadOnly
from benchlib.domain.users import Role, User
from benchlib.infrastructure.storage import audit

_Service = TypeVar("_Service", bound="ActingService")
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Need:
    """What a method demands of its caller.

    Attributes:
        role: The lowest role that may call it.
        action: What it does in words, after "may".
        writes: Whether a read-only dashboard refuses it.
    """

    role: Role
    action: str
    writes: bool


def needs(
    role: Role, action: str, *, writes: bool = True
) -> Callable[
    [Callable[Concatenate[_Service, _Arguments], _Result]],
    Callable[Concatenate[_Service, _Arguments], _Result],
]:
    """Refuse the method to users below a role and, if it writes, where everything is read-only.

    The method then raises NotAllowed or ReadOnly before it does anything.
    """
    need = Need(role, action, writes)

    def guard(
        method: Callable[Concatenate[_Service, _Arguments], _Result],
    ) -> Callable[Concatenate[_Service, _Arguments], _Result]:
        @wraps(method)
        def guarded(
            self: _Service, /, *args: _Arguments.args, **named: _Arguments.kwargs
        ) -> _Result:
            self.check(need)
            return method(self, *args, **named)

        vars(guarded)["need"] = need
        return guarded

    return guard


class ActingService:
    """A service that acts for one user.

    Args:
        user: The user it acts for.
        read_only: Whether every write is refused, for every user.
    """

    def __init__(self, user: User, read_only: bool) -> None:
        self._user = user
        self.read_only = read_only

    def acting_as(self, user: User) -> Self:
        """The same service for another user; both share everything they hold.

        Raises:
            NotAllowed: The user has no role, and so may not even read.
        """
        if user.role is None:
            raise NotAllowed(
                f"{user.name} has no role on this dashboard; ask one of its admins for one."
            )
        other = copy(self)
        other._user = user
        return other

    def may(self, method: Callable[..., object]) -> bool:
        """Whether the user may call this method of a service."""
        need: Need | None = getattr(method, "need", None)
        return need is None or (self._has(need.role) and not (need.writes and self.read_only))

    def check(self, need: Need) -> None:
        """Refuse what the user may not do.

        Raises:
            ReadOnly: It writes, and this dashboard is read-only.
            NotAllowed: The user's role is too low.
        """
        if need.writes and self.read_only:
            raise ReadOnly
        if not self._has(need.role):
            who = " and ".join(f"{role.label}s" for role in Role if role >= need.role)
            has = self._user.role
            step = "log in first" if has is None else f"your role is {has.label}, so ask one"
            raise NotAllowed(f"Only {who} may {need.action}; {step}.")

    def _has(self, role: Role) -> bool:
        return self._user.role is not None and self._user.role >= role

    def _record(
        self,
        session: Session,
        action: str,
        kind: str,
        object_id: int | None,
        detail: str,
        now: datetime,
    ) -> None:
        audit.add_entry(session, self._user.name, action, kind, object_id, detail, now)
