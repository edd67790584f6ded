"""The statements behind the life of jobs and steps. Every move is one guarded UPDATE.

Whoever moves steps of a job holds the lock of its row first (`lock_job`): two needs that succeed at once
cannot both miss that they were the last, events get their numbers in order, and no two transactions wait
for each other. Heartbeats and progress touch only their own running step and take no such lock.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, exists, select, update
from sqlalchemy.orm import Session, aliased

from app.db.base import db_time, new_id
from app.db.json_values import storable
from app.db.models import Event, Job, OutboxMessage, Step, StepNeed
from app.jobs.announcements import announce_event
from app.jobs.lifecycle import (
    FINISHED_JOBS,
    UNFINISHED_STEPS,
    CancelReason,
    Desired,
    JobStatus,
    StepStatus,
    is_allowed,
    job_status,
)
from app.jobs.progress import StepPlace, speaker

_NO_PROGRESS_YET: dict[str, Any] = {
    "done": None,
    "total": None,
    "unit": None,
    "tokens_done": None,
    "first_done": None,
    "first_progress_at": None,
    "progress_at": None,
}


def lock_job(session: Session, job_id: str) -> Job:
    """The job, with its row locked until the transaction ends."""
    # NO KEY UPDATE: rows that refer to the job can still be inserted by whoever holds a step of it.
    query = select(Job).where(Job.id == job_id).with_for_update(key_share=True)
    return session.scalars(query.execution_options(populate_existing=True)).one()


def lock_job_of_step(session: Session, step_id: str) -> Job | None:
    """Lock the job that a step belongs to; None when there is no such step."""
    job_id = session.scalar(select(Step.job_id).where(Step.id == step_id))
    return None if job_id is None else lock_job(session, job_id)


def get_step(session: Session, step_id: str) -> Step:
    """The step as the database has it now."""
    return session.scalars(
        select(Step).where(Step.id == step_id).execution_options(populate_existing=True)
    ).one()


def move_step(
    session: Session,
    step_id: str,
    *,
    source: StepStatus,
    target: StepStatus,
    attempt: int,
    where: ColumnElement[bool] | None = None,
    **values: Any,
) -> bool:
    """Move one step; False when it is no longer in `source` at `attempt`, so that somebody else moved it."""
    assert is_allowed(source, target), f"{source} -> {target}"
    statement = update(Step).where(Step.id == step_id, Step.status == source, Step.attempt == attempt)
    if where is not None:
        statement = statement.where(where)
    statement = statement.values(status=target, **values).returning(Step.id)
    return session.scalar(statement.execution_options(synchronize_session=False)) is not None


def move_steps(
    session: Session,
    job_id: str,
    *,
    sources: Collection[StepStatus],
    target: StepStatus,
    where: ColumnElement[bool] | None = None,
    **values: Any,
) -> list[str]:
    """Move every step of a job that is in one of `sources`; the names of those that moved."""
    assert all(is_allowed(source, target) for source in sources), f"{sources} -> {target}"
    statement = update(Step).where(Step.job_id == job_id, Step.status.in_(sources))
    if where is not None:
        statement = statement.where(where)
    statement = statement.values(status=target, **values).returning(Step.name)
    return sorted(session.scalars(statement.execution_options(synchronize_session=False)))


def queue_ready_steps(session: Session, job: Job) -> list[str]:
    """Queue the pending steps whose needs have all succeeded, and ring for them unless the job is paused."""
    needed = aliased(Step)
    unmet = exists().where(
        StepNeed.step_id == Step.id,
        StepNeed.needed_step_id == needed.id,
        needed.status != StepStatus.SUCCEEDED,
    )
    statement = (
        update(Step)
        .where(Step.job_id == job.id, Step.status == StepStatus.PENDING, ~unmet)
        .values(status=StepStatus.QUEUED, ready_at=ready_at(job), status_reason=None, **_NO_PROGRESS_YET)
        .returning(Step.name, Step.resource)
        .execution_options(synchronize_session=False)
    )
    rows = session.execute(statement).all()
    for row in rows:
        ring_for(session, job, row.resource)
    return sorted(row.name for row in rows)


def hold_queued_steps(session: Session, job: Job) -> None:
    """Let no worker claim the steps that wait for one."""
    statement = update(Step).where(Step.job_id == job.id, Step.status == StepStatus.QUEUED)
    session.execute(statement.values(ready_at=None).execution_options(synchronize_session=False))


def offer_held_steps(session: Session, job: Job) -> None:
    """Undo `hold_queued_steps`, and ring."""
    statement = (
        update(Step)
        .where(Step.job_id == job.id, Step.status == StepStatus.QUEUED, Step.ready_at.is_(None))
        .values(ready_at=db_time())
        .returning(Step.resource)
    )
    for resource in session.scalars(statement.execution_options(synchronize_session=False)).all():
        ring(session, resource)


def ready_at(job: Job, *, in_seconds: float = 0.0) -> ColumnElement[datetime] | None:
    """From when on a queued step of the job may be claimed; None while its user has paused it."""
    return None if job.desired == Desired.PAUSE else db_time(in_seconds)


def ring_for(session: Session, job: Job, resource: str, *, after_seconds: float = 0.0) -> None:
    """Ring, unless the job is paused and there is nothing to be had."""
    if job.desired != Desired.PAUSE:
        ring(session, resource, after_seconds=after_seconds)


def cancel_waiting_steps(session: Session, job: Job, *, reason: CancelReason) -> list[str]:
    """End the steps of a job that no worker has."""
    return move_steps(
        session,
        job.id,
        sources=(StepStatus.PENDING, StepStatus.QUEUED),
        target=StepStatus.CANCELLED,
        status_reason=reason,
        finished_at=db_time(),
    )


def refresh_job(session: Session, job: Job, *, desired: Desired | None = None, **values: Any) -> None:
    """Store the status and stage that follow from the steps; a change of status goes into the history.

    What else is to change of a finished job changes in the same statement, which takes it up again.
    """
    if desired is not None:
        values["desired"] = desired
    columns = (Step.status, Step.stage, Step.weight, Step.position)
    steps = [StepPlace(*row) for row in session.execute(select(*columns).where(Step.job_id == job.id))]
    status = job_status([StepStatus(step.status) for step in steps], desired or Desired(job.desired))
    speaking = speaker(steps)
    before = JobStatus(job.status)
    if status != before:
        # Before the status: a finished job does not change any more.
        details = {"from": before, "to": status}
        add_event(session, job, "job_status_changed", f"job is {status}", details=details)
        values |= {"status": status, "finished_at": db_time() if status in FINISHED_JOBS else None}
        if job.started_at is None and status is JobStatus.RUNNING:
            values["started_at"] = db_time()
    if (stage := speaking.stage if speaking else None) != job.stage:
        values["stage"] = stage
    if values:
        statement = update(Job).where(Job.id == job.id, Job.status == before).values(**values)
        session.execute(statement.execution_options(synchronize_session=False))
        session.refresh(job)


def add_event(
    session: Session,
    job: Job,
    event_type: str,
    message: str,
    *,
    step_id: str | None = None,
    attempt: int | None = None,
    details: dict[str, Any] | None = None,
) -> None:
    """Append to the history of a job, and tell its project's webhooks. The statement locks the job's row."""
    statement = update(Job).where(Job.id == job.id).values(last_event_seq=Job.last_event_seq + 1)
    seq = session.scalars(
        statement.returning(Job.last_event_seq).execution_options(synchronize_session=False)
    ).one()
    event = Event(
        id=new_id("evt"),
        project_id=job.project_id,
        job_id=job.id,
        seq=seq,
        type=event_type,
        step_id=step_id,
        attempt=attempt,
        message=storable(message),
        details=storable(details or {}),
    )
    session.add(event)
    announce_event(session, job, event_id=event.id, event_type=event_type, seq=seq, details=event.details)


def ring(session: Session, resource: str, *, after_seconds: float = 0.0) -> None:
    """Ask the workers of a queue to look at the database, once this transaction is committed."""
    session.add(OutboxMessage(resource=resource, due_at=db_time(after_seconds)))


def needs_gpu(session: Session, job_id: str) -> bool:
    """Whether a step of the job that has yet to run needs a GPU."""
    ahead = (Step.job_id == job_id, Step.resource == "gpu", Step.status.in_(UNFINISHED_STEPS))
    return bool(session.scalar(select(exists().where(*ahead))))


def has_failed_step(session: Session, job_id: str) -> bool:
    """Whether a step of the job failed, so that the rest of it stops."""
    return bool(
        session.scalar(select(exists().where(Step.job_id == job_id, Step.status == StepStatus.FAILED)))
    )
