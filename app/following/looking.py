"""What the poller asks the database, and what it is told. Runs in a thread of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine

from app.accounts.service import live_key_ids
from app.db.session import read_only
from app.following.frames import EventFrame, MetricsFrame, event_frame, metrics_frame, progress_frame
from app.following.reading import (
    EVENTS_AT_ONCE,
    POINTS_AT_ONCE,
    Mark,
    read_events,
    read_marks,
    read_points,
    read_progress,
)
from app.jobs.lifecycle import JobStatus

_WORKING = (JobStatus.RUNNING, JobStatus.PAUSING, JobStatus.CANCELLING)


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What is known of the followed jobs. Points only where `metric_seqs` names the job."""

    marks: Mapping[str, Mark]
    event_seqs: Mapping[str, int]
    metric_seqs: Mapping[str, int]
    progress: bool
    key_ids: frozenset[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """What is new, encoded."""

    marks: list[Mark]
    events: dict[str, list[EventFrame]]
    metrics: dict[str, MetricsFrame]
    progress: dict[str, bytes]
    live_keys: frozenset[str]
    has_more: bool


def look(engine: Engine, wanted: Wanted) -> Look:
    """Marks first: whatever is committed before a job is seen as finished is found by the queries after."""
    with read_only(engine) as session:
        marks = read_marks(session, wanted.marks)
        events = read_events(
            session,
            {
                mark.job_id: wanted.event_seqs[mark.job_id]
                for mark in marks
                if mark.event_seq > wanted.event_seqs[mark.job_id]
            },
        )
        points = read_points(
            session,
            {
                mark.job_id: wanted.metric_seqs[mark.job_id]
                for mark in marks
                if mark.metric_seq > wanted.metric_seqs.get(mark.job_id, mark.metric_seq)
            },
        )
        working = [mark.job_id for mark in marks if mark.status in _WORKING]
        progress = read_progress(session, working) if wanted.progress and working else {}
        live_keys = live_key_ids(session, wanted.key_ids) if wanted.key_ids else frozenset()
    return Look(
        marks=marks,
        events={job_id: [event_frame(event) for event in found] for job_id, found in events.items()},
        metrics={
            job_id: metrics_frame(job_id, found, after=wanted.metric_seqs[job_id])
            for job_id, found in points.items()
        },
        progress={job_id: progress_frame(job_id, found) for job_id, found in progress.items()},
        live_keys=live_keys,
        has_more=_is_full(events, EVENTS_AT_ONCE) or _is_full(points, POINTS_AT_ONCE),
    )


def _is_full(found: Mapping[str, Sequence[object]], limit: int) -> bool:
    return sum(len(items) for items in found.values()) >= limit
