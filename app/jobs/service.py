"""What the rest of the service calls of this package; what is not imported here is submitting a job."""

from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.base import db_time
from app.db.locks import wait_for_lock
from app.db.models import Job
from app.jobs import repository
from app.jobs.actions import (
    get_job,
    lock_job,
    request_cancel,
    request_pause,
    request_resume,
    retry,
    set_priority,
)
from app.jobs.attempts import attempt_outcome
from app.jobs.changes import JobChange, change_job
from app.jobs.claims import ClaimedStep, claim_step, find_unheard_claim
from app.jobs.cloning import merged_spec
from app.jobs.completion import complete_step, confirm_cancelled, fail_step, lose_step, release_step
from app.jobs.labels import Labels, add_labels
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
from app.quotas.enforcement import require_place_in_queue
from fusion.failpoints import failpoint
from fusion.spec import FusionSpec

__all__ = [
    "ClaimedStep",
    "Instruction",
    "JobChange",
    "Labels",
    "ReconcileReport",
    "Reconciler",
    "attempt_outcome",
    "change_job",
    "claim_step",
    "complete_step",
    "confirm_cancelled",
    "fail_step",
    "find_repeated_submission",
    "find_unheard_claim",
    "get_job",
    "heartbeat",
    "lock_job",
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


NO_LABELS: Final = Labels()
_REPETITION_SECONDS: Final = 15 * 60.0
"""How long a client may take to send a request without an Idempotency-Key again."""


def submit(
    session: Session,
    *,
    project_id: str,
    spec: FusionSpec,
    created_by: str | None,
    priority: int = 0,
    labels: Labels = NO_LABELS,
    cloned_from: Job | None = None,
    request_digest: str | None = None,
    openai_request: dict[str, Any] | None = None,
) -> Job:
    """Store a job with its steps, and queue what can start.

    Raises:
        QuotaExceeded: a limit of the project does not allow it.
    """
    planned = plan_job(
        spec,
        project_id=project_id,
        created_by=created_by,
        priority=priority,
        cloned_from_id=cloned_from.id if cloned_from else None,
        root_job_id=(cloned_from.root_job_id or cloned_from.id) if cloned_from else None,
        request_digest=request_digest,
        openai_request=openai_request,
    )
    job = planned.job
    session.add(job)
    session.flush()
    session.add_all(planned.steps)
    session.flush()
    session.add_all(planned.needs)
    session.flush()
    add_labels(session, job, labels)
    repository.add_event(
        session, job, "job_submitted", "job submitted", details={"steps": len(planned.steps)}
    )
    repository.queue_ready_steps(session, job)
    needs_gpu = any(step.resource == "gpu" for step in planned.steps)
    require_place_in_queue(session, project_id, needs_gpu=needs_gpu)
    session.refresh(job)
    failpoint("job.recorded")
    return job


def find_repeated_submission(
    session: Session, *, created_by: str, request_digest: str, is_repetition: bool
) -> Job | None:
    """The job that this API key made lately with the same request, for a client that sends it again.

    Whether it is a repetition or not, it waits for a transaction that is making the same job.
    """
    wait_for_lock(session, "submission", created_by, request_digest)
    if not is_repetition:
        return None
    query = (
        select(Job)
        .where(
            Job.created_by == created_by,
            Job.request_digest == request_digest,
            Job.created_at > db_time(-_REPETITION_SECONDS),
        )
        .order_by(Job.id.desc())
        .limit(1)
    )
    return session.scalars(query).one_or_none()
