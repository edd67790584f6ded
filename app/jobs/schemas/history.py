"""What happened to a job."""

from typing import Any, Literal, Self

from app.db.base import unix_seconds
from app.db.models import Event
from app.jobs.schemas.common import Shown


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
