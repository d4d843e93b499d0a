import shutil
from pathlib import Path

import pytest

from benchlib.infrastructure.storage.database import open_store
from tests.postgres import find_initdb, fresh_database, postgres_cluster
from tests.requirements import require

SLOW_FIRST = ("real_vllm", "browser", "router", "kill")


def pytest_collection_modifyitems(items):
    """What waits for other programs first, so that the rest runs meanwhile.

    With `-n 3` each process begins with a third of this order; one that has nothing left takes half
    of what another has at its end (`--dist worksteal`). So the tests with real vLLM stay together
    and share a server.
    """
    here = Path(__file__).parent

    def turn(item):
        folder = item.path.relative_to(here).parts[0]
        return SLOW_FIRST.index(folder) if folder in SLOW_FIRST else len(SLOW_FIRST)

    items.sort(key=turn)


@pytest.fixture(scope="session")
def new_store(tmp_path_factory):
    """Gives `new_store(folder) -> Store`: empty, on a file `store.db` that is there; to be closed.

    The file is a copy of one that was migrated: tests of the store itself migrate, all others would
    only wait for it.
    """
    migrated = tmp_path_factory.mktemp("migrated") / "store.db"
    open_store(f"sqlite:///{migrated}").close()

    def new_store(folder):
        return open_store(f"sqlite:///{shutil.copy(migrated, folder)}")

    return new_store


@pytest.fixture(scope="session")
def prepare(new_store, tmp_path_factory):
    """Gives `prepare(fill) -> path`: a store that `fill(store)` filled, as a file to be copied."""

    def prepare(fill):
        filled = new_store(tmp_path_factory.mktemp("prepared"))
        fill(filled)
        filled.close()
        return filled.database

    return prepare


@pytest.fixture
def store(new_store, tmp_path):
    opened = new_store(tmp_path)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def postgres_server():
    """A PostgreSQL cluster of our own; gives its URL with a hole for the database."""
    initdb = find_initdb()
    require(initdb is not None, "PostgreSQL (initdb)")
    with postgres_cluster(initdb) as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server):
    """The URL of a fresh, empty PostgreSQL database."""
    return fresh_database(postgres_server)


@pytest.fixture(scope="session")
def migrated_database(postgres_server):
    """The name of a PostgreSQL database that was migrated, to be copied."""
    open_store(fresh_database(postgres_server, "migrated")).close()
    return "migrated"


@pytest.fixture(
    params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)],
)
def any_store(request, tmp_path, new_store):
    """The same store twice: SQLite, then PostgreSQL."""
    if request.param == "sqlite":
        opened = new_store(tmp_path)
    else:
        server = request.getfixturevalue("postgres_server")
        template = request.getfixturevalue("migrated_database")
        opened = open_store(fresh_database(server, template=template))
    yield opened
    opened.close()
