"""Database: it answers, its tables are current, its clock agrees, and steps move."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Engine, func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.db import migrate
from app.db.base import db_time
from app.db.models import Job, OutboxMessage, Step, Worker
from app.db.row_security import is_bypassed, unwalled
from app.db.session import read_only
from app.jobs.lifecycle import Desired, StepStatus
from app.operations.doctor.findings import Finding, error, ok, warning
from app.operations.readiness import live_workers
from app.settings import Settings

_MAX_SKEW_SECONDS: Final = 2.0


def check_database(engine: Engine, settings: Settings) -> Iterator[Finding]:
    """Everything that the database can tell; one finding when it does not answer."""
    address = engine.url.render_as_string(hide_password=True)
    try:
        with engine.connect() as connection:
            version = ".".join(str(part) for part in connection.dialect.server_version_info or ())
        yield ok("database", f"{engine.dialect.name} {version} answers at {address}")
        if not migrate.is_current(engine):
            yield error(
                "migrations",
                "the tables are not those of this release",
                hint="run `python -m app.db.migrate` with the variables of the API",
            )
            return
        yield ok("migrations", "the tables are those of this release")
        with read_only(engine) as session:
            yield _check_clock(session)
            yield from _check_wall(session)
            yield from _check_work(session, settings)
    except DBAPIError as failure:
        reason = " ".join(str(failure.orig).split())
        yield error(
            "database",
            f"{address} does not answer: {reason}",
            hint="start the database, or mend FUSION_DATABASE_URL",
        )


def _check_wall(session: Session) -> Iterator[Finding]:
    """On PostgreSQL: whether it keeps the rows of projects apart, too."""
    if session.get_bind().dialect.name != "postgresql":
        return
    if open_tables := sorted(table for table, _ in unwalled(session)):
        yield warning(
            "projects",
            f"PostgreSQL does not keep projects apart in {', '.join(open_tables)}",
            hint="run `python -m app.db.migrate` as the owner of the tables",
        )
    elif is_bypassed(session):
        yield warning(
            "projects",
            "this role bypasses row-level security: only the service itself keeps projects apart",
            hint="connect as a role without SUPERUSER and BYPASSRLS (docs/access.md)",
        )
    else:
        yield ok("projects", "PostgreSQL keeps their rows apart, too")


def _check_clock(session: Session) -> Finding:
    before = datetime.now(UTC)
    by_database = session.scalars(select(db_time())).one()
    after = datetime.now(UTC)
    # The database read its clock between the two: only what lies outside is skew.
    skew = max((before - by_database).total_seconds(), (by_database - after).total_seconds(), 0.0)
    if skew > _MAX_SKEW_SECONDS:
        return warning(
            "clock",
            f"this machine and the database disagree by {skew:.1f} s",
            hint="run an NTP client on both; leases go by the database's clock, ages of stored bytes do not",
        )
    return ok("clock", f"this machine and the database agree within {_MAX_SKEW_SECONDS:.0f} s")


def _check_work(session: Session, settings: Settings) -> Iterator[Finding]:
    workers = live_workers(session, lease_seconds=settings.lease_seconds)
    yield from _check_workers(session, workers, settings)
    num_expired = _count(
        session,
        Step.status == StepStatus.RUNNING,
        Step.lease_ends_at < db_time(-2 * settings.reconcile_seconds - settings.lease_seconds),
    )
    if num_expired:
        yield error(
            "leases",
            f"{num_expired} steps are running although their lease ended long ago",
            hint="nothing reconciles: start an API, a worker or `fusion housekeeper`",
        )
    else:
        yield ok("leases", "no step is held by a worker that fell silent")
    yield from _check_queues(session, workers, settings)
    num_rings = session.scalar(
        select(func.count()).where(OutboxMessage.due_at < db_time(-settings.stuck_seconds))
    )
    if num_rings:
        yield warning(
            "outbox",
            f"{num_rings} rings wait for longer than {settings.stuck_seconds} s",
            hint="nothing relays, or the broker is down; steps start by polling meanwhile",
        )


def _check_workers(session: Session, workers: list[Worker], settings: Settings) -> Iterator[Finding]:
    silent = [
        row.id for row in session.scalars(select(Worker)) if row.id not in {worker.id for worker in workers}
    ]
    if not workers:
        yield warning(
            "workers",
            "no worker was heard of lately",
            hint="start one: `fusion worker`, or celery -A workers.celery_app worker -Q cpu,gpu",
        )
    elif silent:
        yield warning(
            "workers",
            f"{len(workers)} are alive; silent since less than a day: {', '.join(sorted(silent)[:5])}",
            hint="normal after a restart; otherwise look at those machines",
        )
    else:
        yield ok("workers", f"{len(workers)} are alive")


def _check_queues(session: Session, workers: list[Worker], settings: Settings) -> Iterator[Finding]:
    waiting = (
        select(Step.resource, func.count())
        .join(Job, Job.id == Step.job_id)
        .where(Step.status == StepStatus.QUEUED, Job.desired == Desired.RUN)
        .group_by(Step.resource)
        .order_by(Step.resource)
    )
    able = {resource for worker in workers for resource in worker.resources}
    rows = session.execute(waiting).all()
    for resource, num in rows:
        if resource not in able:
            yield error(
                "queues",
                f"{num} steps wait for a {resource} worker, and none is alive",
                hint=f"start one: `fusion worker --queue {resource}`",
            )
        else:
            yield ok("queues", f"{num} steps wait for a {resource} worker")
    if not rows:
        yield ok("queues", "no step waits")


def _count(session: Session, *conditions: object) -> int:
    return session.scalar(select(func.count()).select_from(Step).where(*conditions)) or 0  # type: ignore[arg-type]
