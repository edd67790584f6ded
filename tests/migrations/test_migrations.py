"""Migrations up equal the models, and come down again, on both databases."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, inspect, select, text

from app.db import migrate
from app.db.base import Base
from app.db.models import Job
from app.db.session import create_engine, read_only, transaction


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    url = f"sqlite:///{tmp_path / 'test.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_database")
    engine = create_engine(url)
    yield engine
    engine.dispose()


def tables(engine: Engine) -> set[str]:
    return set(inspect(engine).get_table_names()) - {"alembic_version"}


def test_up_gives_exactly_the_models(empty: Engine) -> None:
    migrate.upgrade_engine(empty)

    with empty.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    assert Job.__tablename__ in tables(empty)


def test_down_leaves_nothing(empty: Engine) -> None:
    migrate.upgrade_engine(empty)

    migrate.downgrade_engine(empty, revision="base")

    assert tables(empty) == set()


def test_a_database_is_current_only_after_its_migrations(empty: Engine) -> None:
    before = migrate.is_current(empty)
    migrate.upgrade_engine(empty)

    assert (before, migrate.is_current(empty)) == (False, True)


def test_processes_that_start_at_once_all_find_the_tables(empty: Engine) -> None:
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: migrate.upgrade_engine(empty), range(3)))

    assert tables(empty) == set(Base.metadata.tables)


def test_jobs_of_earlier_releases_are_found_by_filters(empty: Engine) -> None:
    migrate.upgrade_engine(empty, revision="0006")
    spec = json.dumps({"strategy": {"preset": "paper"}})
    job = "('{id}', 'p', 'old', '{spec}', 'd', '{status}', 'run', 1, 0, 0, {parent}, '2026-01-01 00:00:00')"
    step = "('{job}-{name}', '{job}', 'p', {position}, '{name}', '{name}', 'cpu', 1, '{status}', 1, 0)"
    jobs = [
        job.format(id="job-1", spec=spec, status="running", parent="NULL"),
        job.format(id="job-2", spec=spec, status="succeeded", parent="'job-1'"),
        job.format(id="job-3", spec="{}", status="queued", parent="'job-2'"),
    ]
    steps = [
        step.format(job="job-1", name="prepare", position=0, status="succeeded"),
        step.format(job="job-1", name="extract", position=1, status="running"),
        step.format(job="job-2", name="prepare", position=0, status="succeeded"),
        step.format(job="job-3", name="prepare", position=0, status="queued"),
    ]
    with transaction(empty) as session:
        session.execute(
            text("INSERT INTO projects (id, name, created_at) VALUES ('p', 'p', '2026-01-01 00:00:00')")
        )
        columns = "id, project_id, name, spec, spec_digest, status, desired, priority, last_event_seq"
        columns += ", last_metric_seq, cloned_from_id, created_at"
        # Not `text`: it would take the colons in the JSON for parameters.
        session.connection().exec_driver_sql(f"INSERT INTO jobs ({columns}) VALUES {', '.join(jobs)}")
        columns = "id, job_id, project_id, position, name, stage, resource, weight, status, attempt"
        columns += ", forgiven_attempts, created_at"
        rows = ", ".join(row[:-1] + ", '2026-01-01 00:00:00')" for row in steps)
        session.execute(text(f"INSERT INTO steps ({columns}) VALUES {rows}"))

    migrate.upgrade_engine(empty)

    with read_only(empty) as session:
        found = session.execute(
            select(Job.search_text, Job.strategy, Job.stage, Job.root_job_id).order_by(Job.id)
        )
        assert [tuple(row) for row in found] == [
            ("old", "paper", "extract", None),
            ("old", "paper", None, "job-1"),
            ("old", "default", "prepare", "job-1"),
        ]


def test_a_migration_gives_way_and_begins_again(
    postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody writes to `jobs` for longer than a migration waits for it."""
    monkeypatch.setattr(migrate, "_LOCK_SECONDS", 1)
    engine = create_engine(postgres_database)
    migrate.upgrade_engine(engine, revision="0008")
    with engine.connect() as writer, ThreadPoolExecutor(1) as pool:
        writer.execute(text("LOCK TABLE jobs IN ROW EXCLUSIVE MODE"))
        upgrading = pool.submit(migrate.upgrade_engine, engine)
        time.sleep(1.5)
        assert not upgrading.done()
        writer.rollback()
        upgrading.result(timeout=60)

    assert migrate.is_current(engine)
    engine.dispose()
