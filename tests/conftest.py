from pathlib import Path

import pytest

from benchlib.infrastructure.storage.database import open_store
from tests.postgres import find_initdb, fresh_database, postgres_cluster
from tests.requirements import require

SLOW_FIRST = ("real_vllm", "kill", "router", "browser", "application", "infrastructure")


def pytest_collection_modifyitems(items):
    """The long files first: with `-n 3` each stays in one process, and short ones fill the end."""
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
    initdb = find_initdb()
    require(initdb is not None, "PostgreSQL (initdb)")
    with postgres_cluster(initdb) as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server):
    """The URL of a fresh, empty PostgreSQL database."""
    return fresh_database(postgres_server)


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
