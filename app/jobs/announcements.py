"""Which events of a job's history its project's webhooks tell of."""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy.orm import Session

from app.db.models import Job
from app.jobs.lifecycle import JobStatus
from app.webhooks.announcing import announce
from app.webhooks.types import WebhookType

_ON_HOLD: Final = frozenset({JobStatus.PAUSING, JobStatus.PAUSED})
_AFTER: Final[Mapping[JobStatus, WebhookType]] = {
    JobStatus.QUEUED: WebhookType.JOB_QUEUED,
    JobStatus.RUNNING: WebhookType.JOB_STARTED,
    JobStatus.PAUSING: WebhookType.JOB_PAUSING,
    JobStatus.PAUSED: WebhookType.JOB_PAUSED,
    JobStatus.CANCELLING: WebhookType.JOB_CANCELLING,
    JobStatus.SUCCEEDED: WebhookType.JOB_SUCCEEDED,
    JobStatus.FAILED: WebhookType.JOB_FAILED,
    JobStatus.CANCELLED: WebhookType.JOB_CANCELLED,
}


def announce_event(
    session: Session, job: Job, *, event_id: str, event_type: str, seq: int, details: Mapping[str, Any]
) -> None:
    """Tell the webhooks of the project of an event, where it is one of those they tell of."""
    found = _told(job, event_type, details)
    if found is not None:
        webhook_type, data = found
        announce(
            session,
            project_id=job.project_id,
            webhook_type=webhook_type,
            data=data,
            event_id=event_id,
            job_id=job.id,
            seq=seq,
        )


def webhook_type_of_move(before: JobStatus, after: JobStatus) -> WebhookType | None:
    """What a change of a job's status is called; None for one that nobody waits for."""
    if after in (JobStatus.QUEUED, JobStatus.RUNNING):
        if before in _ON_HOLD:
            return WebhookType.JOB_RESUMED
        if before is JobStatus.FAILED:
            return WebhookType.JOB_RETRIED
    return _AFTER.get(after)


def _told(job: Job, event_type: str, details: Mapping[str, Any]) -> tuple[WebhookType, dict[str, Any]] | None:
    match event_type:
        case "job_submitted":
            return WebhookType.JOB_QUEUED, {"id": job.id, "object": "job", "status": job.status}
        case "job_status_changed":
            after = JobStatus(details["to"])
            webhook_type = webhook_type_of_move(JobStatus(details["from"]), after)
            data = {"id": job.id, "object": "job", "status": after}
            return None if webhook_type is None else (webhook_type, data)
        case "model_registered" | "checkpoint_promoted":
            return WebhookType.MODEL_CREATED, {
                "id": details["model_id"],
                "object": "model",
                "job_id": job.id,
            }
        case "model_published":
            return WebhookType.MODEL_PUBLISHED, {
                "id": details["model_id"],
                "object": "model",
                "job_id": job.id,
                "publication_id": details["publication_id"],
            }
    return None
