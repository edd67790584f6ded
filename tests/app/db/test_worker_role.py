"""What workers may do in the database, and what whoever breaks out of one finds there."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, inspect, select, text, update
from sqlalchemy.exc import ProgrammingError

from app.artifacts.kinds import ArtifactKind
from app.artifacts.service import Origin, publish_folder
from app.db.base import Base
from app.db.migrate import upgrade_engine
from app.db.models import Project, Secret, WebhookDelivery, WebhookEndpoint
from app.db.session import create_engine, in_transaction, read_only, transaction
from app.db.worker_role import WORKER_RIGHTS
from app.jobs import service as jobs
from app.jobs.attempt_logs import append_log
from app.storage.opening import open_store
from fusion.errors import UserError
from tests.app.jobs import builders as given
from tests.support.services import as_role, create_database, make_role
from tests.support.stored_checkpoints import write_checkpoint

ROLE = "a worker's role"


@pytest.fixture
def database(postgres_server: str) -> Iterator[Engine]:
    """A database as its owner sees it."""
    engine = create_engine(create_database(postgres_server))
    make_role(engine.url.render_as_string(hide_password=False), ROLE)
    upgrade_engine(engine, worker_role=ROLE)
    yield engine
    engine.dispose()


@pytest.fixture
def worker(database: Engine) -> Iterator[Engine]:
    engine = create_engine(as_role(database.url.render_as_string(hide_password=False), ROLE))
    yield engine
    engine.dispose()


def test_a_worker_runs_a_job_to_its_end(database: Engine, worker: Engine) -> None:
    job = given.submit_in_new_project(database)

    given.run_to_end(worker)

    assert given.job_now(database, job.id).status == "succeeded"


def test_a_worker_reports_fails_stores_and_tells(database: Engine, worker: Engine, tmp_path: Path) -> None:
    """Every call that workers make on the way of a step."""
    project_id = given.make_project(database)
    with transaction(database) as session:
        session.execute(update(Project).values(max_running_jobs=1))
        told = ["fusion.job.started", "fine_tuning.job.failed"]
        endpoint = {"url": "https://hooks.example.com/", "description": "", "event_types": told}
        session.add(WebhookEndpoint(project_id=project_id, secret="sealed", enabled=True, **endpoint))
        session.add(Secret(id="secret-1", project_id=project_id, name="token", sealed="sealed"))
    job = given.submit(database, project_id)
    store = open_store((tmp_path / "storage").as_uri())

    step = given.claim(worker)
    fence = {"step_id": step.step_id, "attempt": step.attempt}
    in_transaction(worker, jobs.heartbeat, **fence, lease_seconds=60)
    in_transaction(worker, jobs.record_progress, **fence, done=1, total=2, unit="shards", tokens=5)
    in_transaction(worker, jobs.record_metrics, **fence, points=[(1, {"loss": 2.0})])
    in_transaction(worker, jobs.record_note, **fence, message="half way", details={})
    in_transaction(worker, append_log, **fence, first_byte=0, data=b"a line\n")
    for number in (2, 4):
        folder = write_checkpoint(tmp_path / f"step-{number}", number=number)
        origin = Origin(
            project_id=project_id,
            job_id=job.id,
            step_id=step.step_id,
            attempt=step.attempt,
            kind=ArtifactKind.CHECKPOINT,
            role="checkpoints/last",
        )
        assert publish_folder(worker, store, folder, origin=origin) is not None
    with read_only(worker) as session:
        assert session.scalar(select(Secret.sealed)) == "sealed"
    assert in_transaction(worker, jobs.release_step, **fence, reason="the worker ends")
    step = given.claim(worker)
    assert given.fail(worker, step, {"code": "x", "category": "user", "message": "m", "retryable": False})

    assert given.job_now(database, job.id).status == "failed"
    with read_only(database) as session:
        assert set(session.scalars(select(WebhookDelivery.type))) == set(told)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT secret_hash FROM api_keys",
        "INSERT INTO api_keys SELECT * FROM api_keys",
        "SELECT * FROM audit_events",
        "DELETE FROM audit_events",
        "SELECT secret FROM webhook_endpoints",
        "UPDATE webhook_endpoints SET url = 'https://elsewhere.example.com'",
        "UPDATE webhook_deliveries SET data = '{}'",
        "SELECT body FROM idempotency_keys",
        "UPDATE projects SET max_queued_jobs = NULL",
        "INSERT INTO secrets SELECT * FROM secrets",
        "UPDATE secrets SET sealed = ''",
        "INSERT INTO jobs SELECT * FROM jobs",
        "DELETE FROM jobs",
        "UPDATE events SET message = ''",
        "DELETE FROM models",
        "UPDATE publications SET status = 'queued'",
        "CREATE TABLE more (a int)",
        "ALTER TABLE jobs DISABLE ROW LEVEL SECURITY",
        "DROP POLICY fusion_project ON jobs",
    ],
)
def test_nothing_else_is_open_to_it(worker: Engine, statement: str) -> None:
    with (
        worker.connect() as connection,
        pytest.raises(ProgrammingError, match=r"permission denied|must be owner"),
    ):
        connection.execute(text(statement))


def test_rights_name_tables_that_there_are(database: Engine) -> None:
    assert WORKER_RIGHTS.keys() - {"alembic_version"} <= Base.metadata.tables.keys()
    assert WORKER_RIGHTS.keys() <= set(inspect(database).get_table_names())


def test_what_it_was_given_by_hand_is_taken_back(database: Engine, worker: Engine) -> None:
    with database.begin() as connection:
        connection.execute(text(f'GRANT SELECT ON api_keys TO "{ROLE}"'))

    upgrade_engine(database, worker_role=ROLE)

    with worker.connect() as connection, pytest.raises(ProgrammingError, match="permission denied"):
        connection.execute(text("SELECT 1 FROM api_keys"))


def test_a_role_that_is_missing_is_named(database: Engine) -> None:
    with pytest.raises(UserError, match="nobody") as raised:
        upgrade_engine(database, worker_role="nobody")

    assert raised.value.hint is not None
    assert "CREATE ROLE" in raised.value.hint
