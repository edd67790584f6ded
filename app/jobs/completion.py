"""How an attempt ends: completed, failed, lost, released or cancelled. A stale attempt is answered False."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy.orm import Session

from app.catalog.models import register_fused_model
from app.db.base import db_time
from app.db.json_values import storable
from app.db.models import Job, Step
from app.jobs import repository
from app.jobs.budgets import NextTry, lost_for_good, next_try, next_try_after_loss
from app.jobs.lifecycle import AttemptOutcome, CancelReason, Desired, StepStatus
from fusion.errors import ErrorDict

AT_ONCE: Final = NextTry(in_seconds=0.0, halve_batches=False)
NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


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
    earlier = (
        []
        if repository.has_stored_part(session, step)
        else repository.errors_since_progress(session, step, outcome=AttemptOutcome.FAILED)
    )
    repository.end_attempt(
        session, step_id, attempt=attempt, outcome=AttemptOutcome.FAILED, reason=error["code"], error=stored
    )
    spent = _spent(session, step, num_errors=step.num_errors + 1)
    if is_stopping(session, job):
        end_cancelled(session, job, step)
    elif (found := next_try(stored, earlier=earlier)) is not None:
        requeue(session, job, step, reason=error["code"], next_try=found, spent=spent)
    else:
        fail_for_good(session, job, step, error=_with_incident(stored, step), spent=spent)
    return True


def lose_step(session: Session, *, step_id: str, attempt: int, error: ErrorDict) -> bool:
    """The attempt's process is gone without an error of its own: killed, crashed, or stopped for stalling."""
    job = repository.lock_job_of_step(session, step_id)
    if job is None or not _is_running(session, step_id, attempt):
        return False
    lose(session, job, repository.get_step(session, step_id), error=error)
    return True


def lose(session: Session, job: Job, step: Step, *, error: ErrorDict) -> StepStatus:
    """Running -> queued, or failed when the budget for losses is spent. The job's lock is held."""
    stored: dict[str, Any] = storable(dict(error))
    earlier = repository.errors_since_progress(session, step, outcome=AttemptOutcome.LOST)
    repository.end_attempt(
        session,
        step.id,
        attempt=step.attempt,
        outcome=AttemptOutcome.LOST,
        reason=error["code"],
        error=stored,
    )
    if is_stopping(session, job):
        end_cancelled(session, job, step)
        return StepStatus.CANCELLED
    spent = _spent(session, step, num_losses=step.num_losses + 1)
    found = next_try_after_loss(stored, num_losses=spent["num_losses"])
    if found is None:
        poison = lost_for_good(step.name, losses=[*earlier, stored][-spent["num_losses"] :])
        fail_for_good(session, job, step, error=poison, spent=spent)
        return StepStatus.FAILED
    requeue(session, job, step, reason=error["code"], next_try=found, spent=spent)
    return StepStatus.QUEUED


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


def requeue(
    session: Session,
    job: Job,
    step: Step,
    *,
    reason: str,
    next_try: NextTry = AT_ONCE,
    spent: Mapping[str, Any] = NOTHING,
) -> None:
    """Running -> queued. The job's lock is held, so the step is still where `step` says."""
    repository.move_step(
        session,
        step.id,
        source=StepStatus.RUNNING,
        target=StepStatus.QUEUED,
        attempt=step.attempt,
        status_reason=storable(reason)[:100],
        ready_at=repository.ready_at(job, in_seconds=next_try.in_seconds),
        num_batch_halvings=step.num_batch_halvings + int(next_try.halve_batches),
        **spent,
        **_LET_GO,
    )
    repository.ring_for(session, job, step.resource, after_seconds=next_try.in_seconds)
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


def fail_for_good(
    session: Session, job: Job, step: Step, *, error: Mapping[str, Any], spent: Mapping[str, Any]
) -> None:
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
        **spent,
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


def _spent(
    session: Session, step: Step, *, num_errors: int | None = None, num_losses: int | None = None
) -> dict[str, int]:
    """What the budgets have spent once this attempt is over: nothing, if it stored a part."""
    if repository.has_stored_part(session, step):
        return {"num_errors": 0, "num_losses": 0, "forgiven_attempts": step.attempt}
    return {
        "num_errors": step.num_errors if num_errors is None else num_errors,
        "num_losses": step.num_losses if num_losses is None else num_losses,
    }


def _with_incident(error: dict[str, Any], step: Step) -> dict[str, Any]:
    """A mistake of ours with what its user can quote."""
    if error["category"] != "internal":
        return error
    quote = f"quote {step.id} attempt {step.attempt} to the operator"
    return {**error, "hint": f"{error['hint']}; {quote}" if error.get("hint") else quote}


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
