"""What the rest of the service calls of this package; what is not imported here is submitting a job."""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.base import db_time
from app.db.insert import insert_if_absent
from app.db.models import IdempotencyKey, Job
from app.errors import Unprocessable
from app.jobs import repository
from app.jobs.actions import (
    get_job,
    request_cancel,
    request_pause,
    request_resume,
    retry,
    set_priority,
)
from app.jobs.attempts import attempt_outcome
from app.jobs.claims import ClaimedStep, claim_step, find_unheard_claim
from app.jobs.cloning import merged_spec
from app.jobs.completion import complete_step, confirm_cancelled, fail_step, lose_step, release_step
from app.jobs.lifecycle import Instruction
from app.jobs.planning import plan_job
from app.jobs.reconcile import Reconciler, ReconcileReport, reconcile
from app.jobs.reports import (
    heartbeat,
    record_metrics,
    record_note,
    record_progress,
)
from app.jobs.repository import lock_job_of_step
from app.jobs.workers import see_worker
from fusion.failpoints import failpoint
from fusion.spec import FusionSpec

__all__ = [
    "ClaimedStep",
    "Instruction",
    "ReconcileReport",
    "Reconciler",
    "Submitted",
    "attempt_outcome",
    "claim_step",
    "complete_step",
    "confirm_cancelled",
    "fail_step",
    "find_unheard_claim",
    "get_job",
    "heartbeat",
    "lock_job_of_step",
    "lose_step",
    "merged_spec",
    "reconcile",
    "record_metrics",
    "record_note",
    "record_progress",
    "release_step",
    "request_cancel",
    "request_pause",
    "request_resume",
    "retry",
    "see_worker",
    "set_priority",
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
    priority: int = 0,
    cloned_from_id: str | None = None,
) -> Submitted:
    """Store a job with its steps, and queue what can start.

    Raises:
        Unprocessable: the idempotency key was used for another spec.
    """
    planned = plan_job(
        spec,
        project_id=project_id,
        created_by=created_by,
        priority=priority,
        cloned_from_id=cloned_from_id,
    )
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
    failpoint("job.recorded")
    return Submitted(job=job, replayed=False)


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
