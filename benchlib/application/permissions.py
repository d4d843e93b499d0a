"""Services act for somebody: what each method needs stands at the method, and is held there."""

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

_Service = TypeVar("_Service", bound="Acting")
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Need:
    """What a method needs.

    Attributes:
        role: The lowest role that may call it.
        what: The deed in words, after "may".
        writes: Whether a read-only dashboard refuses it.
    """

    role: Role
    what: str
    writes: bool


def needs(
    role: Role, what: str, *, writes: bool = True
) -> Callable[
    [Callable[Concatenate[_Service, _Arguments], _Result]],
    Callable[Concatenate[_Service, _Arguments], _Result],
]:
    """Refuse the method to users below a role and, if it writes, where everything is read-only.

    The method then raises NotAllowed or ReadOnly before it does anything.
    """
    need = Need(role, what, writes)

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


class Acting:
    """A service that acts for one user.

    Args:
        user: For whom it acts.
        read_only: Whether every write is refused, whoever asks.
    """

    def __init__(self, user: User, read_only: bool) -> None:
        self._user = user
        self.read_only = read_only

    def acting_as(self, user: User) -> Self:
        """The same service for another user; both share all they hold.

        Raises:
            NotAllowed: The user has no role, and so may not even look.
        """
        if user.role is None:
            raise NotAllowed(
                f"{user.name} has no role on this dashboard; ask one of its admins for one."
            )
        other = copy(self)
        other._user = user
        return other

    def may(self, method: str) -> bool:
        """Whether the user may call the method of this name; others need nothing."""
        need: Need = getattr(type(self), method).need
        return self._has(need.role) and not (need.writes and self.read_only)

    def check(self, need: Need) -> None:
        """Refuse what the user may not do.

        Raises:
            ReadOnly: It writes, and nothing may be written here.
            NotAllowed: The role does not reach.
        """
        if need.writes and self.read_only:
            raise ReadOnly
        if not self._has(need.role):
            who = " and ".join(f"{role.label}s" for role in Role if role >= need.role)
            has = self._user.role
            step = "log in first" if has is None else f"your role is {has.label}, so ask one"
            raise NotAllowed(f"Only {who} may {need.what}; {step}.")

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
