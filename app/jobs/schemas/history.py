"""What happened to a job: events, and points of its training curves."""

from typing import Any, Literal, Self

from app.db.base import unix_seconds
from app.db.models import Event, MetricPoint
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
