"""Messages to a receiver of this machine: what they say, and that nothing waits for them."""

import asyncio
import io
import json
import logging
import sys
import threading
from dataclasses import replace

import pytest

from benchlib import bootstrap
from benchlib.domain.errors import EngineNotReachable, InvalidSetting
from benchlib.domain.vocabulary import RunStatus
from benchlib.infrastructure.execution.executor import execute_benchmark_run
from benchlib.infrastructure.execution.run_monitor import RunEvent, RunMonitor
from benchlib.infrastructure.logs import LogFormatter
from benchlib.infrastructure.notifications import Notifier, describe
from benchlib.settings import Settings
from tests.receiver import Receiver
from tests.samples import HANGS_SECONDS, Clock, add_run, claim, get_run, worker_context
from tests.scripted_client import ScriptedClient

# apprise imports all that it knows, also a module that Python 3.11 and 3.12 call deprecated
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

TOKEN = "token-9c1e-of-tests"


@pytest.fixture
def log():
    """The lines that the process would write, from whatever logger."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LogFormatter("json"))
    root, own = logging.getLogger(), logging.getLogger("benchlib")
    before = own.level
    root.addHandler(handler)
    own.setLevel(logging.INFO)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    own.setLevel(before)
    root.removeHandler(handler)


def notifier(*addresses, **settings):
    return Notifier(Settings(notify_urls=" , ".join(addresses), **settings))


def execute(store, run_id, sender, client=None):
    claim(store)
    context = worker_context(store, client or ScriptedClient())
    return execute_benchmark_run(replace(context, monitor=RunMonitor(sender.notify)), run_id)


def test_the_end_of_a_run_is_reported_with_its_numbers(store):
    run_id = add_run(store)
    with Receiver() as receiver:
        sender = notifier(receiver.address, public_url="https://bias.example/app/")
        execute(store, run_id, sender)
        title, text = receiver.next()
        sender.close(HANGS_SECONDS)
        assert receiver.messages.empty()
    assert title == "benchlib: run 1 done"
    assert text.splitlines() == [
        "Every planned question has a rating.",
        "Model: scripted",
        "Rated: 36 of 36",
        "Failed: 0",
        "Time spent: 0 s",
        "https://bias.example/app/progress?run=1",
    ]


def test_a_failure_is_reported_without_what_the_server_said(store):
    run_id = add_run(store)
    client = ScriptedClient()

    async def refuse(*_):
        raise EngineNotReachable("The server says: SECRET")

    client.factory = refuse
    with Receiver() as receiver:
        sender = notifier(receiver.address)
        execute(store, run_id, sender, client)
        title, text = receiver.next()
    assert title == "benchlib: run 1 failed"
    assert text.startswith("The run could not go on; its page says why.")
    assert "SECRET" in get_run(store, run_id).error
    assert "SECRET" not in text


def test_a_run_without_answers_is_reported_when_it_stalls_and_when_it_goes_on(store):
    run_id = add_run(store)
    claim(store)
    clock, stalled, events = Clock(), threading.Event(), []

    class Silent(ScriptedClient):
        async def ask(self, questions):
            if not stalled.is_set():
                clock.seconds += 700
                await asyncio.to_thread(stalled.wait, HANGS_SECONDS)
            return await super().ask(questions)

    with Receiver() as receiver:
        sender = notifier(receiver.address)

        def notify(event):
            sender.notify(event)
            events.append(event.what)
            stalled.set()

        context = worker_context(store, Silent(), clock=clock)
        context = replace(context, monitor=RunMonitor(notify, 600, clock.monotonic))
        assert execute_benchmark_run(context, run_id) == "done"
        titles = {receiver.next()[0] for _ in events}  # each is sent by a thread of its own
        sender.close(HANGS_SECONDS)
        assert receiver.messages.empty()
    assert events == ["stalled", "recovered", "ended"]
    assert titles == {f"benchlib: run 1 {word}" for word in ("stalled", "recovered", "done")}


def test_a_stall_and_its_end_are_put_into_words(store):
    add_run(store, llm="simulated")
    run = get_run(store, 1)
    title, text = describe(RunEvent("stalled", run, 600), None)
    assert title == "benchlib: run 1 stalled"
    assert text.startswith("No answer for 10 min; the run waits and goes on by itself")
    assert "Model: scripted, simulated" in text
    assert "http" not in text
    title, text = describe(RunEvent("recovered", run, 7_260), None)
    assert title == "benchlib: run 1 recovered"
    assert text.startswith("Answers are arriving again, after 2 h 1 min.")


def outcomes(lines):
    """What became of the message to each receiver, by its number."""
    return {line["receiver"]: line["message"] for line in lines if "receiver" in line}


@pytest.mark.parametrize("behaviour", ["hangs", "trickles", "refuses", "down"])
def test_a_receiver_that_is_down_or_hangs_does_not_matter_to_a_run(store, behaviour, log):
    def ends():
        return {line["receiver"]: line["message"] for line in log() if "receiver" in line}

    run_id = add_run(store)
    with Receiver("takes" if behaviour == "down" else behaviour) as bad, Receiver() as good:
        address = "json://127.0.0.1:9" if behaviour == "down" else bad.address
        sender = notifier(f"{address}/{TOKEN}?rto={2 * HANGS_SECONDS}", good.address)
        assert execute(store, run_id, sender) == "done"
        assert good.next()[0] == "benchlib: run 1 done"
        sender.close(0.2)
        if behaviour in ("hangs", "trickles"):  # until the end of this block: nothing waited for it
            assert 1 not in outcomes(log())
    sender.close(HANGS_SECONDS)
    assert outcomes(log())[2] == "notification sent"
    if behaviour in ("refuses", "down"):
        assert outcomes(log())[1] == "notification failed"
    assert TOKEN not in json.dumps(log())


def test_messages_to_a_receiver_that_hangs_are_bounded(store, log):
    add_run(store)
    run = get_run(store, 1)
    with Receiver("hangs") as receiver:
        sender = notifier(f"{receiver.address}/?rto={2 * HANGS_SECONDS}")
        for _ in range(40):
            sender.notify(RunEvent("ended", replace(run, status=RunStatus.DONE)))
        sending = [t for t in threading.enumerate() if t.name == "benchlib-notify"]
        assert len(sending) == 16
    sender.close(HANGS_SECONDS)
    assert sum("dropped" in line["message"] for line in log()) == 24


def test_a_process_without_threads_to_spare_drops_a_message(store, log, monkeypatch):
    run_id = add_run(store)
    sender = notifier("json://127.0.0.1:9")

    def start(_thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        sender.notify(RunEvent("ended", replace(get_run(store, run_id), status=RunStatus.DONE)))
    sender.close(HANGS_SECONDS)
    assert [line["message"] for line in log()] == ["notification dropped: no thread for it"]


def test_without_addresses_nothing_is_sent(store):
    run_id = add_run(store)
    sender = notifier()
    assert execute(store, run_id, sender) == "done"
    assert not [t for t in threading.enumerate() if t.name == "benchlib-notify"]


def test_an_unknown_address_is_refused_without_quoting_it(capfd):
    with pytest.raises(InvalidSetting, match="BENCHLIB_NOTIFY_URLS") as refused:
        notifier("json://localhost", f"nothing://{TOKEN}")
    assert TOKEN not in str(refused.value)
    assert TOKEN not in "".join(capfd.readouterr())
    assert TOKEN not in repr(Settings(notify_urls=f"json://{TOKEN}"))


def test_a_start_without_apprise_ends_with_one_sentence(monkeypatch):
    monkeypatch.setattr(bootstrap, "get_settings", lambda: Settings(notify_urls="json://localhost"))
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(SystemExit) as ended:
        bootstrap.check_start()
    assert ended.value.code == (
        "benchlib cannot start. BENCHLIB_NOTIFY_URLS needs apprise: pip install 'benchlib[notify]'."
    )
