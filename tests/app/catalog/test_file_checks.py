"""Large files are checked after their upload is answered, once, by whoever keeps house."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, select, update

from app.catalog.file_checks import FileChecker
from app.db.base import db_time
from app.db.models import File
from app.db.session import read_only, transaction
from app.main import create_app
from app.settings import Settings
from app.storage.store import ObjectStore, blob_key

RECORD = b'{"text": "hello"}\n'


@pytest.fixture
def database_url(request: pytest.FixtureRequest, make_database: Callable[[str], str]) -> str:
    """SQLite, except for tests `on_both` databases."""
    return make_database(getattr(request, "param", "sqlite"))


on_both = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"max_checked_at_upload_bytes": 100})


@pytest.fixture
def store(client: TestClient) -> ObjectStore:
    store: ObjectStore = client.app.state.store  # type: ignore[attr-defined]
    return store


def upload(client: TestClient, data: bytes, *, filename: str = "corpus.jsonl") -> dict[str, Any]:
    answer = client.post("/v1/files", files={"file": (filename, data)})
    assert answer.status_code == 201, answer.text
    file: dict[str, Any] = answer.json()
    return file


def read(client: TestClient, file: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/v1/files/{file['id']}").json()
    return found


@on_both
def test_a_large_file_is_uploaded_first_and_checked_then(
    client: TestClient, engine: Engine, store: ObjectStore
) -> None:
    good, bad, small = (
        upload(client, RECORD * 100),
        upload(client, RECORD * 100 + b"{broken\n"),
        upload(client, RECORD),
    )
    assert [file["status"] for file in (good, bad, small)] == ["uploaded", "uploaded", "processed"]
    assert (good["error"], good["format"]) == (None, None)

    num_checked = FileChecker(engine, store).run_once()

    good, bad = read(client, good), read(client, bad)
    assert num_checked == 2
    assert (good["status"], good["num_records"], good["fields"]) == ("processed", 100, ["text"])
    assert (bad["status"], bad["error"]["line"]) == ("error", 101)
    assert FileChecker(engine, store).run_once() == 0


@on_both
def test_a_file_that_somebody_checks_is_left_to_them_for_a_while(
    client: TestClient, engine: Engine, store: ObjectStore
) -> None:
    file = upload(client, RECORD * 100)
    with transaction(engine) as session:
        session.execute(update(File).values(check_ends_at=db_time(60)))

    assert FileChecker(engine, store).run_once() == 0
    with transaction(engine) as session:
        session.execute(update(File).values(check_ends_at=db_time(-1)))
    assert FileChecker(engine, store).run_once() == 1
    assert read(client, file)["status"] == "processed"


def test_a_file_deleted_meanwhile_is_no_trouble(
    client: TestClient, engine: Engine, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = upload(client, RECORD * 100)
    open_range = store.open_range

    def delete_first(key: str, *, start: int, end: int) -> Iterator[bytes]:
        pieces = list(open_range(key, start=start, end=end))
        client.delete(f"/v1/files/{file['id']}")
        return iter(pieces)

    monkeypatch.setattr(store, "open_range", delete_first)

    assert FileChecker(engine, store).run_once() == 1
    assert client.get(f"/v1/files/{file['id']}").status_code == 404


def test_lost_bytes_are_said_to_the_owner(client: TestClient, engine: Engine, store: ObjectStore) -> None:
    file = upload(client, RECORD * 100)
    with read_only(engine) as session:
        row = session.scalars(select(File)).one()
    store.delete(blob_key(project_id=row.project_id, sha256=row.sha256))

    FileChecker(engine, store).run_once()

    assert read(client, file)["error"]["code"] == "storage_object_missing"


def test_an_interrupted_check_begins_again_elsewhere(
    client: TestClient, engine: Engine, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = upload(client, RECORD * 100)
    checker = FileChecker(engine, store)
    open_range = store.open_range

    def interrupted(key: str, *, start: int, end: int) -> Iterator[bytes]:
        checker.interrupt()
        return open_range(key, start=start, end=end)

    with monkeypatch.context() as patch:
        patch.setattr(store, "open_range", interrupted)
        assert checker.run_once() == 0

    assert read(client, file)["status"] == "uploaded"
    assert FileChecker(engine, store).run_once() == 1


def test_the_service_checks_by_itself(settings: Settings, client: TestClient) -> None:
    file = upload(client, RECORD * 100)
    app = create_app(settings.model_copy(update={"poll_seconds": 0.05}))

    with TestClient(app, headers=client.headers) as housekeeping:
        deadline = time.monotonic() + 60
        while read(housekeeping, file)["status"] == "uploaded" and time.monotonic() < deadline:
            time.sleep(0.05)

    assert read(client, file)["status"] == "processed"
