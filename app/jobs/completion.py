"""How an attempt ends: completed, failed, released or cancelled. A stale attempt is answered False."""

import random
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy.orm import Session

from app.catalog.models import register_fused_model
from app.db.base import db_time
from app.db.json_values import storable
from app.db.models import Job, Step
from app.jobs import repository
from app.jobs.lifecycle import AttemptOutcome, CancelReason, Desired, StepStatus
from fusion.errors import ErrorCategory, ErrorDict

MAX_FAILURES_WITHOUT_PROGRESS: Final[Mapping[ErrorCategory, int]] = {
    "user": 1,
    "capacity": 1,
    "infrastructure": 5,
    "internal": 2,
}
"""Failures of one category since the last checkpoint, at which a step fails for good."""

_BACK_OFF_SECONDS: Final = 2.0
_MAX_BACK_OFF_SECONDS: Final = 600.0


def complete_step(
    session: Session, *, step_id: str, attempt: int, artifact_id: str, figures: Mapping[str, Any]
) -> bool:
    """The step has its output: queue what it unblocks, and register the model when it was published."""
    job = repository.lock_job_of_step(session, step_id)
    if job is None or not repository.move_step(
        session,
        step_id,
        source=StepStatus.RUNNING,
        target=StepStatus.SUCCEEDED,
        attempt=attempt,
        artifact_id=artifact_id,
        figures=storable(dict(figures)),
        error=None,
        finished_at=db_time(),
        **_LET_GO,
    ):
        return False
    step = repository.get_step(session, step_id)
    repository.end_attempt(session, step_id, attempt=attempt, outcome=AttemptOutcome.SUCCEEDED)
    _tell(session, job, step, "step_succeeded", f"{step.name} succeeded", artifact_id=artifact_id)
    if step.stage == "publish":
        _register_model(session, job, artifact_id=artifact_id)
    repository.queue_ready_steps(session, job)
    repository.refresh_job(session, job)
    return True


def fail_step(session: Session, *, step_id: str, attempt: int, error: ErrorDict) -> bool:
    """The attempt failed: try again when that can help and the budget allows it, else the job fails."""
    job = repository.lock_job_of_step(session, step_id)
    if job is None or not _is_running(session, step_id, attempt):
        return False
    step = repository.get_step(session, step_id)
    stored: dict[str, Any] = storable(dict(error))
    repository.end_attempt(
        session, step_id, attempt=attempt, outcome=AttemptOutcome.FAILED, reason=error["code"], error=stored
    )
    if is_stopping(session, job):
        end_cancelled(session, job, step)
    elif (wait := _back_off_seconds(session, step, category=error["category"])) is not None:
        requeue(session, job, step, reason=error["code"], ready_in_seconds=wait)
    else:
        fail_for_good(session, job, step, error=stored)
    return True


def release_step(session: Session, *, step_id: str, attempt: int, reason: str) -> bool:
    """The worker gives the step back, for a drain or a pause. Costs nothing of any budget."""
    job = repository.lock_job_of_step(session, step_id)
    if job is None or not _is_running(session, step_id, attempt):
        return False
    step = repository.get_step(session, step_id)
    repository.end_attempt(session, step_id, attempt=attempt, outcome=AttemptOutcome.RELEASED, reason=reason)
    if is_stopping(session, job):
        end_cancelled(session, job, step)
    else:
        requeue(session, job, step, reason=reason)
    return True


def confirm_cancelled(session: Session, *, step_id: str, attempt: int) -> bool:
    """The attempt was told to stop, and its processes are gone."""
    job = repository.lock_job_of_step(session, step_id)
    if job is None or not _is_running(session, step_id, attempt):
        return False
    repository.end_attempt(session, step_id, attempt=attempt, outcome=AttemptOutcome.CANCELLED)
    end_cancelled(session, job, repository.get_step(session, step_id))
    return True


def is_stopping(session: Session, job: Job) -> bool:
    """Whether nothing of the job should start again: it is being cancelled, or a step of it failed."""
    return job.desired == Desired.CANCEL or repository.has_failed_step(session, job.id)


def requeue(session: Session, job: Job, step: Step, *, reason: str, ready_in_seconds: float = 0.0) -> None:
    """Running -> queued. The job's lock is held, so the step is still where `step` says."""
    repository.move_step(
        session,
        step.id,
        source=StepStatus.RUNNING,
        target=StepStatus.QUEUED,
        attempt=step.attempt,
        status_reason=storable(reason)[:100],
        ready_at=repository.ready_at(job, in_seconds=ready_in_seconds),
        **_LET_GO,
    )
    repository.ring_for(session, job, step.resource, after_seconds=ready_in_seconds)
    _tell(session, job, step, "step_requeued", f"{step.name} will be tried again: {reason}", reason=reason)
    repository.refresh_job(session, job)


def end_cancelled(session: Session, job: Job, step: Step) -> None:
    """Running -> cancelled, on the user's wish or because the job failed elsewhere."""
    reason = CancelReason.USER if job.desired == Desired.CANCEL else CancelReason.JOB_FAILED
    repository.move_step(
        session,
        step.id,
        source=StepStatus.RUNNING,
        target=StepStatus.CANCELLED,
        attempt=step.attempt,
        status_reason=reason,
        finished_at=db_time(),
        **_LET_GO,
    )
    _tell(session, job, step, "step_cancelled", f"{step.name} stopped", reason=reason)
    repository.refresh_job(session, job)


def fail_for_good(session: Session, job: Job, step: Step, *, error: Mapping[str, Any]) -> None:
    """Running -> failed. Waiting steps of the job end, running ones hear it; what finished stays."""
    repository.move_step(
        session,
        step.id,
        source=StepStatus.RUNNING,
        target=StepStatus.FAILED,
        attempt=step.attempt,
        status_reason=storable(error["code"])[:100],
        error=dict(error),
        finished_at=db_time(),
        **_LET_GO,
    )
    _tell(session, job, step, "step_failed", f"{step.name} failed: {error['message']}", error=dict(error))
    repository.cancel_waiting_steps(session, job, reason=CancelReason.JOB_FAILED)
    if job.error is None:
        job.error = dict(error)
        job.status_reason = f"{step.name} failed"
        session.flush()
    repository.refresh_job(session, job)


_LET_GO: Final[dict[str, Any]] = {"worker_id": None, "lease_ends_at": None}


def _is_running(session: Session, step_id: str, attempt: int) -> bool:
    step = repository.get_step(session, step_id)
    return step.status == StepStatus.RUNNING and step.attempt == attempt


def _back_off_seconds(session: Session, step: Step, *, category: ErrorCategory) -> float | None:
    """How long to wait before the next attempt; None when the budget is spent."""
    ended = repository.attempts_without_progress(session, step, outcome=AttemptOutcome.FAILED)
    failures = sum(1 for one in ended if one.error is not None and one.error["category"] == category)
    if failures >= MAX_FAILURES_WITHOUT_PROGRESS[category]:
        return None
    longest = min(_MAX_BACK_OFF_SECONDS, _BACK_OFF_SECONDS * 2.0**failures)
    # Half of it at random, so that steps that failed together do not come back together.
    return longest * random.uniform(0.5, 1.0)


def _register_model(session: Session, job: Job, *, artifact_id: str) -> None:
    model = register_fused_model(
        session,
        project_id=job.project_id,
        job_id=job.id,
        artifact_id=artifact_id,
        name=job.name,
        created_by=job.created_by,
    )
    repository.add_event(
        session, job, "model_registered", f"{model.id} is ready", details={"model_id": model.id}
    )


def _tell(session: Session, job: Job, step: Step, event_type: str, message: str, **details: Any) -> None:
    repository.add_event(
        session, job, event_type, message, step_id=step.id, attempt=step.attempt, details=details
    )
