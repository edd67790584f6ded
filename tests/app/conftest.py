"""The whole API on a database of either kind."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from app.accounts.bootstrap import ensure_admin_key
from app.main import create_app
from app.settings import Settings


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
