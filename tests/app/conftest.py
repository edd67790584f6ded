"""A migrated database of either kind, and the whole API on it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from app.accounts.bootstrap import ensure_admin_key
from app.db import migrate
from app.db.session import create_engine
from app.main import create_app
from app.settings import Settings


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database; the test runs once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'test.db'}"
    url: str = request.getfixturevalue("postgres_database")
    return url


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine on a database with all tables."""
    engine = create_engine(database_url)
    migrate.upgrade_engine(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    """A service in a temporary folder, which may read models from `models`."""
    root = tmp_path / "models"
    root.mkdir()
    return Settings(data_dir=tmp_path / "data", database_url=database_url, allowed_roots=(root,))


@pytest.fixture
def client(settings: Settings, engine: Engine) -> Iterator[TestClient]:
    """The API, called with the admin key. Its housekeeper does not run."""
    app = create_app(settings)
    key = ensure_admin_key(engine, path=settings.data_dir / "admin_key", pepper=app.state.key_pepper)
    yield TestClient(app, headers={"Authorization": f"Bearer {key}"}, raise_server_exceptions=False)
    app.state.engine.dispose()
