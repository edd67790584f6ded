"""What the database takes too long for is ended, and the request told so; other work goes on."""

import threading
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx2 import Response
from sqlalchemy import Engine, select, text

from app.accounts.bootstrap import ensure_admin_key
from app.db.models import Job, Project
from app.db.session import read_only, transaction
from app.main import create_app
from app.settings import Settings
from tests.app.jobs import builders as given

COUNTING = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {num}) SELECT count(*) FROM n"
)
FOR_LONG = text(COUNTING.format(num=1_000_000_000))
FOR_A_MOMENT = text(COUNTING.format(num=3_000_000))


@pytest.fixture
def app(settings: Settings) -> Iterator[FastAPI]:
    """With little patience."""
    app = create_app(settings.model_copy(update={"statement_seconds": 0.5, "idle_transaction_seconds": 0.5}))
    yield app
    app.state.engine.dispose()


@pytest.fixture
def client(app: FastAPI, settings: Settings, engine: Engine) -> TestClient:
    """The API, with routes that need some."""
    key = ensure_admin_key(engine, path=settings.data_dir / "admin_key", pepper=app.state.key_pepper)

    @app.get("/count")
    def count() -> None:
        with read_only(app.state.engine) as session:
            session.execute(FOR_LONG)

    @app.get("/dawdle")
    def dawdle() -> None:
        with read_only(app.state.engine) as session:
            session.execute(text("SELECT 1"))
            threading.Event().wait(2.0)
            session.execute(text("SELECT 1"))

    return TestClient(app, headers={"Authorization": f"Bearer {key}"}, raise_server_exceptions=False)


def is_too_slow(answer: Response) -> bool:
    if answer.status_code == 200:
        return False
    assert (answer.status_code, answer.json()["code"]) == (503, "database_too_slow")
    return bool(answer.headers["retry-after"])


def test_a_statement_that_takes_too_long_is_ended_and_answered(client: TestClient) -> None:
    assert is_too_slow(client.get("/count"))
    assert client.get("/v1/jobs").status_code == 200


def test_what_is_no_request_has_no_limit(app: FastAPI, client: TestClient, engine: Engine) -> None:
    """Also where it uses the connection that a request had before it."""
    assert is_too_slow(client.get("/count"))

    used = app.state.engine.raw_connection()
    try:
        cursor = used.cursor()
        cursor.execute(str(FOR_A_MOMENT))
        (counted,) = cursor.fetchone()
    finally:
        used.close()
    with read_only(engine) as session:
        counted_by_service = session.scalar(FOR_A_MOMENT)

    assert (counted, counted_by_service) == (3_000_000, 3_000_000)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_waiting_for_a_lock_counts(client: TestClient, engine: Engine) -> None:
    """On SQLite `busy_timeout` says how long."""
    with read_only(engine) as session:
        project_id = session.scalars(select(Project.id)).one()
    job_id = given.submit(engine, project_id).id
    with transaction(engine) as session:
        session.execute(select(Job.id).where(Job.id == job_id).with_for_update())
        assert is_too_slow(client.patch(f"/v1/jobs/{job_id}", json={"priority": 3}))

    assert client.patch(f"/v1/jobs/{job_id}", json={"priority": 3}).status_code == 200


def test_a_transaction_in_which_nothing_happens_is_ended_on_postgresql(
    client: TestClient, engine: Engine
) -> None:
    assert is_too_slow(client.get("/dawdle")) == (engine.dialect.name == "postgresql")
