"""Steps of a job."""

from typing import Any, Literal, Self

from app.db.base import unix_seconds
from app.db.models import Attempt, Step
from app.jobs.lifecycle import StepStatus
from app.jobs.progress import StepProgress
from app.jobs.schemas.attempt import AttemptOut
from app.jobs.schemas.common import ErrorOut, ProgressOut, Shown, seconds
from fusion.plan import Resource, Stage


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
    expected_seconds: int | None
    """In all, by what such steps of this project took: this job's, else earlier ones'; null if none did."""
    waits_until: int | None
    """Not before then it is tried again."""
    worker_id: str | None
    """Who runs it."""
    last_attempt: AttemptOut | None
    """The latest try; all of them: `/v1/jobs/{job_id}/attempts`."""
    artifact_id: str | None
    figures: dict[str, Any] | None
    error: ErrorOut | None
    created_at: int
    started_at: int | None
    finished_at: int | None

    @classmethod
    def of(
        cls,
        step: Step,
        *,
        progress: StepProgress,
        needs: list[str],
        last_attempt: Attempt | None,
        expected_seconds: float | None,
    ) -> Self:
        waits = step.status == StepStatus.QUEUED and step.attempt > 0
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
                "progress": ProgressOut.of_step(progress),
                "expected_seconds": None if expected_seconds is None else round(expected_seconds),
                "waits_until": seconds(step.ready_at) if waits else None,
                "worker_id": step.worker_id,
                "last_attempt": last_attempt and AttemptOut.of(last_attempt, step_name=step.name),
                "artifact_id": step.artifact_id,
                "figures": step.figures,
                "error": step.error,
                "created_at": unix_seconds(step.created_at),
                "started_at": seconds(step.started_at),
                "finished_at": seconds(step.finished_at),
            }
        )
