"""What the poller asks the database, and what it is told. Runs in a thread of its own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

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

FoundT = TypeVar("FoundT")
FrameT = TypeVar("FrameT")
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
    failures: dict[str, Exception]
    """Why something of a job could not be encoded."""
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
    failures: dict[str, Exception] = {}
    return Look(
        marks=marks,
        events=_encoded(events, lambda _, found: [event_frame(event) for event in found], failures),
        metrics=_encoded(
            points,
            lambda job_id, found: metrics_frame(job_id, found, after=wanted.metric_seqs[job_id]),
            failures,
        ),
        progress=_encoded(progress, progress_frame, failures),
        live_keys=live_keys,
        failures=failures,
        has_more=_is_full(events, EVENTS_AT_ONCE) or _is_full(points, POINTS_AT_ONCE),
    )


def _encoded(
    found: Mapping[str, FoundT], encode: Callable[[str, FoundT], FrameT], failures: dict[str, Exception]
) -> dict[str, FrameT]:
    """By job, apart from those whose rows cannot be encoded."""
    frames = {}
    for job_id, items in found.items():
        try:
            frames[job_id] = encode(job_id, items)
        except Exception as error:  # noqa: BLE001 - it is logged with the job, and only its followers are let go
            failures[job_id] = error
    return frames


def _is_full(found: Mapping[str, Sequence[object]], limit: int) -> bool:
    return sum(len(items) for items in found.values()) >= limit
