"""A process that executes runs until its standard input closes; to be killed at any moment.

It can pose as another machine, so that nobody may look for its process, and have a clock that is
minutes off.
"""

import argparse
import sys
import threading
from datetime import UTC, datetime, timedelta
from time import monotonic

from benchlib.infrastructure.execution.executor import WorkerContext
from benchlib.infrastructure.execution.worker import Worker, process_name
from benchlib.infrastructure.logs import set_up_logs
from benchlib.infrastructure.storage.database import open_store
from benchlib.settings import Settings


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--boot", help="of another machine")
    parser.add_argument("--minutes", type=int, default=0, help="that the clock is ahead")
    given = parser.parse_args()
    set_up_logs("text")
    host, boot, *process = process_name().split("/")
    ahead = timedelta(minutes=given.minutes)
    store = open_store(given.url)
    worker = Worker(
        WorkerContext(
            store=store,
            settings=Settings(),
            owner="/".join((host, given.boot or boot, *process)),
            stop=threading.Event(),
            now=lambda: datetime.now(UTC) + ahead,
            monotonic=monotonic,
        ),
        auto_resume=True,
    )
    worker.start()
    print("ready", flush=True)
    sys.stdin.read()
    worker.stop()
    store.close()


if __name__ == "__main__":
    main()
