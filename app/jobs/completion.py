"""What a worker says when its attempt is over: completed, failed, lost, released or cancelled.

A stale attempt is answered False, and nothing is written.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from app.catalog.models import register_fused_model
from app.db.base import db_time
from app.db.json_values import storable
from app.db.models import Job, Step
from app.jobs import attempts, endings, repository
from app.jobs.lifecycle import AttemptOutcome, StepStatus
from fusion.errors import ErrorDict


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
        **endings.LET_GO,
    ):
        return False
    step = repository.get_step(session, step_id)
    attempts.end(session, step_id, attempt=attempt, outcome=AttemptOutcome.SUCCEEDED)
    endings.tell(session, job, step, "step_succeeded", f"{step.name} succeeded", artifact_id=artifact_id)
    if step.stage == "publish":
        _register_model(session, job, artifact_id=artifact_id)
    repository.queue_ready_steps(session, job)
    repository.refresh_job(session, job)
    return True


def fail_step(session: Session, *, step_id: str, attempt: int, error: ErrorDict) -> bool:
    """The attempt failed: try again when that can help and the budget allows it, else the job fails."""
    found = _locked(session, step_id, attempt)
    if found is None:
        return False
    endings.fail(session, *found, error=error)
    return True


def lose_step(session: Session, *, step_id: str, attempt: int, error: ErrorDict) -> bool:
    """The attempt's process is gone without an error of its own: killed, crashed, or stopped for stalling."""
    found = _locked(session, step_id, attempt)
    if found is None:
        return False
    endings.lose(session, *found, error=error)
    return True


def release_step(session: Session, *, step_id: str, attempt: int, reason: str) -> bool:
    """The worker gives the step back, for a drain or a pause. Costs nothing of any budget."""
    found = _locked(session, step_id, attempt)
    if found is None:
        return False
    job, step = found
    attempts.end(session, step_id, attempt=attempt, outcome=AttemptOutcome.RELEASED, reason=reason)
    if endings.is_stopping(session, job):
        endings.end_cancelled(session, job, step)
    else:
        endings.requeue(session, job, step, reason=reason)
    return True


def confirm_cancelled(session: Session, *, step_id: str, attempt: int) -> bool:
    """The attempt was told to stop, and its processes are gone."""
    found = _locked(session, step_id, attempt)
    if found is None:
        return False
    attempts.end(session, step_id, attempt=attempt, outcome=AttemptOutcome.CANCELLED)
    endings.end_cancelled(session, *found)
    return True


def _locked(session: Session, step_id: str, attempt: int) -> tuple[Job, Step] | None:
    """The job, locked, and the step, which therefore stays as it is; None when the attempt lost it."""
    job = repository.lock_job_of_step(session, step_id)
    if job is None:
        return None
    step = repository.get_step(session, step_id)
    return (job, step) if step.status == StepStatus.RUNNING and step.attempt == attempt else None


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
