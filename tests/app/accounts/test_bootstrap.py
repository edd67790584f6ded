"""The first start of a service on one's own machine."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select, update

from app.accounts import service
from app.accounts.bootstrap import ensure_admin_key, make_first_key
from app.accounts.projects import ensure_default_project
from app.accounts.scopes import Scope
from app.db.base import Base, db_time
from app.db.migrate import upgrade
from app.db.models import ApiKey, Project
from app.db.session import create_engine, read_only, transaction
from app.main import create_app
from app.settings import Settings
from fusion.errors import InfrastructureError
from tests.support.api import PEPPER, Api, make_api


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return make_api(tmp_path)


def test_the_first_start_leaves_a_key_that_only_its_owner_can_read(api: Api, tmp_path: Path) -> None:
    path = tmp_path / "admin.key"

    text = ensure_admin_key(api.engine, path=path, pepper=PEPPER)

    assert path.read_text().strip() == text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with read_only(api.engine) as session:
        principal = service.authenticate(session, text, pepper=PEPPER).principal
    assert principal.may(Scope.ADMIN)
    assert principal.may(Scope.OPERATOR)


def test_later_starts_keep_the_key(api: Api, tmp_path: Path) -> None:
    path = tmp_path / "admin.key"

    first = ensure_admin_key(api.engine, path=path, pepper=PEPPER)

    assert ensure_admin_key(api.engine, path=path, pepper=PEPPER) == first
    with read_only(api.engine) as session:
        assert session.scalar(select(func.count()).select_from(ApiKey)) == 2


def test_a_key_that_no_longer_works_is_replaced(api: Api, tmp_path: Path) -> None:
    path = tmp_path / "admin.key"
    first = ensure_admin_key(api.engine, path=path, pepper=PEPPER)
    with transaction(api.engine) as session:
        session.execute(update(ApiKey).values(revoked_at=db_time()))

    second = ensure_admin_key(api.engine, path=path, pepper=PEPPER)

    assert second != first
    answer = api.client.get("/v1/api_keys", headers={"Authorization": f"Bearer {second}"})
    assert answer.status_code == 200


def test_starting_twice_at_once_makes_one_project(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/fresh.db")
    Base.metadata.create_all(engine)

    def start(_: int) -> str:
        with transaction(engine) as session:
            return ensure_default_project(session).id

    with ThreadPoolExecutor(4) as pool:
        ids = set(pool.map(start, range(8)))

    assert len(ids) == 1
    with read_only(engine) as session:
        assert session.scalar(select(func.count()).select_from(Project)) == 1


def test_the_first_key_opens_a_service_that_is_not_running_yet(tmp_path: Path) -> None:
    settings, path = Settings(data_dir=tmp_path), tmp_path / "elsewhere" / "admin.key"
    upgrade(settings.database_url)

    make_first_key(settings, path=path)
    first = path.read_text()
    make_first_key(settings, path=path)

    assert path.read_text() == first
    with TestClient(create_app(settings)) as client:
        answer = client.get("/v1/api_keys", headers={"Authorization": f"Bearer {first.strip()}"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("folder", "code"), [("", "database_not_migrated"), ("missing", "database_unreachable")]
)
def test_without_tables_there_is_no_first_key(tmp_path: Path, folder: str, code: str) -> None:
    settings = Settings(data_dir=tmp_path / folder)

    with pytest.raises(InfrastructureError) as caught:
        make_first_key(settings, path=tmp_path / "admin.key")

    assert caught.value.code == code
    assert not (tmp_path / "admin.key").exists()
