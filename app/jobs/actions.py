"""What a user asks of a job that exists. `lifecycle.why_refused` decides what may be asked when."""

from typing import Any, Final

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.db.base import is_id
from app.db.models import Job, Step
from app.errors import Conflict, NotFound
from app.jobs import repository
from app.jobs.lifecycle import (
    FINISHED_JOBS,
    UNFINISHED_STEPS,
    Action,
    CancelReason,
    Desired,
    JobStatus,
    StepStatus,
    why_refused,
)
from app.quotas.enforcement import require_place_in_queue

MIN_PRIORITY: Final = -10
MAX_PRIORITY: Final = 10


def get_job(session: Session, *, project_id: str, job_id: str) -> Job:
    """A job of the project.

    Raises:
        NotFound: there is none; a job of another project is none.
    """
    job = None
    if is_id(job_id, prefix="job"):
        job = session.scalar(select(Job).where(Job.id == job_id, Job.project_id == project_id))
    if job is None or job.deleted_at is not None:
        raise no_job(job_id)
    return job


def lock_job(session: Session, *, project_id: str, job_id: str) -> Job:
    """A job of the project, locked until the transaction ends.

    Raises:
        NotFound: there is none, or none any more.
    """
    job = repository.lock_job(session, get_job(session, project_id=project_id, job_id=job_id).id)
    if job.deleted_at is not None:
        raise no_job(job_id)
    return job


def no_job(job_id: str) -> NotFound:
    """The answer for a job that its asker shall know nothing of."""
    return NotFound(f"there is no job {job_id!r}", code="job_not_found")


def request_cancel(session: Session, *, project_id: str, job_id: str) -> Job:
    """Stop a job: what waits ends now, what runs hears it by its next heartbeat. A finished job stays."""
    job = _lock_for(Action.CANCEL, session, project_id=project_id, job_id=job_id)
    if JobStatus(job.status) in FINISHED_JOBS or job.desired == Desired.CANCEL:
        return job
    _note_wish(session, job, Action.CANCEL, desired=Desired.CANCEL, status_reason="cancelled by its user")
    repository.cancel_waiting_steps(session, job, reason=CancelReason.USER)
    repository.refresh_job(session, job)
    return job


def request_pause(session: Session, *, project_id: str, job_id: str) -> Job:
    """Hold a job: what waits is not claimed, what runs stores what it can and hands its step back.

    Raises:
        Conflict: the job has finished or is being cancelled.
    """
    job = _lock_for(Action.PAUSE, session, project_id=project_id, job_id=job_id)
    if job.desired == Desired.PAUSE:
        return job
    _note_wish(session, job, Action.PAUSE, desired=Desired.PAUSE, status_reason="paused by its user")
    repository.hold_queued_steps(session, job)
    repository.refresh_job(session, job)
    return job


def request_resume(session: Session, *, project_id: str, job_id: str) -> Job:
    """Let a paused job go on; a step that has not stopped yet simply continues.

    Raises:
        Conflict: the job has finished or is being cancelled.
    """
    job = _lock_for(Action.RESUME, session, project_id=project_id, job_id=job_id)
    if job.desired == Desired.RUN:
        return job
    _note_wish(session, job, Action.RESUME, desired=Desired.RUN, status_reason=None)
    repository.offer_held_steps(session, job)
    repository.refresh_job(session, job)
    return job


def retry(session: Session, *, project_id: str, job_id: str) -> Job:
    """Take a failed job up where it stopped; what finished is kept, and the budgets start again.

    Raises:
        Conflict: the job is not failed.
        QuotaExceeded: a limit of the project does not allow it.
    """
    job = _lock_for(Action.RETRY, session, project_id=project_id, job_id=job_id)
    fresh: dict[str, Any] = {
        "forgiven_attempts": Step.attempt,
        "num_errors": 0,
        "num_losses": 0,
        "num_batch_halvings": 0,
        "claim_rank": -job.priority,
        "error": None,
        "finished_at": None,
        "status_reason": None,
    }
    repository.add_event(session, job, "retry_requested", "retry requested")
    repository.move_steps(
        session, job.id, sources=(StepStatus.CANCELLED,), target=StepStatus.PENDING, **fresh
    )
    repository.move_steps(
        session, job.id, sources=(StepStatus.FAILED,), target=StepStatus.QUEUED, ready_at=None, **fresh
    )
    repository.refresh_job(session, job, desired=Desired.RUN, error=None, status_reason=None)
    repository.offer_held_steps(session, job)
    repository.queue_ready_steps(session, job)
    needs_gpu = repository.needs_gpu(session, job.id)
    require_place_in_queue(session, project_id, needs_gpu=needs_gpu)
    return job


def set_priority(session: Session, *, project_id: str, job_id: str, priority: int) -> Job:
    """Change which of the project's jobs goes first. What runs goes on.

    Raises:
        Conflict: the job has finished or is being cancelled.
    """
    assert MIN_PRIORITY <= priority <= MAX_PRIORITY, priority
    job = _lock_for(Action.PRIORITISE, session, project_id=project_id, job_id=job_id)
    if job.priority == priority:
        return job
    details = {"from": job.priority, "to": priority}
    job.priority = priority
    session.flush()
    waiting = update(Step).where(Step.job_id == job.id, Step.status.in_(UNFINISHED_STEPS))
    session.execute(waiting.values(claim_rank=-priority).execution_options(synchronize_session=False))
    repository.add_event(session, job, "priority_changed", f"priority is {priority}", details=details)
    session.refresh(job)
    return job


def _note_wish(
    session: Session, job: Job, action: Action, *, desired: Desired, status_reason: str | None
) -> None:
    """Store what the user wants of the job from now on, and that it was asked for."""
    job.desired = desired
    job.status_reason = status_reason
    session.flush()
    repository.add_event(session, job, f"{action}_requested", f"{action} requested")


def _lock_for(action: Action, session: Session, *, project_id: str, job_id: str) -> Job:
    """The job, locked, when its status allows the action."""
    job = lock_job(session, project_id=project_id, job_id=job_id)
    refusal = why_refused(action, JobStatus(job.status))
    if refusal is not None:
        code, reason = refusal
        raise Conflict(reason, code=code)
    return job
