"""A private PostgreSQL cluster, for tests and benchmarks."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def find_initdb() -> str | None:
    """PostgreSQL's `initdb`, if it is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return shutil.which("initdb") or (str(found[-1]) if found else None)


@contextmanager
def postgres_cluster(initdb: str, *, fsync: bool = False) -> Iterator[str]:
    """A running cluster, removed afterwards; yields its URL with a `{database}` placeholder."""
    bin_dir = Path(initdb).resolve().parent
    folder = Path(tempfile.mkdtemp(prefix="benchlib-pg-"))
    as_owner = []
    if os.getuid() == 0:  # the server refuses to run as root
        shutil.chown(folder, "postgres")
        as_owner = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "cwd": folder}
    data = folder / "data"
    subprocess.run(
        [*as_owner, bin_dir / "initdb", "-D", data, "-A", "trust", "-U", "test"], **quiet
    )
    options = f"-k {folder} -c listen_addresses='' -c fsync={'on' if fsync else 'off'}"
    pg_ctl = [*as_owner, bin_dir / "pg_ctl", "-D", data, "-w"]
    subprocess.run([*pg_ctl, "-l", folder / "log", "-o", options, "start"], **quiet)
    try:
        yield f"postgresql://test@/{{database}}?host={folder}"
    finally:
        subprocess.run([*pg_ctl, "-m", "immediate", "stop"], **quiet)
        shutil.rmtree(folder)


def fresh_database(server: str, name: str = "fresh", *, template: str = "template1") -> str:
    """The URL of a copy of database `template`, by default empty; one of that name is dropped."""
    import psycopg

    with psycopg.connect(server.format(database="postgres"), autocommit=True) as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    return server.format(database=name)
