"""A process between us and a server we start, which makes sure that no part of the server is left.

Run as a script, by any Python, without this package:
`python -I -S process_keeper.py GRACE_SECONDS COMMAND...`. It starts the command in a process group
of its own and prints that group's number. It ends the whole group when its standard input is closed
(by us, or because we died, for whatever reason), on SIGTERM or SIGINT, and when the command exits:
SIGTERM first, SIGKILL after GRACE_SECONDS. It exits with the command's status once the group is
empty. What the command prints goes to standard error.

A closed pipe is more reliable than a parent-death signal, which already fires when the thread that
started us ends.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LOOK_SECONDS = 0.05
_ORPHAN_SECONDS = 3.0


def main() -> int:
    """Run one command; see the module."""
    grace_seconds, command = float(sys.argv[1]), sys.argv[2:]
    ended, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _note)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)  # orphaned grandchildren become ours to reap
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            start_new_session=True,
            preexec_fn=_die_with_keeper,
        )
    except OSError as error:
        sys.stderr.write(f"{command[0]} cannot be started: {error.strerror}.\n")
        return 127
    os.write(1, b"%d\n" % child.pid)
    os.close(1)
    stdin_open = True
    while child.poll() is None and stdin_open and not _stop_signals:
        readable, _, _ = select.select([0, ended], [], [])
        if ended in readable:
            os.read(ended, 4096)
        if 0 in readable:
            stdin_open = bool(os.read(0, 4096))
    if child.returncode is not None:  # what it left behind has no work to finish
        grace_seconds = min(grace_seconds, _ORPHAN_SECONDS)
    _end_group(child, grace_seconds)
    status = child.wait()
    return status if status >= 0 else 128 - status


_stop_signals: list[int] = []


def _note(number: int, _: object) -> None:
    if number != signal.SIGCHLD:
        _stop_signals.append(number)


def _end_group(child: "subprocess.Popen[bytes]", grace_seconds: float) -> None:
    """Leave no process of the group; it exists until its last process is reaped."""
    deadline = time.monotonic() + grace_seconds
    sent = signal.SIGTERM
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, sent)
        while True:
            child.poll()
            _reap_others(child)
            os.killpg(child.pid, 0)
            if sent == signal.SIGTERM and time.monotonic() > deadline:
                sent = signal.SIGKILL
            if sent == signal.SIGKILL:
                os.killpg(child.pid, sent)
            time.sleep(_LOOK_SECONDS)


def _reap_others(child: "subprocess.Popen[bytes]") -> None:
    """Reap orphans of the group that became our children, but not the child itself."""
    with contextlib.suppress(ChildProcessError):
        while True:
            done = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if done is None or done.si_pid == child.pid:
                return
            os.waitpid(done.si_pid, 0)


def _die_with_keeper() -> None:
    """In the child, before the command: SIGTERM for it if the keeper itself is killed."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _prctl(option: int, value: int) -> None:
    """On Linux only; elsewhere the closed pipe and the process group must do."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main())
