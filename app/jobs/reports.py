"""What a running attempt reports: that it lives, how far it is, what it measured. All under its fence."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from app.db.base import db_time
from app.db.fence import hold_step, is_held
from app.db.json_values import storable
from app.db.models import Job, MetricPoint, Step
from app.jobs import repository
from app.jobs.lifecycle import Desired, Instruction
from app.jobs.workers import touch_worker


def heartbeat(session: Session, *, step_id: str, attempt: int, lease_seconds: int) -> Instruction:
    """Extend the lease and hear what to do."""
    # Rows are locked in the order worker, job, step, here as everywhere.
    touch_worker(session, session.scalar(select(Step.worker_id).where(is_held(step_id, attempt))))
    statement = (
        update(Step)
        .where(is_held(step_id, attempt))
        .values(lease_ends_at=db_time(lease_seconds))
        .returning(Step.job_id)
        .execution_options(synchronize_session=False)
    )
    job_id = session.scalar(statement)
    if job_id is None:
        return Instruction.LOST
    desired = session.scalars(select(Job.desired).where(Job.id == job_id)).one()
    if desired == Desired.CANCEL or repository.has_failed_step(session, job_id):
        return Instruction.CANCEL
    return Instruction.PAUSE if desired == Desired.PAUSE else Instruction.CONTINUE


def record_progress(
    session: Session, *, step_id: str, attempt: int, done: float, total: float, unit: str, tokens: int | None
) -> bool:
    """Store how far the attempt is."""
    statement = (
        update(Step)
        .where(is_held(step_id, attempt))
        .values(
            done=storable(float(done)),
            total=storable(float(total)),
            unit=storable(unit)[:40],
            tokens_done=func.coalesce(tokens, Step.tokens_done),
            first_done=func.coalesce(Step.first_done, storable(float(done))),
            first_progress_at=func.coalesce(Step.first_progress_at, db_time()),
            progress_at=db_time(),
        )
        .returning(Step.id)
    )
    return session.scalar(statement.execution_options(synchronize_session=False)) is not None


def record_metrics(
    session: Session, *, step_id: str, attempt: int, points: Sequence[tuple[int, Mapping[str, float]]]
) -> bool:
    """Store numbers by optimiser step; a repeated step replaces what an earlier attempt wrote."""
    job = repository.lock_job_of_step(session, step_id)
    if job is None or not hold_step(session, step_id=step_id, attempt=attempt):
        return False
    by_step = dict(points)
    session.execute(
        delete(MetricPoint).where(MetricPoint.step_id == step_id, MetricPoint.metric_step.in_(by_step)),
        execution_options={"synchronize_session": False},
    )
    for seq, (metric_step, values) in enumerate(by_step.items(), start=job.last_metric_seq + 1):
        session.add(
            MetricPoint(
                project_id=job.project_id,
                job_id=job.id,
                seq=seq,
                step_id=step_id,
                metric_step=metric_step,
                attempt=attempt,
                values=storable(dict(values)),
            )
        )
    job.last_metric_seq += len(by_step)
    session.flush()
    return True


def record_note(
    session: Session, *, step_id: str, attempt: int, message: str, details: Mapping[str, Any]
) -> bool:
    """Add a line of the attempt's to the job's history."""
    job = repository.lock_job_of_step(session, step_id)
    if job is None or not hold_step(session, step_id=step_id, attempt=attempt):
        return False
    repository.add_event(
        session, job, "note", message, step_id=step_id, attempt=attempt, details=dict(details)
    )
    return True
