"""Whether the service can do its work: the database answers, its tables are current, and work moves."""

from collections.abc import Iterable
from typing import Final

from sqlalchemy import Engine, or_, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.db import migrate
from app.db.base import db_time
from app.db.models import Job, Project, Step, Worker
from app.db.session import read_only
from app.jobs.fair_share import Means
from app.jobs.lifecycle import Desired, StepStatus
from app.jobs.workers import workers_heard_of
from app.quotas.usage import may_run_more, running_jobs

_NOT_MIGRATED: Final = "the tables are not those of this release; run the migrations"
_UNKNOWN: Final = "unknown until the database is in order"


def find_obstacles(engine: Engine, *, lease_seconds: int, stuck_seconds: int) -> dict[str, str | None]:
    """What stands in the way, by name of the check; None where nothing does.

    What cannot be known stands in the way, too.

    Work does not move when a step has been ready for longer than `stuck_seconds` while no worker that could
    take it is alive, or while one that could is idle. A queue behind busy workers is normal, and so is one
    that the quotas of its project hold back.
    """
    try:
        if not migrate.is_current(engine):
            return {"database": None, "migrations": _NOT_MIGRATED, "work": _UNKNOWN}
        with read_only(engine) as session:
            stuck = _stuck_resources(session, lease_seconds=lease_seconds, stuck_seconds=stuck_seconds)
    except DBAPIError as error:
        reason = type(error.orig or error).__name__
        outage = f"the database does not answer ({reason})"
        return {"database": outage, "migrations": _UNKNOWN, "work": _UNKNOWN}
    return {"database": None, "migrations": None, "work": _describe(stuck)}


def live_workers(session: Session, *, lease_seconds: int) -> list[Worker]:
    """Workers that were heard of lately."""
    return workers_heard_of(session, within_seconds=2.0 * lease_seconds)


def _stuck_resources(session: Session, *, lease_seconds: int, stuck_seconds: int) -> list[tuple[str, bool]]:
    """(resource, whether a live worker could take it) of every queue in which work does not move."""
    waiting = (
        select(Step.project_id, Step.resource)
        .join(Job, Job.id == Step.job_id)
        .join(Project, Project.id == Step.project_id)
        .where(
            Step.status == StepStatus.QUEUED,
            Job.desired == Desired.RUN,
            Step.ready_at < db_time(-stuck_seconds),
            or_(may_run_more(), Step.job_id.in_(running_jobs(Project.id))),
        )
        .distinct()
    )
    found = Means(session)
    resources = sorted(
        {
            row.resource
            for row in session.execute(waiting)
            if found.allow(row.project_id, resource=row.resource)
        }
    )
    if not resources:
        return []
    busy = set(
        session.scalars(
            select(Step.worker_id).where(Step.status == StepStatus.RUNNING, Step.lease_ends_at > db_time())
        )
    )
    workers = live_workers(session, lease_seconds=lease_seconds)
    stuck = []
    for resource in resources:
        fitting = [worker.id for worker in workers if resource in worker.resources]
        if not fitting or any(worker_id not in busy for worker_id in fitting):
            stuck.append((resource, bool(fitting)))
    return stuck


def _describe(stuck: Iterable[tuple[str, bool]]) -> str | None:
    lines = [
        f"steps wait for a {resource} worker, and "
        + ("idle ones do not claim them" if has_workers else "none is alive")
        for resource, has_workers in stuck
    ]
    return "; ".join(lines) or None
