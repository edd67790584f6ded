"""What a follower of jobs reads of the database, for many jobs with a few queries."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from app.db.models import Event, Job, MetricPoint, Step
from app.jobs.lifecycle import FINISHED_JOBS, JobStatus
from app.jobs.progress import JobProgress, job_progress

EVENTS_AT_ONCE: Final = 500
POINTS_AT_ONCE: Final = 1000
_JOBS_PER_QUERY: Final = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """How far a job's history and curves reach."""

    job_id: str
    status: JobStatus
    event_seq: int
    metric_seq: int
    is_deleted: bool = False

    @property
    def is_finished(self) -> bool:
        return self.status in FINISHED_JOBS

    @classmethod
    def of(cls, job: Job) -> "Mark":
        return cls(
            job_id=job.id,
            status=JobStatus(job.status),
            event_seq=job.last_event_seq,
            metric_seq=job.last_metric_seq,
            is_deleted=job.deleted_at is not None,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """A metric point with the name of its step."""

    seq: int
    step_name: str
    metric_step: int
    attempt: int
    values: dict[str, float | None]
    created_at: datetime


def read_marks(session: Session, job_ids: Collection[str]) -> list[Mark]:
    """Of the jobs that are there, those that are deleted included."""
    columns = (Job.id, Job.status, Job.last_event_seq, Job.last_metric_seq, Job.deleted_at.is_not(None))
    query = select(*columns).where(Job.id.in_(job_ids))
    return [
        Mark(
            job_id=id_,
            status=JobStatus(status),
            event_seq=event_seq,
            metric_seq=metric_seq,
            is_deleted=bool(is_deleted),
        )
        for id_, status, event_seq, metric_seq, is_deleted in session.execute(query)
    ]


def read_events(session: Session, after: Mapping[str, int]) -> dict[str, list[Event]]:
    """The next events of each job in order; a job that is missing, or ends early, has more."""
    found: dict[str, list[Event]] = defaultdict(list)
    for some in _portions(after):
        next_ones = or_(*(and_(Event.job_id == job_id, Event.seq > seq) for job_id, seq in some))
        query = select(Event).where(next_ones).order_by(Event.job_id, Event.seq).limit(EVENTS_AT_ONCE)
        for event in session.scalars(query):
            found[event.job_id].append(event)
    return found


def read_points(session: Session, after: Mapping[str, int]) -> dict[str, list[Point]]:
    """The next metric points of each job in the order they were written."""
    found: dict[str, list[Point]] = defaultdict(list)
    for some in _portions(after):
        next_ones = or_(*(and_(MetricPoint.job_id == job_id, MetricPoint.seq > seq) for job_id, seq in some))
        query = (
            select(MetricPoint, Step.name)
            .join(Step, Step.id == MetricPoint.step_id)
            .where(next_ones)
            .order_by(MetricPoint.job_id, MetricPoint.seq)
            .limit(POINTS_AT_ONCE)
        )
        for point, step_name in session.execute(query):
            found[point.job_id].append(_point(point, step_name))
    return found


def read_progress(session: Session, job_ids: Collection[str]) -> dict[str, JobProgress]:
    """How far each job is."""
    steps: dict[str, list[Step]] = defaultdict(list)
    query = select(Step).where(Step.job_id.in_(job_ids)).order_by(Step.job_id, Step.position)
    for step in session.scalars(query):
        steps[step.job_id].append(step)
    return {job_id: job_progress(of_job) for job_id, of_job in steps.items()}


def metric_seq_at(session: Session, job_id: str, *, event_seq: int) -> int:
    """How far the curves reached when an event happened. What was written since can be shown once more."""
    at = select(Event.created_at).where(Event.job_id == job_id, Event.seq == event_seq).scalar_subquery()
    query = select(MetricPoint.seq).where(MetricPoint.job_id == job_id, MetricPoint.created_at < at)
    return session.scalar(query.order_by(MetricPoint.seq.desc()).limit(1)) or 0


def _point(point: MetricPoint, step_name: str) -> Point:
    return Point(
        seq=point.seq,
        step_name=step_name,
        metric_step=point.metric_step,
        attempt=point.attempt,
        values=point.values,
        created_at=point.created_at,
    )


def _portions(after: Mapping[str, int]) -> list[list[tuple[str, int]]]:
    items = list(after.items())
    return [items[first : first + _JOBS_PER_QUERY] for first in range(0, len(items), _JOBS_PER_QUERY)]
