"""The role that docker/postgres/fusion.sql makes owns the service's tables, and the wall holds it."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, make_url, select, text

from app.db import migrate
from app.db.models import Job
from app.db.row_security import unwalled
from app.db.session import create_engine, read_only
from app.db.tenancy import of_project
from app.operations.doctor.database import check_database
from app.operations.doctor.findings import Level
from app.settings import Settings
from tests.app.jobs import builders as given
from tests.support.services import postgres_binaries, private_postgres

SCRIPT = Path(__file__).parents[3] / "docker/postgres/fusion.sql"
PASSWORD = "it's a password"


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server of its own, because roles belong to all of it; the parameter is its superuser."""
    with private_postgres(superuser=request.param) as url:
        yield url


@pytest.mark.parametrize("server", ["postgres"], indirect=True)
def test_a_new_volume_gets_a_role_that_the_wall_holds(server: str, tmp_path: Path) -> None:
    run_script(server)
    run_script(server)
    engine = service_engine(server)
    migrate.upgrade_engine(engine, worker_role="fusion_worker")

    projects = two_projects_with_a_job(engine)

    assert_wall_holds(engine, projects, tmp_path)
    engine.dispose()
    # (superuser, may bypass the wall, has a password)
    assert roles_of(server) == {
        "fusion": (False, False, True),
        "fusion_worker": (False, False, True),
        "postgres": (True, True, False),
    }


@pytest.mark.parametrize("server", ["fusion"], indirect=True)
def test_a_volume_from_before_is_taken_along(server: str, tmp_path: Path) -> None:
    psql(server, "--command", "CREATE DATABASE fusion")
    engine = service_engine(server)
    migrate.upgrade_engine(engine)
    projects = two_projects_with_a_job(engine)
    before = level_of_wall(engine, tmp_path)
    engine.dispose()

    # As docs/operations.md says.
    psql(server, "--command", "CREATE ROLE postgres SUPERUSER LOGIN")
    server_of_postgres = make_url(server).set(username="postgres").render_as_string()
    run_script(server_of_postgres)
    engine = service_engine(server)
    migrate.upgrade_engine(engine)

    assert before is Level.WARNING
    assert_wall_holds(engine, projects, tmp_path)
    given.submit(engine, projects[0])
    engine.dispose()
    assert roles_of(server_of_postgres) == {
        "fusion": (False, False, True),
        "fusion_superuser": (True, True, False),
        "fusion_worker": (False, False, True),
        "postgres": (True, False, False),
    }


def psql(server: str, *words: str) -> None:
    url = make_url(server)
    command = [str(postgres_binaries() / "psql"), "--no-psqlrc", "--no-password", "--set=ON_ERROR_STOP=1"]
    where = [f"--host={url.host}", f"--port={url.port}", f"--username={url.username}", "--dbname=postgres"]
    subprocess.run(
        [*command, *where, *words],
        env={**os.environ, "POSTGRES_PASSWORD": PASSWORD},
        check=True,
        capture_output=True,
    )


def run_script(server: str) -> None:
    """As the image of PostgreSQL does."""
    psql(server, f"--file={SCRIPT}")


def service_engine(server: str) -> Engine:
    url = make_url(server).set(username="fusion", database="fusion", password=PASSWORD)
    return create_engine(url.render_as_string(hide_password=False))


def roles_of(server: str) -> dict[str, tuple[bool, bool, bool]]:
    engine = create_engine(server)
    query = "SELECT rolname, rolsuper, rolbypassrls, rolpassword IS NOT NULL FROM pg_authid WHERE oid = 10"
    with engine.connect() as connection:
        rows = connection.execute(
            text(f"{query} OR rolname IN ('fusion', 'fusion_worker', 'postgres')")
        ).all()
    engine.dispose()
    return {name: tuple(rest) for name, *rest in rows}


def two_projects_with_a_job(engine: Engine) -> list[str]:
    projects = [given.make_project(engine, name) for name in ("ours", "theirs")]
    for project_id in projects:
        given.submit(engine, project_id)
    return projects


def assert_wall_holds(engine: Engine, projects: list[str], folder: Path) -> None:
    """Also against SQL that goes around the first wall."""
    ours, _ = projects
    with read_only(engine) as session:
        assert unwalled(session) == []
        assert set(session.scalars(select(Job.project_id))) == set(projects)
    with read_only(of_project(engine, ours)) as session:
        assert session.scalars(text("SELECT project_id FROM jobs")).all() == [ours]
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM jobs")) == 0
        owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"
        assert connection.scalars(text(owners)).all() == ["fusion"]
    assert level_of_wall(engine, folder) is Level.OK


def level_of_wall(engine: Engine, folder: Path) -> Level:
    """What `fusion doctor` thinks of it."""
    settings = Settings(data_dir=folder, database_url=engine.url.render_as_string(hide_password=False))
    [found] = [finding for finding in check_database(engine, settings) if finding.check == "projects"]
    return found.level
