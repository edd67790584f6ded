"""How long the database keeps what jobs wrote: logs and curves some time after the end, the history for ever.

What is to go is first hidden, in the transaction that tells the job's history so, and removed some rows at a
time: readers find all of it or hear that it is gone, and no transaction takes long. A crash in between leaves
rows that the next round removes. Of a purged job, for which nobody can ask any more, everything goes.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Engine, and_, delete, func, literal, select, text, true, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.artifacts.garbage import Garbage
from app.db.base import db_time
from app.db.models import Event, Job, LogChunk, MetricPoint
from app.db.models.job import LOGS_LEFT, METRICS_LEFT, PURGED_LEFT
from app.db.session import in_transaction, read_only
from app.jobs import repository

_ROWS_AT_ONCE: Final = 1000
_JOBS_AT_ONCE: Final = 100

_Rows = type[LogChunk] | type[MetricPoint] | type[Event]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Records:
    """What jobs write of one kind, and the columns of a job that say how much of it is gone."""

    kind: str
    rows: _Rows
    left: str
    """Says of a job, as its index does, that it ended and may have some."""
    last_seq: InstrumentedAttribute[int]
    removed_seq: InstrumentedAttribute[int]
    removed_at: InstrumentedAttribute[datetime | None]
    event_type: str
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Batch:
    """What one transaction removed."""

    num: int
    num_bytes: int
    is_last: bool


_LOGS: Final = _Records(
    kind="old log chunk",
    rows=LogChunk,
    left=LOGS_LEFT,
    last_seq=Job.last_log_seq,
    removed_seq=Job.removed_log_seq,
    removed_at=Job.logs_removed_at,
    event_type="logs_removed",
    message="its logs are no longer kept",
)
_METRICS: Final = _Records(
    kind="old metric point",
    rows=MetricPoint,
    left=METRICS_LEFT,
    last_seq=Job.last_metric_seq,
    removed_seq=Job.removed_metric_seq,
    removed_at=Job.metrics_removed_at,
    event_type="metrics_removed",
    message="its curves are no longer kept",
)
_OF_PURGED: Final[tuple[_Rows, ...]] = (LogChunk, MetricPoint, Event)


def drop_old_logs(engine: Engine, *, kept_seconds: float, dry_run: bool = False) -> Garbage:
    """Remove the logs of jobs that ended so long ago."""
    return _drop_old(engine, _LOGS, kept_seconds=kept_seconds, dry_run=dry_run)


def drop_old_metrics(engine: Engine, *, kept_seconds: float, dry_run: bool = False) -> Garbage:
    """Remove the curves of jobs that ended so long ago."""
    return _drop_old(engine, _METRICS, kept_seconds=kept_seconds, dry_run=dry_run)


def drop_purged_histories(engine: Engine, *, dry_run: bool = False) -> Garbage:
    """Remove events, curves and logs of purged jobs."""
    due: ColumnElement[bool] = and_(true(), text(PURGED_LEFT))
    kind = "record of a purged job"
    if dry_run:
        return _count(engine, due, _OF_PURGED, kind=kind)
    return _drop(engine, due, _drop_some_of_purged, kind=kind)


def _drop_old(engine: Engine, records: _Records, *, kept_seconds: float, dry_run: bool) -> Garbage:
    if math.isinf(kept_seconds):
        return Garbage(kind=records.kind, num=0, num_bytes=0)
    due = and_(text(records.left), Job.finished_at < db_time(-kept_seconds), records.last_seq > 0)
    if dry_run:
        return _count(engine, due, (records.rows,), kind=records.kind)
    return _drop(engine, due, lambda session, job: _drop_some_old(session, job, records), kind=records.kind)


def _drop(
    engine: Engine, due: ColumnElement[bool], drop_some: Callable[[Session, Job], _Batch], *, kind: str
) -> Garbage:
    """Remove what is due, some rows of one job at a time."""

    def drop_some_of(session: Session, job_id: str) -> _Batch | None:
        job = repository.lock_job(session, job_id)
        # It may have been taken up again, or somebody else was here.
        is_due = session.scalar(select(Job.id).where(Job.id == job_id, due)) is not None
        return drop_some(session, job) if is_due else None

    num = num_bytes = 0
    for job_id in _due_jobs(engine, due):
        while (batch := in_transaction(engine, drop_some_of, job_id)) is not None:
            num, num_bytes = num + batch.num, num_bytes + batch.num_bytes
            if batch.is_last:
                break
    return Garbage(kind=kind, num=num, num_bytes=num_bytes)


def _due_jobs(engine: Engine, due: ColumnElement[bool]) -> Iterator[str]:
    """Jobs of which something is to go; whoever takes the next one has dealt with those before."""
    while True:
        with read_only(engine) as session:
            ids = list(session.scalars(select(Job.id).where(due).limit(_JOBS_AT_ONCE)))
        yield from ids
        if len(ids) < _JOBS_AT_ONCE:
            return


def _drop_some_old(session: Session, job: Job, records: _Records) -> _Batch:
    last_seq: int = getattr(job, records.last_seq.key)
    if getattr(job, records.removed_seq.key) < last_seq:
        repository.add_event(session, job, records.event_type, records.message)
        _change(session, job, {records.removed_seq: last_seq})
    rows = records.rows
    batch = _delete_some(session, rows, and_(rows.job_id == job.id, rows.seq <= last_seq))
    if batch.is_last:
        _change(session, job, {records.removed_at: db_time()})
    return batch


def _drop_some_of_purged(session: Session, job: Job) -> _Batch:
    batches = [_delete_some(session, rows, rows.job_id == job.id) for rows in _OF_PURGED]
    is_last = all(batch.is_last for batch in batches)
    if is_last:
        _change(session, job, {Job.history_removed_at: db_time()})
    num, num_bytes = (
        sum(values) for values in zip(*((one.num, one.num_bytes) for one in batches), strict=True)
    )
    return _Batch(num=num, num_bytes=num_bytes, is_last=is_last)


def _delete_some(session: Session, rows: _Rows, which: ColumnElement[bool]) -> _Batch:
    """Delete the first of these rows of a job."""
    numbers = select(rows.seq).where(which).order_by(rows.seq)
    edge = session.scalar(numbers.offset(_ROWS_AT_ONCE - 1).limit(1))
    some = which if edge is None else and_(which, rows.seq <= edge)
    num, num_bytes = session.execute(select(func.count(), _num_bytes(rows)).where(some)).one()
    session.execute(delete(rows).where(some), execution_options={"synchronize_session": False})
    return _Batch(num=num, num_bytes=int(num_bytes), is_last=edge is None)


def _count(engine: Engine, due: ColumnElement[bool], of_kinds: tuple[_Rows, ...], *, kind: str) -> Garbage:
    num = num_bytes = 0
    with read_only(engine) as session:
        for rows in of_kinds:
            of_jobs = rows.job_id.in_(select(Job.id).where(due))
            found = session.execute(select(func.count(), _num_bytes(rows)).where(of_jobs)).one()
            num, num_bytes = num + found[0], num_bytes + int(found[1])
    return Garbage(kind=kind, num=num, num_bytes=num_bytes)


def _num_bytes(rows: _Rows) -> ColumnElement[Any]:
    """Only of logs it is written down."""
    return func.coalesce(func.sum(LogChunk.num_bytes), 0) if rows is LogChunk else literal(0)


def _change(session: Session, job: Job, values: dict[Any, Any]) -> None:
    statement = update(Job).where(Job.id == job.id).values(values)
    session.execute(statement.execution_options(synchronize_session=False))
