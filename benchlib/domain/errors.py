"""What can go wrong, one class per fact; each message states the fact and the next step."""

from collections.abc import Sequence

from benchlib.domain.vocabulary import FailureKind


class BenchlibError(Exception):
    """Base of every error callers may catch; its text is shown to the user as it is."""


class InvalidInput(BenchlibError):
    """Something a person or program handed in breaks a rule; the text says which and how."""


class NotFound(BenchlibError):
    """There is no such run, dataset or trait."""

    def __init__(self, what: str, identifier: object) -> None:
        super().__init__(f"There is no {what} {identifier}; pick one from the list.")


class WrongState(BenchlibError):
    """The thing exists, but what was asked does not fit its state."""


class ReadOnly(BenchlibError):
    """A write was asked of a dashboard that only shows."""

    def __init__(self) -> None:
        super().__init__("This dashboard is read-only; unset BENCHLIB_READ_ONLY to change things.")


class NotAllowed(BenchlibError):
    """The user's role does not reach for what was asked; the text names the one that does."""


class StoreError(BenchlibError):
    """The store cannot be opened or written; the text says why and what to do."""


class InvalidSetting(BenchlibError):
    """A setting from the environment or the secrets file is wrong."""


class EngineNotReachable(BenchlibError):
    """No address that was tried can serve the run; the text lists each and why."""


class EngineChanged(BenchlibError):
    """The server now serves something else than what the run began with."""


class RatingOutOfScale(BenchlibError):
    """Ratings lie outside the scale; something upstream is broken."""

    def __init__(self, strays: Sequence[float], n_points: int) -> None:
        super().__init__(f"Ratings {list(strays)} lie outside the 1..{n_points} scale; check them.")
        self.strays = list(strays)


class EngineFault(BenchlibError):
    """A fault of the transport: no item of the request is to blame, ask again later.

    Attributes:
        kind: One of the transport kinds of FailureKind.
        retry_after_seconds: What the server asked for, if it did.
    """

    def __init__(
        self, kind: FailureKind, message: str, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after_seconds = retry_after_seconds
