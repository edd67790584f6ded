"""What goes over the wire of a stream, encoded once for all who follow."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from fastapi.sse import format_sse_event

from app.db.base import unix_seconds
from app.db.models import Event
from app.following.reading import Mark, Point
from app.following.types import JOB_END, JOB_METRICS, JOB_PROGRESS
from app.jobs.progress import JobProgress
from app.jobs.schemas import EventOut, ProgressOut

RETRY_MILLISECONDS: Final = 3000
# At once and before anything else: proxies hold back the headers until the first byte of a body.
OPENING: Final = format_sse_event(comment="fusion", retry=RETRY_MILLISECONDS)
HEARTBEAT: Final = format_sse_event(comment="still here")


@dataclass(frozen=True, kw_only=True, slots=True)
class EventFrame:
    """An event of the history."""

    seq: int
    type: str
    data: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricsFrame:
    """Points after number `after` of the job, up to and with number `to`."""

    after: int
    to: int
    data: bytes


def event_frame(event: Event) -> EventFrame:
    text = EventOut.of(event).model_dump_json()
    data = format_sse_event(data_str=text, event=event.type, id=str(event.seq))
    return EventFrame(seq=event.seq, type=event.type, data=data)


def metrics_frame(job_id: str, points: Sequence[Point], *, after: int) -> MetricsFrame:
    """At least one point."""
    to = points[-1].seq
    shown = [
        {
            "step_name": point.step_name,
            "step": point.metric_step,
            "attempt": point.attempt,
            "values": point.values,
            "created_at": unix_seconds(point.created_at),
        }
        for point in points
    ]
    data = _unnumbered(
        JOB_METRICS, {"object": JOB_METRICS, "job_id": job_id, "points": shown, "next_since": to}
    )
    return MetricsFrame(after=after, to=to, data=data)


def progress_frame(job_id: str, progress: JobProgress) -> bytes:
    shown = ProgressOut.of_step(progress).model_dump(mode="json", exclude={"estimated_finish_at"})
    # What the whole job will take is worth more queries than one a second.
    shown["stage_eta_seconds"] = shown.pop("eta_seconds")
    return _unnumbered(JOB_PROGRESS, {"object": JOB_PROGRESS, "job_id": job_id, "progress": shown})


def end_frame(mark: Mark, *, is_deleted: bool) -> bytes:
    """The last one: nothing follows unless the job is taken up again, which one that is deleted never is."""
    told = {
        "object": JOB_END,
        "job_id": mark.job_id,
        "status": mark.status,
        "seq": mark.event_seq,
        "deleted": is_deleted,
    }
    return format_sse_event(data_str=json.dumps(told), event=JOB_END, id=str(mark.event_seq))


def _unnumbered(event_type: str, data: dict[str, Any]) -> bytes:
    """Not of the history, so without an id: a reader that comes back goes on from the last event."""
    return format_sse_event(data_str=json.dumps(data, separators=(",", ":")), event=event_type)
