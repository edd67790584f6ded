"""What becomes of a running step whose attempt is over. Its job is locked, so the step stays as it is."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy.orm import Session

from app.db.base import db_time
from app.db.json_values import storable
from app.db.models import Job, Step
from app.jobs import attempts, repository
from app.jobs.budgets import NextTry, lost_for_good, next_try, next_try_after_loss
from app.jobs.lifecycle import AttemptOutcome, CancelReason, Desired, StepStatus
from fusion.errors import ErrorDict

AT_ONCE: Final = NextTry(in_seconds=0.0, halve_batches=False)
NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
LET_GO: Final[Mapping[str, Any]] = MappingProxyType({"worker_id": None, "lease_ends_at": None})


def fail(session: Session, job: Job, step: Step, *, error: ErrorDict) -> None:
    """Running -> queued when another try can help and the budget allows it; else step and job fail."""
    stored, earlier = _end_attempt(session, step, outcome=AttemptOutcome.FAILED, error=error)
    spent = attempts.spent_by(session, step, num_errors=step.num_errors + 1)
    if is_stopping(session, job):
        end_cancelled(session, job, step)
    elif (found := next_try(stored, earlier=earlier)) is not None:
        requeue(session, job, step, reason=error["code"], next_try=found, spent=spent)
    else:
        fail_for_good(session, job, step, error=_with_incident(stored, step), spent=spent)


def lose(session: Session, job: Job, step: Step, *, error: ErrorDict) -> StepStatus:
    """Running -> queued, or failed when the budget for losses is spent."""
    stored, earlier = _end_attempt(session, step, outcome=AttemptOutcome.LOST, error=error)
    if is_stopping(session, job):
        end_cancelled(session, job, step)
        return StepStatus.CANCELLED
    spent = attempts.spent_by(session, step, num_losses=step.num_losses + 1)
    found = next_try_after_loss(stored, earlier=earlier)
    if found is None:
        poison = lost_for_good(step.name, losses=[*earlier, stored])
        fail_for_good(session, job, step, error=poison, spent=spent)
        return StepStatus.FAILED
    requeue(session, job, step, reason=error["code"], next_try=found, spent=spent)
    return StepStatus.QUEUED


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
    """Running -> queued."""
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
        **LET_GO,
    )
    repository.ring_for(session, job, step.resource, after_seconds=next_try.in_seconds)
    tell(session, job, step, "step_requeued", f"{step.name} will be tried again: {reason}", reason=reason)
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
        **LET_GO,
    )
    tell(session, job, step, "step_cancelled", f"{step.name} stopped", reason=reason)
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
        **LET_GO,
    )
    tell(session, job, step, "step_failed", f"{step.name} failed: {error['message']}", error=dict(error))
    repository.cancel_waiting_steps(session, job, reason=CancelReason.JOB_FAILED)
    if job.error is None:
        job.error = dict(error)
        job.status_reason = f"{step.name} failed"
        session.flush()
    repository.refresh_job(session, job)


def tell(session: Session, job: Job, step: Step, event_type: str, message: str, **details: Any) -> None:
    """A line about the step in the history of its job."""
    repository.add_event(
        session, job, event_type, message, step_id=step.id, attempt=step.attempt, details=details
    )


def _end_attempt(
    session: Session, step: Step, *, outcome: AttemptOutcome, error: ErrorDict
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """End the running attempt with an error; that error as stored, and those before it that still count."""
    stored: dict[str, Any] = storable(dict(error))
    earlier = attempts.errors_since_progress(session, step, outcome=outcome)
    attempts.end(session, step.id, attempt=step.attempt, outcome=outcome, reason=error["code"], error=stored)
    return stored, earlier


def _with_incident(error: dict[str, Any], step: Step) -> dict[str, Any]:
    """A mistake of ours with what its user can quote."""
    if error["category"] != "internal":
        return error
    quote = f"quote {step.id} attempt {step.attempt} to the operator"
    return {**error, "hint": f"{error['hint']}; {quote}" if error.get("hint") else quote}
