"""Attempts: every try at a step of a job."""

from typing import Literal, Self

from app.db.base import unix_seconds
from app.db.models import Attempt
from app.jobs.lifecycle import AttemptOutcome
from app.jobs.schemas.common import ErrorOut, Shown, seconds


class AttemptOut(Shown):
    """One try at a step."""

    object: Literal["attempt"] = "attempt"
    id: str
    """The step's, a colon, and the number."""
    job_id: str
    step_id: str
    step: str
    """Name of the step."""
    number: int
    """From 1, within the step."""
    worker_id: str
    outcome: AttemptOutcome
    """`lost`: worker or process went silent or died; `released`: given back for a pause or a drain."""
    reason: str | None
    """A word for how it ended, where there is one: the code of its error, or why it was given back."""
    error: ErrorOut | None
    started_at: int
    ended_at: int | None
    """Null while it runs."""

    @classmethod
    def of(cls, attempt: Attempt, *, step_name: str) -> Self:
        return cls(
            id=f"{attempt.step_id}:{attempt.attempt}",
            job_id=attempt.job_id,
            step_id=attempt.step_id,
            step=step_name,
            number=attempt.attempt,
            worker_id=attempt.worker_id,
            outcome=AttemptOutcome(attempt.outcome),
            reason=attempt.reason,
            error=None if attempt.error is None else ErrorOut.model_validate(attempt.error),
            started_at=unix_seconds(attempt.started_at),
            ended_at=seconds(attempt.ended_at),
        )
