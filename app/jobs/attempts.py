"""The rows of attempts: how each ended, and what its step's budgets have spent by then."""

from typing import Any

from sqlalchemy import exists, select, update
from sqlalchemy.orm import Session

from app.db.base import db_time
from app.db.json_values import storable
from app.db.models import Artifact, Attempt, Step
from app.jobs.lifecycle import AttemptOutcome


def end(
    session: Session,
    step_id: str,
    *,
    attempt: int,
    outcome: AttemptOutcome,
    reason: str | None = None,
    error: dict[str, Any] | None = None,
) -> None:
    """Write down how an attempt ended."""
    statement = (
        update(Attempt)
        .where(
            Attempt.step_id == step_id,
            Attempt.attempt == attempt,
            Attempt.outcome == AttemptOutcome.RUNNING,
        )
        .values(outcome=outcome, reason=storable(reason), error=storable(error), ended_at=db_time())
    )
    session.execute(statement.execution_options(synchronize_session=False))


def errors_since_progress(session: Session, step: Step, *, outcome: AttemptOutcome) -> list[dict[str, Any]]:
    """Errors of earlier attempts that ended in `outcome` and still count, in their order."""
    if has_stored_part(session, step):
        return []
    query = select(Attempt.error).where(
        Attempt.step_id == step.id, Attempt.outcome == outcome, Attempt.attempt > step.forgiven_attempts
    )
    return [error for error in session.scalars(query.order_by(Attempt.attempt)) if error is not None]


def has_stored_part(session: Session, step: Step) -> bool:
    """Whether the running attempt has stored a part, so that the next one need not begin where it did."""
    of_attempt = (Artifact.step_id == step.id, Artifact.attempt == step.attempt)
    return bool(session.scalar(select(exists().where(*of_attempt, Artifact.kind == "checkpoint"))))


def attempt_outcome(session: Session, *, step_id: str, attempt: int) -> AttemptOutcome:
    """How an attempt ended as far as the database knows: what a worker asks whose commit got no answer."""
    row = (Attempt.step_id == step_id, Attempt.attempt == attempt)
    return AttemptOutcome(session.scalars(select(Attempt.outcome).where(*row)).one())


def spent_by(
    session: Session, step: Step, *, num_errors: int | None = None, num_losses: int | None = None
) -> dict[str, int]:
    """What the budgets have spent once this attempt is over: nothing, if it stored a part."""
    if has_stored_part(session, step):
        return {"num_errors": 0, "num_losses": 0, "forgiven_attempts": step.attempt}
    return {
        "num_errors": step.num_errors if num_errors is None else num_errors,
        "num_losses": step.num_losses if num_losses is None else num_losses,
    }
