"""The second wall: PostgreSQL shows a bound session no foreign row, also when the first wall is gone."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Engine, event, make_url, select, text
from sqlalchemy.exc import DBAPIError

from app.db import migrate
from app.db.base import Base
from app.db.models import Job, Secret
from app.db.row_security import unwalled
from app.db.session import _Session, create_engine, read_only, transaction
from app.db.tenancy import narrow_statement, of_project
from app.main import create_app
from app.operations.doctor.database import check_database
from app.operations.doctor.findings import Level
from app.settings import Settings
from tests.app.jobs import builders as given
from tests.support.tenants import Tenant, furnish

WALLED = [table for table in Base.metadata.sorted_tables if "project_id" in table.columns]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A service whose role is held by the wall, although it owns the tables, and two projects."""

    app: FastAPI
    engine: Engine
    settings: Settings
    ours: Tenant
    theirs: Tenant

    def bound(self) -> Engine:
        return of_project(self.engine, self.ours.project_id)


@pytest.fixture
def url(postgres_server: str, postgres_database: str) -> Iterator[str]:
    """The database, as a role that is nobody special owns it."""
    role = f"app_{uuid.uuid4().hex[:12]}"
    database = make_url(postgres_database).database
    superuser = create_engine(postgres_server)
    with superuser.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"CREATE ROLE {role} LOGIN NOSUPERUSER NOBYPASSRLS"))
        connection.execute(text(f"ALTER DATABASE {database} OWNER TO {role}"))
    yield make_url(postgres_database).set(username=role).render_as_string(hide_password=False)
    with superuser.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"DROP DATABASE {database} WITH (FORCE)"))
        connection.execute(text(f"DROP ROLE {role}"))
    superuser.dispose()


@pytest.fixture
def scene(url: str, tmp_path: Path) -> Iterator[Scene]:
    engine = create_engine(url)
    migrate.upgrade_engine(engine)
    settings = Settings(data_dir=tmp_path / "data", database_url=url)
    app = create_app(settings)
    theirs = furnish(app, engine, tmp_path, name="theirs")
    ours = furnish(app, engine, tmp_path, name="ours")
    yield Scene(app=app, engine=engine, settings=settings, ours=ours, theirs=theirs)
    app.state.engine.dispose()
    engine.dispose()


@pytest.fixture
def first_wall_is_gone() -> Iterator[None]:
    event.remove(_Session, "do_orm_execute", narrow_statement)
    yield
    event.listen(_Session, "do_orm_execute", narrow_statement)


def test_every_table_of_a_tenant_is_behind_the_wall(scene: Scene) -> None:
    walled = "SELECT relname FROM pg_class WHERE relrowsecurity AND relforcerowsecurity"
    with read_only(scene.engine) as session:
        assert unwalled(session) == []
        assert set(session.scalars(text(walled))) == {"projects", *(table.name for table in WALLED)}


def test_a_table_of_a_later_migration_is_put_behind_it(scene: Scene) -> None:
    with scene.engine.begin() as connection:
        connection.execute(text("CREATE TABLE later (id text PRIMARY KEY, project_id text NOT NULL)"))
    migrate.upgrade_engine(scene.engine)

    with read_only(scene.engine) as session:
        assert unwalled(session) == []


@pytest.mark.usefixtures("first_wall_is_gone")
def test_without_the_first_wall_no_foreign_row_is_read(scene: Scene) -> None:
    with read_only(scene.engine) as session:
        assert set(session.scalars(select(Job.project_id))) == {
            scene.ours.project_id,
            scene.theirs.project_id,
        }

    with read_only(scene.bound()) as session:
        assert set(session.scalars(select(Job.project_id))) == {scene.ours.project_id}
        assert session.get(Job, scene.theirs.ids["job_id"]) is None
        assert session.get(Secret, scene.theirs.ids["secret_id"]) is None
        for table in WALLED:
            found = set(session.scalars(text(f"SELECT project_id FROM {table.name}")))
            assert found <= {scene.ours.project_id}, table.name
        assert session.scalars(text("SELECT id FROM projects")).all() == [scene.ours.project_id]


@pytest.mark.usefixtures("first_wall_is_gone")
def test_without_the_first_wall_no_foreign_row_is_changed_removed_or_made(scene: Scene) -> None:
    with transaction(scene.bound()) as session:
        for change in ("UPDATE jobs SET priority = 5", "DELETE FROM secrets", "DELETE FROM uploads"):
            foreign = {"theirs": scene.theirs.project_id}
            changed = session.execute(text(f"{change} WHERE project_id = :theirs RETURNING id"), foreign)
            assert changed.all() == [], change
    moved = text("UPDATE secrets SET project_id = :theirs")
    with pytest.raises(DBAPIError, match="row-level security"), transaction(scene.bound()) as session:
        session.execute(moved, {"theirs": scene.theirs.project_id})


def test_without_a_setting_there_are_no_rows(scene: Scene) -> None:
    with scene.engine.connect() as connection:
        for table in ("projects", *(table.name for table in WALLED)):
            assert connection.scalar(text(f"SELECT count(*) FROM {table}")) == 0, table
        with pytest.raises(DBAPIError, match="row-level security"):
            connection.execute(text("INSERT INTO projects (id, name, created_at) VALUES ('p', 'p', now())"))


def test_a_pooled_connection_carries_nothing_on(url: str, scene: Scene) -> None:
    """As many polls of two projects, one after the other, on one connection."""
    single = create_engine(f"{url}?application_name=single")
    seen = text("SELECT count(DISTINCT project_id), min(project_id) FROM jobs")
    for tenant in (scene.ours, scene.theirs) * 3:
        with read_only(of_project(single, tenant.project_id)) as session:
            assert tuple(session.execute(seen).one()) == (1, tenant.project_id)
        with single.connect() as connection:
            assert connection.execute(seen).one()[0] == 0
    with read_only(single) as session:
        assert session.execute(seen).one()[0] == 2
    single.dispose()


def test_an_error_and_a_savepoint_leave_the_wall_standing(scene: Scene) -> None:
    with transaction(scene.bound()) as session:
        with pytest.raises(DBAPIError), session.begin_nested():
            session.execute(text("SELECT 1 / 0"))
        seen = session.scalars(text("SELECT DISTINCT project_id FROM jobs")).all()
    assert seen == [scene.ours.project_id]


def test_the_service_works_behind_it(scene: Scene) -> None:
    """`furnish` ran jobs to their end as this role; here is what requests see of it."""
    client = TestClient(scene.app, headers=scene.ours.headers)

    jobs = client.get("/v1/jobs").json()["data"]
    foreign = client.get(f"/v1/jobs/{scene.theirs.ids['job_id']}")
    events = client.get(f"/v1/jobs/{scene.ours.ids['job_id']}/events").json()["data"]

    statuses = {job["id"]: job["status"] for job in jobs}
    assert statuses[scene.ours.ids["job_id"]] == "succeeded"
    assert scene.theirs.ids["job_id"] not in statuses
    assert foreign.status_code == 404
    assert events


def test_the_doctor_tells_who_is_not_held(scene: Scene, postgres_database: str) -> None:
    superuser = create_engine(postgres_database)
    with scene.engine.begin() as connection:
        connection.execute(text("ALTER TABLE jobs NO FORCE ROW LEVEL SECURITY"))
    opened = wall_findings(scene.engine, scene.settings)
    migrate.upgrade_engine(scene.engine)

    assert opened == [(Level.WARNING, "PostgreSQL does not keep projects apart in jobs")]
    assert wall_findings(scene.engine, scene.settings)[0][0] is Level.OK
    [(level, message)] = wall_findings(superuser, scene.settings)
    assert (level, "bypasses" in message) == (Level.WARNING, True)
    superuser.dispose()


def wall_findings(engine: Engine, settings: Settings) -> list[tuple[Level, str]]:
    found = check_database(engine, settings)
    return [(finding.level, finding.detail) for finding in found if finding.check == "projects"]


def test_claims_read_the_same_index_behind_it(scene: Scene) -> None:
    """The policy is no reason to read every step: it is asked once, beside the index."""
    given.submit(scene.engine, scene.ours.project_id)
    with transaction(scene.engine) as session:
        session.execute(text("SET LOCAL enable_seqscan = off"))
        query = "SELECT id FROM steps WHERE project_id = 'p' AND resource = 'cpu' AND status = 'queued'"
        plan = "\n".join(
            session.scalars(text(f"EXPLAIN {query} AND ready_at IS NOT NULL ORDER BY claim_rank LIMIT 1"))
        )

    assert "ix_steps_claimable" in plan
