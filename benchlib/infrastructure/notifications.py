"""Notify people that a run ended or stalls, over anything that apprise supports.

A message is sent once, from a thread of its own: its receiver may be down, slow or silent, and no
run, page or shutdown waits for it. Its text holds facts and numbers of the run, and no text of a
persona, trait or model.
"""

import logging
import threading
from time import monotonic
from typing import TYPE_CHECKING, Final

from benchlib.domain.errors import InvalidSetting
from benchlib.domain.vocabulary import RunStatus
from benchlib.infrastructure.execution.run_monitor import RunEvent
from benchlib.settings import Settings

if TYPE_CHECKING:
    from apprise import Apprise

_MAX_IN_FLIGHT: Final = 16
"""Messages in flight; beyond that they are dropped, which takes a receiver that hangs."""

_log = logging.getLogger(__name__)


class Notifier:
    """Sends to every address of BENCHLIB_NOTIFY_URLS; without one it does nothing.

    Raises:
        InvalidSetting: An address is not valid, or apprise is missing.
    """

    def __init__(self, settings: Settings) -> None:
        self._receivers: Final = _receivers(settings)
        self._public_url: Final = settings.public_url
        self._lock = threading.Lock()  # guards the set of threads that are sending
        self._sending: set[threading.Thread] = set()

    def notify(self, event: RunEvent) -> None:
        """Send event of a run; returns at once."""
        title, text = describe(event, self._public_url)
        for number, receiver in enumerate(self._receivers, 1):
            self._start(receiver, number, event, title, text)

    def close(self, seconds: float) -> None:
        """Wait for messages in flight, but no longer than this."""
        last = monotonic() + seconds
        with self._lock:
            sending = list(self._sending)
        for thread in sending:
            thread.join(max(0.0, last - monotonic()))

    def _start(
        self, receiver: "Apprise", number: int, event: RunEvent, title: str, text: str
    ) -> None:
        extra = {"run_id": event.run.id, "what": event.what, "receiver": number}

        def send() -> None:
            try:
                sent = bool(receiver.notify(text, title, body_format="text"))
            except Exception:  # noqa: BLE001
                sent = False  # the exception may quote the address
            if sent:
                _log.info("notification sent", extra=extra)
            else:
                _log.warning("notification failed", extra=extra)
            with self._lock:
                self._sending.discard(thread)

        thread = threading.Thread(target=send, name="benchlib-notify", daemon=True)
        with self._lock:
            if len(self._sending) >= _MAX_IN_FLIGHT:
                _log.warning("notification dropped: too many are in flight", extra=extra)
                return
            self._sending.add(thread)
            try:
                thread.start()
            except RuntimeError:  # no thread can be started, or the process is ending
                self._sending.discard(thread)
                _log.warning("notification dropped: no thread for it", extra=extra)


def describe(event: RunEvent, public_url: str | None) -> tuple[str, str]:
    """Title and text of a message."""
    run = event.run
    word = run.status.value if event.what == "ended" else event.what
    made_up = ", simulated" if run.simulated else ""
    lines = [
        f"{_sentence(event)}",
        f"Model: {' '.join(run.model_name.split())[:200]}{made_up}",
        f"Rated: {run.done:,} of {run.total:,}",
        f"Failed: {run.failed:,}",
        f"Time spent: {_minutes(run.seconds_active)}",
    ]
    if public_url:
        lines.append(f"{public_url.rstrip('/')}/progress?run={run.id}")
    return f"benchlib: run {run.id} {word}", "\n".join(lines)


_ENDS: Final = {
    RunStatus.DONE: "Every planned question has a rating.",
    RunStatus.PARTIAL: "Some questions got no usable answer; resume the run to ask them again.",
    RunStatus.CANCELLED: "Run cancelled; its ratings are kept.",
    RunStatus.FAILED: "The run could not go on; its page says why. Its ratings are kept.",
    RunStatus.INTERRUPTED: "The run was interrupted; resume it to ask only what is missing.",
}


def _sentence(event: RunEvent) -> str:
    if event.what == "ended":
        return _ENDS[event.run.status]
    quiet = _minutes(event.quiet_seconds)
    if event.what == "stalled":
        return f"No answer for {quiet}; the run waits and goes on by itself when answers arrive."
    return f"Answers are arriving again, after {quiet}."


def _minutes(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _receivers(settings: Settings) -> list["Apprise"]:
    urls = settings.notify_urls.get_secret_value().strip() if settings.notify_urls else ""
    if not urls:
        return []
    try:
        from apprise import Apprise, AppriseAsset
    except ImportError:
        raise InvalidSetting(
            "BENCHLIB_NOTIFY_URLS needs apprise: pip install 'benchlib[notify]'."
        ) from None
    # Its log quotes addresses, which hold tokens; the outcome of a message is logged here.
    quiet = logging.getLogger("apprise")
    quiet.propagate = False
    quiet.addHandler(logging.NullHandler())
    # No time limit by apprise: it enforces one with threads that the end of the process waits for.
    asset = AppriseAsset(app_id="benchlib", async_mode=False, service_timeout=0)
    receivers = Apprise(asset=asset)
    if not receivers.add(urls):
        raise InvalidSetting(
            "BENCHLIB_NOTIFY_URLS holds an address that apprise does not know; see the list of "
            "services in its documentation."
        )
    return [Apprise(receiver, asset=asset) for receiver in receivers]
