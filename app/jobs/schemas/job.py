"""Jobs, their counts, and what is left of one that was deleted."""

from typing import Any, Literal, Self

from app.db.base import unix_seconds
from app.db.models import Job
from app.jobs.forecast import Forecast
from app.jobs.labels import Labels
from app.jobs.lifecycle import JobStatus
from app.jobs.progress import JobProgress
from app.jobs.schemas.common import ErrorOut, JobProgressOut, Shown, seconds
from app.jobs.schemas.estimate import EstimateOut


class JobOut(Shown):
    """A fusion job."""

    object: Literal["job"] = "job"
    id: str
    version: int
    """Number of its last event, and its `ETag`: it changes with everything but progress."""
    name: str
    """The spec's at first; can be changed."""
    tags: list[str]
    metadata: dict[str, str]
    status: JobStatus
    status_reason: str | None
    """Why it is where it is: for one that waits `waiting_for_worker`, `waiting_for_turn` or `retrying`."""
    queue_position: int | None
    """Place of its next step among those of the project that wait for the same kind of worker, 1 is next;
    other projects' steps go in turn with them. Null while it does not wait, and beyond the first thousand."""
    progress: JobProgressOut
    error: ErrorOut | None
    model_id: str | None
    """The fused model, once it is published."""
    artifact_id: str | None
    """The fused checkpoint, to download."""
    priority: int
    """Which of the project's jobs goes first: the higher one."""
    cloned_from_id: str | None
    """The job whose spec this one began as."""
    root_job_id: str | None
    """The first job of that line."""
    created_by: str | None
    """The API key that made it."""
    spec: dict[str, Any]
    """The spec with every default and preset written out."""
    spec_digest: str
    created_at: int
    started_at: int | None
    finished_at: int | None

    @classmethod
    def of(
        cls,
        job: Job,
        *,
        labels: Labels,
        progress: JobProgress,
        forecast: Forecast,
        model_id: str | None,
        artifact_id: str | None,
    ) -> Self:
        waiting = forecast.waiting
        return cls(
            id=job.id,
            version=job.last_event_seq,
            name=job.name,
            tags=labels.tags,
            metadata=labels.metadata,
            status=JobStatus(job.status),
            status_reason=job.status_reason or (waiting.reason if waiting else None),
            queue_position=waiting.position if waiting else None,
            progress=JobProgressOut.of_job(progress, forecast),
            error=None if job.error is None else ErrorOut.model_validate(job.error),
            model_id=model_id,
            artifact_id=artifact_id,
            priority=job.priority,
            cloned_from_id=job.cloned_from_id,
            root_job_id=job.root_job_id,
            created_by=job.created_by,
            spec=job.spec,
            spec_digest=job.spec_digest,
            created_at=unix_seconds(job.created_at),
            started_at=seconds(job.started_at),
            finished_at=seconds(job.finished_at),
        )


class JobInFull(JobOut):
    """A fusion job, with what it was expected to take."""

    estimate: EstimateOut | None
    """Made at its submission, with what each figure came to; null for a job from before there were any."""


class JobCounts(Shown):
    """How many jobs there are."""

    object: Literal["job_counts"] = "job_counts"
    total: int
    by_status: dict[JobStatus, int]
    """Every status, also those without a job."""


class DeletedJob(Shown):
    """A job that is no longer shown."""

    object: Literal["job"] = "job"
    id: str
    deleted: Literal[True] = True
    purged: bool
    freed_bytes: int
    """Stored bytes that went with it; what others share stays."""
