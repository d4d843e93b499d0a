"""A process that executes runs until its standard input closes; to be killed at any moment."""

import sys
import threading
from datetime import UTC, datetime
from time import monotonic

from benchlib.infrastructure.execution.executor import Worksite
from benchlib.infrastructure.execution.worker import Worker, process_name
from benchlib.infrastructure.storage.engine import open_store
from benchlib.settings import Settings


def main() -> None:
    store = open_store(sys.argv[1])
    worker = Worker(
        Worksite(
            store=store,
            settings=Settings(),
            owner=process_name(),
            stop=threading.Event(),
            now=lambda: datetime.now(UTC),
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
