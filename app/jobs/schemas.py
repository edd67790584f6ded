"""What the API shows of jobs, steps, events and metrics."""

from dataclasses import asdict
from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict

from app.db.base import unix_seconds
from app.db.models import Event, Job, MetricPoint, Step
from app.jobs.labels import Labels
from app.jobs.lifecycle import JobStatus, StepStatus
from app.jobs.progress import JobProgress, StepProgress
from fusion.errors import ErrorCategory
from fusion.plan import Resource, Stage


class Shown(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True, from_attributes=True)


class ErrorOut(Shown):
    """Why a job or a step failed."""

    code: str
    category: ErrorCategory
    message: str
    hint: str | None = None
    """The way out, where one is known."""
    pointer: str | None = None
    """The field of the spec that is to blame, where one is."""
    retryable: bool


class ProgressOut(Shown):
    """How far a job is."""

    stage: Stage | None
    """What is being done, or comes next."""
    step: str | None
    """Name of the step that the figures below are about."""
    percent: float
    """Of the whole job, by the expected share of each step."""
    done: float | None
    total: float | None
    unit: str | None
    tokens_done: int | None
    """Tokens processed in this stage."""
    eta_seconds: int | None
    """Until this stage ends, at its own rate; null while nobody can tell."""
    updated_at: int | None

    @classmethod
    def of(cls, progress: JobProgress | StepProgress) -> Self:
        return cls.model_validate(asdict(progress) | {"updated_at": _seconds(progress.updated_at)})


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
    progress: ProgressOut
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
        model_id: str | None,
        artifact_id: str | None,
    ) -> Self:
        return cls(
            id=job.id,
            version=job.last_event_seq,
            name=job.name,
            tags=labels.tags,
            metadata=labels.metadata,
            status=JobStatus(job.status),
            status_reason=job.status_reason,
            progress=ProgressOut.of(progress),
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
            started_at=_seconds(job.started_at),
            finished_at=_seconds(job.finished_at),
        )


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


class PlannedStepOut(Shown):
    """A step that the job would have."""

    name: str
    stage: Stage
    subject: str | None
    resource: Resource
    needs: list[str]


class ValidationOut(Shown):
    """A spec that would be accepted."""

    object: Literal["job_validation"] = "job_validation"
    valid: Literal[True] = True
    spec: dict[str, Any]
    """The spec with every default and preset written out."""
    spec_digest: str
    steps: list[PlannedStepOut]


class StepOut(Shown):
    """A unit of work of a job."""

    object: Literal["step"] = "step"
    id: str
    job_id: str
    name: str
    stage: Stage
    subject: str | None
    resource: Resource
    status: StepStatus
    status_reason: str | None
    attempt: int
    """Tries so far."""
    num_errors: int
    """Tries that failed since the last progress; a budget ends the step."""
    num_losses: int
    """Tries whose worker or process was lost since the last progress; the third ends the step."""
    needs: list[str]
    progress: ProgressOut
    artifact_id: str | None
    figures: dict[str, Any] | None
    error: ErrorOut | None
    created_at: int
    started_at: int | None
    finished_at: int | None

    @classmethod
    def of(cls, step: Step, *, progress: StepProgress, needs: list[str]) -> Self:
        return cls.model_validate(
            {
                "id": step.id,
                "job_id": step.job_id,
                "name": step.name,
                "stage": step.stage,
                "subject": step.subject,
                "resource": step.resource,
                "status": step.status,
                "status_reason": step.status_reason,
                "attempt": step.attempt,
                "num_errors": step.num_errors,
                "num_losses": step.num_losses,
                "needs": needs,
                "progress": ProgressOut.of(progress),
                "artifact_id": step.artifact_id,
                "figures": step.figures,
                "error": step.error,
                "created_at": unix_seconds(step.created_at),
                "started_at": _seconds(step.started_at),
                "finished_at": _seconds(step.finished_at),
            }
        )


class EventOut(Shown):
    """Something that happened to a job."""

    object: Literal["event"] = "event"
    id: str
    job_id: str
    seq: int
    """Number within the job, from 1, without gaps."""
    type: str
    step_id: str | None
    attempt: int | None
    message: str
    details: dict[str, Any]
    created_at: int

    @classmethod
    def of(cls, event: Event) -> Self:
        return cls(
            id=event.id,
            job_id=event.job_id,
            seq=event.seq,
            type=event.type,
            step_id=event.step_id,
            attempt=event.attempt,
            message=event.message,
            details=event.details,
            created_at=unix_seconds(event.created_at),
        )


class MetricPointOut(Shown):
    """Numbers of one optimiser step."""

    object: Literal["metric_point"] = "metric_point"
    id: str
    step_id: str
    step_name: str
    step: int
    """The optimiser step."""
    values: dict[str, float | None]
    """By name; null for a number that was not finite."""
    created_at: int

    @classmethod
    def of(cls, point: MetricPoint, *, step_name: str) -> Self:
        return cls(
            id=point.id,
            step_id=point.step_id,
            step_name=step_name,
            step=point.metric_step,
            values=point.values,
            created_at=unix_seconds(point.created_at),
        )


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else unix_seconds(moment)
