"""What users do with jobs: submit, cancel, retry. Workers' side is in `claims` and `completion`."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.base import db_time, is_id
from app.db.insert import insert_if_absent
from app.db.models import IdempotencyKey, Job, Step
from app.errors import Conflict, NotFound, Unprocessable
from app.jobs import repository
from app.jobs.claims import (
    ClaimedStep,
    claim_step,
    heartbeat,
    holds_step,
    record_metrics,
    record_note,
    record_progress,
    see_worker,
)
from app.jobs.completion import complete_step, confirm_cancelled, fail_step, release_step
from app.jobs.lifecycle import FINISHED_JOBS, CancelReason, Desired, Instruction, JobStatus, StepStatus
from app.jobs.planning import plan_job
from app.jobs.reconcile import Reconciler, ReconcileReport, reconcile
from fusion.spec import FusionSpec

__all__ = [
    "ClaimedStep",
    "Instruction",
    "ReconcileReport",
    "Reconciler",
    "Submitted",
    "claim_step",
    "complete_step",
    "confirm_cancelled",
    "fail_step",
    "get_job",
    "heartbeat",
    "holds_step",
    "reconcile",
    "record_metrics",
    "record_note",
    "record_progress",
    "release_step",
    "request_cancel",
    "retry",
    "see_worker",
    "submit",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Submitted:
    """A job, and whether an earlier request with the same idempotency key made it."""

    job: Job
    replayed: bool


def submit(
    session: Session,
    *,
    project_id: str,
    spec: FusionSpec,
    created_by: str | None,
    idempotency_key: str | None = None,
) -> Submitted:
    """Store a job with its steps, and queue what can start.

    Raises:
        Unprocessable: the idempotency key was used for another spec.
    """
    planned = plan_job(spec, project_id=project_id, created_by=created_by)
    job = planned.job
    if idempotency_key is not None:
        earlier = _job_of_key(session, project_id, idempotency_key, request_digest=job.spec_digest)
        if earlier is not None:
            return Submitted(job=earlier, replayed=True)
    session.add(job)
    session.flush()
    if idempotency_key is not None and not _keep_key(session, job, idempotency_key):
        # The same request arrived twice at once, and the other one is done.
        session.delete(job)
        session.flush()
        earlier = _job_of_key(session, project_id, idempotency_key, request_digest=job.spec_digest)
        assert earlier is not None
        return Submitted(job=earlier, replayed=True)
    session.add_all(planned.steps)
    session.flush()
    session.add_all(planned.needs)
    session.flush()
    repository.add_event(
        session, job, "job_submitted", "job submitted", details={"steps": len(planned.steps)}
    )
    repository.queue_ready_steps(session, job)
    session.refresh(job)
    return Submitted(job=job, replayed=False)


def get_job(session: Session, *, project_id: str, job_id: str) -> Job:
    """A job of the project.

    Raises:
        NotFound: there is none; a job of another project is none.
    """
    job = None
    if is_id(job_id, prefix="job"):
        job = session.scalar(select(Job).where(Job.id == job_id, Job.project_id == project_id))
    if job is None:
        raise NotFound(f"there is no job {job_id!r}", code="job_not_found")
    return job


def request_cancel(session: Session, *, project_id: str, job_id: str) -> Job:
    """Stop a job: what waits ends now, what runs hears it by its next heartbeat. A finished job stays."""
    job = repository.lock_job(session, get_job(session, project_id=project_id, job_id=job_id).id)
    if JobStatus(job.status) in FINISHED_JOBS or job.desired == Desired.CANCEL:
        return job
    job.desired = Desired.CANCEL
    job.status_reason = "cancelled by its user"
    session.flush()
    repository.add_event(session, job, "cancel_requested", "cancel requested")
    repository.cancel_waiting_steps(session, job, reason=CancelReason.USER)
    repository.refresh_job(session, job)
    return job


def retry(session: Session, *, project_id: str, job_id: str) -> Job:
    """Take a failed job up where it stopped; what finished is kept, and the budgets start again.

    Raises:
        Conflict: the job is not failed.
    """
    job = repository.lock_job(session, get_job(session, project_id=project_id, job_id=job_id).id)
    if job.status != JobStatus.FAILED:
        raise Conflict(f"only a failed job can be retried; this one is {job.status}", code="job_not_failed")
    job.desired = Desired.RUN
    job.error = None
    job.status_reason = None
    session.flush()
    repository.add_event(session, job, "retry_requested", "retry requested")
    fresh: dict[str, Any] = {
        "forgiven_attempts": Step.attempt,
        "error": None,
        "finished_at": None,
        "status_reason": None,
    }
    repository.move_steps(
        session,
        job.id,
        sources=(StepStatus.CANCELLED,),
        target=StepStatus.PENDING,
        **fresh,
    )
    repository.move_steps(
        session,
        job.id,
        sources=(StepStatus.FAILED,),
        target=StepStatus.QUEUED,
        ready_at=db_time(),
        **fresh,
    )
    for resource in session.scalars(
        select(Step.resource).where(Step.job_id == job.id, Step.status == StepStatus.QUEUED)
    ):
        repository.ring(session, resource)
    repository.queue_ready_steps(session, job)
    repository.refresh_job(session, job)
    return job


def _job_of_key(session: Session, project_id: str, key: str, *, request_digest: str) -> Job | None:
    kept = session.get(IdempotencyKey, (project_id, key))
    if kept is None:
        return None
    if kept.request_digest != request_digest:
        raise Unprocessable(
            f"Idempotency-Key {key!r} was used for another request; use a new key for a new job",
            code="idempotency_key_reused",
        )
    return session.scalars(select(Job).where(Job.id == kept.job_id)).one()


def _keep_key(session: Session, job: Job, key: str) -> bool:
    return insert_if_absent(
        session,
        IdempotencyKey,
        {
            "project_id": job.project_id,
            "key": key,
            "request_digest": job.spec_digest,
            "job_id": job.id,
            "created_at": db_time(),
        },
    )
