"""Databases of either kind with all tables.

Migrations run once per session and kind; every test gets a copy of what they made.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from app.db import migrate
from app.db.session import create_engine
from tests.support.services import create_database, drop_database


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with all tables."""
    path = tmp_path_factory.mktemp("migrated") / "template.db"
    migrate.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def migrated_postgres(postgres_server: str) -> Iterator[str]:
    """URL of a database with all tables, to which nobody connects."""
    url = create_database(postgres_server)
    migrate.upgrade(url)
    yield url
    drop_database(postgres_server, url)


@pytest.fixture
def make_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Makes a database with all tables, of the kind `sqlite` or `postgresql`; its URL."""
    made: list[tuple[str, str]] = []

    def make(kind: str) -> str:
        if kind == "sqlite":
            copy = shutil.copy(request.getfixturevalue("migrated_sqlite"), tmp_path / "test.db")
            return f"sqlite:///{copy}"
        server: str = request.getfixturevalue("postgres_server")
        url = create_database(server, template_url=request.getfixturevalue("migrated_postgres"))
        made.append((server, url))
        return url

    yield make
    for server, url in made:
        drop_database(server, url)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, make_database: Callable[[str], str]) -> str:
    """URL of a database with all tables; the test runs once on SQLite and once on PostgreSQL."""
    return make_database(request.param)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine on a database with all tables."""
    engine = create_engine(database_url)
    yield engine
    engine.dispose()
