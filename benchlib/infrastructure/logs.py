"""The log: one line per event, as JSON or text, with the run it is about.

Text from people, models and servers never gets into the log: facts and numbers are passed in
`extra`, and of an exception only its type and traceback are written, because its message may quote
an answer.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from traceback import extract_tb
from typing import Any, Final, Literal

_KNOWN: Final = frozenset(
    {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "color_message"}
)


def set_up_logs(style: Literal["json", "text"] | None) -> None:
    """Write all logs of this process to standard error in one format.

    Args:
        style: None writes text on a terminal, else JSON.
    """
    formatter = LogFormatter(style or ("text" if sys.stderr.isatty() else "json"))
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.StreamHandler())
    logging.getLogger("benchlib").setLevel(logging.INFO)
    # The web server's loggers have handlers of their own.
    known = [root, *(logging.getLogger(name) for name in list(root.manager.loggerDict))]
    for handler in {handler for logger in known for handler in logger.handlers}:
        if isinstance(handler, logging.StreamHandler) and handler.stream in _console():
            handler.setFormatter(formatter)


def _console() -> tuple[Any, ...]:
    return sys.stderr, sys.stdout


class LogFormatter(logging.Formatter):
    """One line per record: its message and the fields given as `extra`."""

    def __init__(self, style: Literal["json", "text"]) -> None:
        super().__init__()
        self._json = style == "json"

    def format(self, record: logging.LogRecord) -> str:
        """Format a record; values that JSON does not know appear as the name of their type."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        message = " ".join(record.getMessage().split())
        fields = {name: value for name, value in vars(record).items() if name not in _KNOWN}
        if record.exc_info is not None and record.exc_info[1] is not None:
            fields |= _fault(record.exc_info[1])
        if self._json:
            head = {
                "time": moment,
                "level": record.levelname.lower(),
                "logger": record.name,
                "message": message,
            }
            return _dump({**head, **fields})
        tail = "".join(f" {name}={_dump(value)}" for name, value in fields.items())
        return f"{moment} {record.levelname} {record.name}: {message}{tail}"


def _fault(error: BaseException) -> dict[str, Any]:
    """The types of an exception and its causes, and where the first of them was raised."""
    kinds: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(kinds) < 8:
        error = cause
        kinds.append(type(error).__name__)
        cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    frames = extract_tb(error.__traceback__)
    return {
        "exception": " from ".join(kinds),
        "frames": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }


def _dump(value: Any) -> str:
    return json.dumps(value, default=lambda strange: type(strange).__name__)
