import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from benchlib.infrastructure.storage.engine import open_store
from tests.requirements import require

SLOW_FIRST = ("real_vllm", "kill", "router", "browser", "application", "infrastructure")


def pytest_collection_modifyitems(items):
    """The long files first: with `-n 2` each stays in one process, and short ones fill the end."""
    here = Path(__file__).parent

    def turn(item):
        folder = item.path.relative_to(here).parts[0]
        return SLOW_FIRST.index(folder) if folder in SLOW_FIRST else len(SLOW_FIRST)

    items.sort(key=turn)


@pytest.fixture
def store(tmp_path):
    opened = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def postgres_server():
    """A PostgreSQL cluster of our own; gives its URL with a hole for the database."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    initdb = shutil.which("initdb") or (str(found[-1]) if found else None)
    require(initdb is not None, "PostgreSQL (initdb)")
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
    options = f"-k {folder} -c listen_addresses='' -c fsync=off"
    pg_ctl = [*as_owner, bin_dir / "pg_ctl", "-D", data, "-w"]
    subprocess.run([*pg_ctl, "-l", folder / "log", "-o", options, "start"], **quiet)
    yield f"postgresql://test@/{{database}}?host={folder}"
    subprocess.run([*pg_ctl, "-m", "immediate", "stop"], **quiet)
    shutil.rmtree(folder)


@pytest.fixture
def postgres_url(postgres_server):
    """The URL of a fresh, empty PostgreSQL database."""
    import psycopg

    with psycopg.connect(postgres_server.format(database="postgres"), autocommit=True) as admin:
        admin.execute("DROP DATABASE IF EXISTS fresh WITH (FORCE)")
        admin.execute("CREATE DATABASE fresh")
    return postgres_server.format(database="fresh")


@pytest.fixture(
    params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)],
)
def any_store(request, tmp_path):
    """The same store twice: SQLite, then PostgreSQL."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'store.db'}"
    else:
        url = request.getfixturevalue("postgres_url")
    opened = open_store(url)
    yield opened
    opened.close()
