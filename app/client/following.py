"""Calls that follow a job: its history and curves, as they are and as they come."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.client.calls import Calls
from app.client.errors import GoneError, StreamRefusedError, UnreachableError
from app.client.event_stream import ServerEvent
from app.client.reconnecting import follow_events
from app.client.resources.following import Curves, Event, LogLine, MetricPoint
from app.client.resources.jobs import Job, Step

JOB_END = "job.end"
_CHANGING = ("job_", "step_", JOB_END)
"""Beginnings of the types after which job and steps look otherwise."""
_WATCHED = ("job_*", "step_*", "note", "job.progress")


@dataclass(frozen=True, kw_only=True, slots=True)
class JobUpdate:
    """What `watch` saw: the job and its steps now, and what is new since the update before."""

    job: Job
    steps: list[Step]
    events: list[Event]
    metrics: list[MetricPoint]


@dataclass(kw_only=True, slots=True)
class _Seen:
    """What a watcher has told already."""

    event_seq: int = 0
    metric_seq: int = 0
    looked_at: float = field(default=float("-inf"))
    answered_at: float = field(default_factory=time.monotonic)


class Following(Calls):
    """What happens to jobs."""

    def get_job(
        self, job_id: str, *, wait_seconds: float | None = None, since_version: int | None = None
    ) -> Job:
        """One job; with `wait_seconds`, up to so much later, when it has another version than that."""
        params = {"wait": wait_seconds, "since_version": since_version}
        return Job.model_validate(self._transport.request("GET", f"/v1/jobs/{job_id}", params=params))

    def steps(self, job_id: str) -> list[Step]:
        return self._whole_list(f"/v1/jobs/{job_id}/steps", Step)

    def events(
        self, job_id: str, *, after: str | int | None = None, types: Sequence[str] = ()
    ) -> list[Event]:
        """History of a job in order, from the event after `after` (its id or `seq`)."""
        params = {"order": "asc", "after": after or None, "types": ",".join(types) or None}
        return self._list(f"/v1/jobs/{job_id}/events", Event, params=params)

    def follow(
        self,
        job_id: str,
        *,
        after: int = 0,
        metrics_since: int | None = None,
        types: Sequence[str] = (),
        patience_seconds: float = 120.0,
    ) -> Iterator[ServerEvent]:
        """Everything after event number `after`, each once, as it comes, up to and with `job.end`.

        Connections may be cut and the service restarted meanwhile: `patience_seconds` without a word from
        it end the call.

        Raises:
            StreamRefusedError: the service, or something before it, gives no stream.
        """
        return follow_events(
            self._transport,
            job_id,
            after=after,
            metrics_since=metrics_since,
            types=types,
            patience_seconds=patience_seconds,
        )

    def follow_history(
        self,
        job_id: str,
        *,
        after: int = 0,
        types: Sequence[str] = (),
        poll_seconds: float = 1.0,
        patience_seconds: float = 120.0,
    ) -> Iterator[Event]:
        """Events of the history after number `after`, each once, as they come, until the job has ended.

        Follows the stream, or asks every `poll_seconds` where there is none.
        """
        try:
            for told in self.follow(job_id, after=after, types=types, patience_seconds=patience_seconds):
                if told.data["object"] == "event":
                    after = told.data["seq"]
                    yield Event.model_validate(told.data)
            return
        except StreamRefusedError:
            pass
        while True:
            is_over = self.get_job(job_id).is_terminal
            for event in self.events(job_id, after=after, types=types):
                after = event.seq
                yield event
            if is_over:
                return
            time.sleep(poll_seconds)

    def logs(
        self,
        job_id: str,
        *,
        step: str | None = None,
        attempt: int | None = None,
        level: str | None = None,
        tail: int | None = None,
        since: int = 0,
    ) -> list[LogLine]:
        """Lines that the attempts of a job wrote: those after `since` (a `seq`), or the last `tail`."""
        params = {"step": step, "attempt": attempt, "level": level, "tail": tail, "since": since or None}
        text = self._transport.text(f"/v1/jobs/{job_id}/logs", params={"format": "ndjson", **params})
        return [LogLine.model_validate_json(line) for line in text.split("\n") if line]

    def follow_logs(
        self, job_id: str, *, poll_seconds: float = 1.0, patience_seconds: float = 120.0, **which: Any
    ) -> Iterator[LogLine]:
        """Lines as they are written, until the job has ended; `which`: arguments of `logs`."""
        answered_at = time.monotonic()
        while True:
            try:
                # The job first: what is read after a terminal status is complete.
                is_over = self.get_job(job_id).is_terminal
                lines = self.logs(job_id, **which)
            except UnreachableError:
                if time.monotonic() - answered_at > patience_seconds:
                    raise
                continue
            except GoneError:
                if is_over:
                    raise
                # It was taken up again long after its end, and has written nothing since.
                lines = []
            answered_at = time.monotonic()
            yield from lines
            if is_over:
                return
            if lines:
                which |= {"since": lines[-1].seq, "tail": None}
            time.sleep(poll_seconds)

    def metrics(
        self,
        job_id: str,
        *,
        keys: Sequence[str] = (),
        x: str = "step",
        max_points: int = 1000,
        since: int = 0,
    ) -> Curves:
        """Training curves of a job as columns, by `STEP/VALUE`; `keys` may hold `*`."""
        params = {"keys": ",".join(keys) or None, "x": x, "max_points": max_points, "since": since or None}
        answer = self._transport.request("GET", f"/v1/jobs/{job_id}/metrics", params=params)
        return Curves.model_validate(answer)

    def metric_points(self, job_id: str, *, since: int = 0) -> list[MetricPoint]:
        """Every point of a job's curves, from the one after number `since` on."""
        params = {"format": "ndjson", "since": since or None}
        text = self._transport.text(f"/v1/jobs/{job_id}/metrics", params=params)
        return [MetricPoint.model_validate_json(line) for line in text.splitlines()]

    def watch(
        self, job_id: str, *, poll_seconds: float = 1.0, patience_seconds: float = 120.0
    ) -> Iterator[JobUpdate]:
        """Yield the job until it ends; the last update shows it in a terminal status.

        It follows the job's stream, or asks every `poll_seconds` where there is none. A service that restarts
        meanwhile is waited for: `patience_seconds` without an answer end the watch.
        """
        seen = _Seen()
        update = self._look_patiently(job_id, seen, patience_seconds=patience_seconds)
        yield update
        changes = self._changes(job_id, seen, poll_seconds=poll_seconds, patience_seconds=patience_seconds)
        while not update.job.is_terminal:
            next(changes)
            update = self._look_patiently(job_id, seen, patience_seconds=patience_seconds)
            yield update

    def _changes(
        self, job_id: str, seen: _Seen, *, poll_seconds: float, patience_seconds: float
    ) -> Iterator[None]:
        """An item for each moment at which it is worth looking; without end."""
        try:
            for told in self.follow(
                job_id, after=seen.event_seq, types=_WATCHED, patience_seconds=patience_seconds
            ):
                if told.type.startswith(_CHANGING) or time.monotonic() - seen.looked_at >= poll_seconds:
                    yield
        except StreamRefusedError:
            # An older service, or a proxy that lets no stream through.
            pass
        while True:
            time.sleep(poll_seconds)
            yield

    def _look_patiently(self, job_id: str, seen: _Seen, *, patience_seconds: float) -> JobUpdate:
        while True:
            try:
                update = self._look(job_id, seen)
            except UnreachableError:
                if time.monotonic() - seen.answered_at > patience_seconds:
                    raise
                continue
            seen.looked_at = seen.answered_at = time.monotonic()
            return update

    def _look(self, job_id: str, seen: _Seen) -> JobUpdate:
        # The job first: what is read after a terminal status is complete.
        job = self.get_job(job_id)
        steps = self.steps(job_id)
        events = self.events(job_id, after=seen.event_seq)
        points = self._points_that_are_kept(job_id, since=seen.metric_seq)
        seen.event_seq = max((event.seq for event in events), default=seen.event_seq)
        seen.metric_seq = max((point.seq for point in points), default=seen.metric_seq)
        return JobUpdate(job=job, steps=steps, events=events, metrics=points)

    def _points_that_are_kept(self, job_id: str, *, since: int) -> list[MetricPoint]:
        try:
            return self.metric_points(job_id, since=since)
        except GoneError:
            # The job ended long ago; whoever watches it wants to know how.
            return []
