"""In which order steps are handed out.

Between projects the one with the fewest running steps goes first, and of several the one that was served
longest ago: however many jobs a project submits, another project's first job is next. Within a project its
jobs' priority decides, then their age. A priority therefore never takes from another project.

The cost is a few index probes per project, however many steps wait (`ix_steps_claimable`).

A project that has used up its GPU hours or its storage is passed over, and one that runs as many jobs as it
may gets steps of those jobs only. What it uses is looked at only where it has a limit, and what it stores and
computed is added up only once its turn has come.
"""

import functools
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, case, func, literal_column, or_, select, union_all
from sqlalchemy.orm import Session

from app.db.base import db_time
from app.db.locks import try_lock, wait_for_lock
from app.db.models import Attempt, Job, Project, Step
from app.jobs.lifecycle import Desired, StepStatus
from app.quotas.usage import may_run_more, means, running_jobs

CLAIM_ORDER = (Step.claim_rank, Step.job_id, Step.position)
"""Within a project and a resource; as in the index `ix_steps_claimable`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """The next step of a project on one resource."""

    step_id: str
    job_id: str
    project_id: str
    resource: str
    runs_few: bool
    """Whether the project has a limit of running jobs."""
    has_means: bool
    """Whether it has no limit of storage or GPU hours, which are yet to be looked at otherwise."""


def candidates(session: Session, resources: Collection[str]) -> list[Candidate]:
    """Projects with a step to claim, the one whose turn it is first."""
    return [
        Candidate(
            step_id=row.id,
            job_id=row.job_id,
            project_id=row.project_id,
            resource=row.resource,
            runs_few=row.runs_few,
            has_means=row.has_means,
        )
        for row in session.execute(_candidates(tuple(sorted(resources))))
    ]


@functools.cache
def _candidates(resources: tuple[str, ...]) -> Select[Any]:
    """Built once: to put it together takes longer than to run it."""
    heads = union_all(*(_heads(resource) for resource in resources)).subquery()
    running = (
        select(Step.project_id, func.count().label("num_running"))
        .where(Step.status == StepStatus.RUNNING, Step.resource.in_(resources))
        .group_by(Step.project_id)
        .subquery()
    )
    served_at = (
        select(func.max(Attempt.started_at)).where(Attempt.project_id == heads.c.project_id).scalar_subquery()
    )
    return (
        select(
            *(Step.id, Step.job_id, Step.project_id, Step.resource),
            *(heads.c.runs_few, heads.c.has_means),
        )
        .select_from(heads)
        .join(Step, Step.id == heads.c.step_id)
        .outerjoin(running, running.c.project_id == heads.c.project_id)
        .order_by(func.coalesce(running.c.num_running, 0), served_at.asc().nulls_first(), *CLAIM_ORDER)
    )


class Means:
    """Which projects have storage and GPU time left, looked up when it matters, and once."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._found: dict[str, tuple[bool, bool]] = {}

    def allow(self, project_id: str, *, resource: str) -> bool:
        """Whether a step of the project may start."""
        if project_id not in self._found:
            row = self._session.execute(means(), {"project_id": project_id}).one()
            self._found[project_id] = (bool(row.room), bool(row.gpu_hours))
        has_room, has_gpu_hours = self._found[project_id]
        return has_room and (has_gpu_hours or resource != "gpu")


def next_step(session: Session, candidate: Candidate, *, wait: bool) -> tuple[str, str] | None:
    """(step, job) to claim next for a candidate, with the job's row locked.

    What somebody else is writing to is passed over. With `wait` it is waited for, and the step may be gone
    by then.
    """
    if session.get_bind().dialect.name == "sqlite":
        # One writer: nobody holds anything, and nothing has moved since the candidates were read.
        return candidate.step_id, candidate.job_id
    if not candidate.runs_few:
        return _lock_next(session, candidate, wait=wait)
    # One claim of such a project at a time, or two would both be its last. The savepoint lets go of the lock
    # where nothing is found: whoever goes on to wait for something else must not hold it.
    name = ("running_jobs", candidate.project_id)
    with session.begin_nested() as attempt:
        if wait:
            wait_for_lock(session, *name)
        is_alone = wait or try_lock(session, *name)
        found = _lock_next(session, candidate, wait=wait) if is_alone else None
        if found is None:
            attempt.rollback()
    return found


def is_claimable() -> ColumnElement[bool]:
    """Whether a step may be claimed now. Spelled out as in the index, or no planner would use it."""
    queued = Step.status == literal_column(f"'{StepStatus.QUEUED}'")
    return and_(queued, Step.ready_at.is_not(None), Step.ready_at <= db_time())


def _lock_next(session: Session, candidate: Candidate, *, wait: bool) -> tuple[str, str] | None:
    query = (
        select(Step.id, Step.job_id)
        .join(Job, Job.id == Step.job_id)
        .where(
            Step.project_id == candidate.project_id,
            Step.resource == candidate.resource,
            is_claimable(),
            Job.desired == Desired.RUN,
        )
        .order_by(*CLAIM_ORDER)
        .limit(1)
    )
    if candidate.runs_few:
        may_run = or_(may_run_more(), Step.job_id.in_(running_jobs(candidate.project_id)))
        query = query.join(Project, Project.id == Step.project_id).where(may_run)
    # Never wait with a step's lock in hand: everybody else locks the job first.
    locked = (Job,) if wait else (Job, Step)
    query = query.with_for_update(key_share=True, of=locked, skip_locked=not wait)
    row = session.execute(query).one_or_none()
    return None if row is None else (row.id, row.job_id)


def _heads(resource: str) -> Select[Any]:
    """The next step of every project on one resource that its quotas let start."""
    first = (
        select(Step.id)
        .where(Step.project_id == Project.id, Step.resource == resource, is_claimable())
        .order_by(*CLAIM_ORDER)
        .limit(1)
    )
    any_job = first.correlate(Project).scalar_subquery()
    job_that_runs = (
        first.where(Step.job_id.in_(running_jobs(Project.id))).correlate(Project).scalar_subquery()
    )
    limits = (Project.max_stored_bytes, Project.max_gpu_hours_per_month)
    return select(
        Project.id.label("project_id"),
        Project.max_running_jobs.is_not(None).label("runs_few"),
        and_(*(limit.is_(None) for limit in limits)).label("has_means"),
        case((may_run_more(), any_job), else_=job_that_runs).label("step_id"),
    )
