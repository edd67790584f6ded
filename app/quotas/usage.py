"""What a project uses, as SQL: the same expressions refuse a request, hold a step back and fill `/v1/usage`.

Every file counts for itself, also where two have the same bytes and share their place on the disk.
"""

import functools
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Float,
    ScalarSelect,
    Select,
    SQLColumnExpression,
    and_,
    bindparam,
    cast,
    func,
    or_,
    select,
)
from sqlalchemy.orm import aliased

from app.db.base import db_time
from app.db.models import Artifact, Attempt, File, Job, Project, Step, UploadPart
from app.db.months import month_of, month_start, seconds_between

# Which states these are belongs to app.jobs, which asks here before it moves anything.
_WAITING_JOBS: Final = ("validating", "queued", "paused")
_RUNNING: Final = "running"
_SECONDS_PER_HOUR: Final = 3600.0

ProjectId = SQLColumnExpression[str] | str


def num_queued_jobs(project_id: ProjectId) -> ScalarSelect[int]:
    """Jobs that wait for their first step, or are paused."""
    of_project = (Job.project_id == project_id, Job.status.in_(_WAITING_JOBS), Job.deleted_at.is_(None))
    return select(func.count()).select_from(Job).where(*of_project).scalar_subquery()


def num_running_jobs(project_id: ProjectId) -> ScalarSelect[int]:
    """Jobs of which a step runs."""
    running = aliased(Step)
    query = select(func.count(running.job_id.distinct()))
    return query.where(running.project_id == project_id, running.status == _RUNNING).scalar_subquery()


def running_jobs(project_id: ProjectId) -> Select[str]:
    """Ids of those jobs."""
    running = aliased(Step)
    return select(running.job_id).where(running.project_id == project_id, running.status == _RUNNING)


def bytes_of_files(project_id: ProjectId) -> ScalarSelect[int]:
    return _sum(File.num_bytes, File.project_id == project_id)


def bytes_of_uploads(project_id: ProjectId) -> ScalarSelect[int]:
    """Parts of uploads that are no files yet."""
    return _sum(UploadPart.num_bytes, UploadPart.project_id == project_id)


def bytes_of_artifacts(project_id: ProjectId) -> ScalarSelect[int]:
    return _sum(Artifact.num_bytes, Artifact.project_id == project_id)


def stored_bytes(project_id: ProjectId) -> ColumnElement[int]:
    """All three."""
    return bytes_of_files(project_id) + bytes_of_uploads(project_id) + bytes_of_artifacts(project_id)


def gpu_hours(project_id: ProjectId) -> ColumnElement[float]:
    """Of the attempts that began in this month, until now for those that run."""
    seconds = func.coalesce(func.sum(attempt_seconds()), 0.0)
    query = (
        select(seconds)
        .select_from(Attempt)
        .join(Step, Step.id == Attempt.step_id)
        .where(Attempt.project_id == project_id, Attempt.started_at >= month_start(), Step.resource == "gpu")
    )
    return cast(query.correlate(Project).scalar_subquery() / _SECONDS_PER_HOUR, Float)


def attempt_seconds() -> ColumnElement[float]:
    """How long an attempt took, or takes so far."""
    return seconds_between(Attempt.started_at, func.coalesce(Attempt.ended_at, db_time()))


def compute_by_month(project_id: str, *, num_months: int) -> Select[str, str, float, int]:
    """(month, resource, seconds, attempts), the newest month first."""
    month = month_of(Attempt.started_at).label("month")
    return (
        select(
            month,
            Step.resource,
            func.sum(attempt_seconds()).label("seconds"),
            func.count().label("num_attempts"),
        )
        .join(Step, Step.id == Attempt.step_id)
        .where(Attempt.project_id == project_id, Attempt.started_at >= month_start(num_months - 1))
        .group_by(month, Step.resource)
        .order_by(month.desc(), Step.resource)
    )


def artifact_bytes_by_kind(project_id: str) -> Select[str, int]:
    """(kind, bytes)."""
    query = select(Artifact.kind, func.sum(Artifact.num_bytes).label("num_bytes"))
    return query.where(Artifact.project_id == project_id).group_by(Artifact.kind).order_by(Artifact.kind)


def may_run_more() -> ColumnElement[bool]:
    """Whether one more job of a row of `projects` may have a running step."""
    limit = Project.max_running_jobs
    return or_(limit.is_(None), num_running_jobs(Project.id) < limit)


def has_room() -> ColumnElement[bool]:
    """Whether what a row of `projects` stores is within its limit."""
    limit = Project.max_stored_bytes
    return or_(limit.is_(None), stored_bytes(Project.id) <= limit)


def has_gpu_hours() -> ColumnElement[bool]:
    """Whether a row of `projects` has GPU time left in this month."""
    limit = Project.max_gpu_hours_per_month
    return or_(limit.is_(None), gpu_hours(Project.id) < limit)


@functools.cache
def means() -> Select[bool, bool]:
    """Whether `project_id` has storage and GPU time left: (room, GPU hours).

    It adds up all that the project stores, so it is asked once for a project and not for every step.
    """
    query = select(has_room().label("room"), has_gpu_hours().label("gpu_hours"))
    return query.where(Project.id == bindparam("project_id"))


@functools.cache
def startable() -> Select[bool, bool]:
    """Whether the quotas of `project_id` let a step start of a job that runs nothing: (any step, a GPU's).

    Built once: to put it together takes longer than to run it.
    """
    any_step = and_(has_room(), may_run_more())
    gpu_step = and_(any_step, has_gpu_hours())
    return select(any_step.label("any_step"), gpu_step.label("gpu_step")).where(
        Project.id == bindparam("project_id")
    )


def _sum(num_bytes: Any, of_project: ColumnElement[bool]) -> ScalarSelect[int]:
    return select(func.coalesce(func.sum(num_bytes), 0)).where(of_project).scalar_subquery()
