"""Events of a job and points of its curves as the one list that OpenAI's clients read, the newest first.

Both tables are numbered in the order of writing. Between them the time decides, and where it is equal the
event is the later one, so that every item has its place and pages neither overlap nor leave something out.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.db.models import Event, Job, MetricPoint, Step
from app.errors import NotFound
from app.openai_face.schemas import FineTuningEvent


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class _Place:
    """Where an item stands; later items are greater."""

    created_at: datetime
    rank: Literal[0, 1]
    """0 for a point, 1 for an event."""
    seq: int


def list_events(
    session: Session, job: Job, *, after: str | None, limit: int
) -> tuple[list[FineTuningEvent], bool]:
    """At most `limit` items older than `after`, and whether there are more.

    Raises:
        NotFound: the job has no item `after`.
    """
    edge = None if after is None else _place_of(session, job, after)
    events = session.scalars(
        select(Event)
        .where(Event.job_id == job.id, *_older(Event.created_at, Event.seq, 1, edge))
        .order_by(Event.seq.desc())
        .limit(limit + 1)
    )
    points = session.scalars(
        select(MetricPoint)
        .where(
            MetricPoint.job_id == job.id,
            MetricPoint.seq > job.removed_metric_seq,
            *_older(MetricPoint.created_at, MetricPoint.seq, 0, edge),
        )
        .order_by(MetricPoint.seq.desc())
        .limit(limit + 1)
    )
    names = {
        row.id: row.name for row in session.execute(select(Step.id, Step.name).where(Step.job_id == job.id))
    }
    items: list[tuple[_Place, FineTuningEvent]] = [
        *((_place(event), FineTuningEvent.of_event(event)) for event in events),
        *(
            (_place(point), FineTuningEvent.of_point(point, step_name=names[point.step_id]))
            for point in points
        ),
    ]
    items.sort(key=lambda item: item[0], reverse=True)
    return [shown for _, shown in items[:limit]], len(items) > limit


def _place(row: Event | MetricPoint) -> _Place:
    return _Place(created_at=row.created_at, rank=1 if isinstance(row, Event) else 0, seq=row.seq)


def _place_of(session: Session, job: Job, item_id: str) -> _Place:
    event = session.scalar(select(Event).where(Event.job_id == job.id, Event.id == item_id))
    of_job = (MetricPoint.job_id == job.id, MetricPoint.id == item_id)
    found = event or session.scalar(select(MetricPoint).where(*of_job))
    if found is not None:
        return _place(found)
    raise NotFound(f"the list has no item {item_id!r} to continue from", code="cursor_not_found")


def _older(
    created_at: InstrumentedAttribute[datetime],
    seq: InstrumentedAttribute[int],
    rank: Literal[0, 1],
    edge: _Place | None,
) -> list[ColumnElement[bool]]:
    if edge is None:
        return []
    at_once: Any = seq < edge.seq if rank == edge.rank else rank < edge.rank
    return [or_(created_at < edge.created_at, and_(created_at == edge.created_at, at_once))]
