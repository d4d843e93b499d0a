"""What can go wrong, one class per fact; each message states the fact and the next step."""

from collections.abc import Sequence

from benchlib.domain.vocabulary import FailureKind


class BenchlibError(Exception):
    """Base of every error callers may catch; its text is shown to the user as it is."""


class InvalidInput(BenchlibError):
    """Input from a person or program breaks a rule; the text says which one and how."""


class NotFound(BenchlibError):
    """There is no such run, dataset or trait."""

    def __init__(self, what: str, identifier: object) -> None:
        super().__init__(f"There is no {what} {identifier}; pick one from the list.")


class WrongState(BenchlibError):
    """The object exists, but its state does not allow what was requested."""


class ReadOnly(BenchlibError):
    """A write was requested from a read-only dashboard."""

    def __init__(self) -> None:
        super().__init__("This dashboard is read-only; unset BENCHLIB_READ_ONLY to change things.")


class NotAllowed(BenchlibError):
    """The user's role does not allow what was requested; the text names the role that does."""


class StoreError(BenchlibError):
    """The store cannot be opened or written; the text says why and what to do."""


class InvalidSetting(BenchlibError):
    """A setting from the environment or the secrets file is wrong."""


class EngineNotReachable(BenchlibError):
    """None of the addresses can serve the run; the text lists each with the reason."""


class EngineChanged(BenchlibError):
    """The server no longer serves what the run began with."""


class RatingOutOfScale(BenchlibError):
    """Ratings lie outside the scale; something upstream is broken."""

    def __init__(self, strays: Sequence[float], n_points: int) -> None:
        super().__init__(f"Ratings {list(strays)} lie outside the 1..{n_points} scale; check them.")
        self.strays = list(strays)


class EngineFault(BenchlibError):
    """A fault of the transport: no question of the request is to blame; ask again later.

    Attributes:
        kind: One of the transport kinds of FailureKind.
        retry_after_seconds: The wait that the server asked for, if any.
    """

    def __init__(
        self, kind: FailureKind, message: str, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after_seconds = retry_after_seconds
