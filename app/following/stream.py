"""One client that follows a job: everything after its position, then whatever comes, until the end."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from fastapi.sse import EventSourceResponse
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import Send

from app.db.session import read_only
from app.following.channel import Channel
from app.following.feed import Feed
from app.following.frames import (
    HEARTBEAT,
    OPENING,
    EventFrame,
    MetricsFrame,
    end_frame,
    event_frame,
    metrics_frame,
)
from app.following.reading import Mark, read_events, read_points
from app.following.types import JOB_METRICS, JOB_PROGRESS, TypeFilter
from app.logs import get_logger

_DATABASE_PAUSE_SECONDS = 2.0
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}

log = get_logger(__name__)


@dataclass(kw_only=True, slots=True)
class Position:
    """What the client has: events and points up to these numbers."""

    event_seq: int
    metric_seq: int
    progress_number: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Follower:
    """Who follows, and what it wants. `engine` sees the rows of its project only."""

    feed: Feed
    engine: Engine
    mark: Mark
    key_id: str
    types: TypeFilter
    at: Position
    heartbeat_seconds: float
    stays: bool
    """Whether to wait for more; else what there is is sent, and that is all."""

    @property
    def wants_points(self) -> bool:
        return self.types.wants(JOB_METRICS)

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """Pieces of the body. Holds no thread and no connection to the database while it waits."""
        yield OPENING
        with self.feed.follow(self.mark, key_id=self.key_id, wants_points=self.wants_points) as channel:
            sent_at = time.monotonic()
            while self.feed.is_welcome(self.key_id) and not channel.is_broken:
                version = channel.version
                try:
                    news = await self._next(channel)
                except SQLAlchemyError as error:
                    log.warning("database_unreachable", error=str(error))
                    yield HEARTBEAT
                    await asyncio.sleep(_DATABASE_PAUSE_SECONDS)
                    continue
                if news is None:
                    if channel.is_gone or (channel.is_over and self._has_all_of(channel)):
                        is_deleted = channel.is_gone or channel.mark.is_deleted
                        yield end_frame(channel.mark, is_deleted=is_deleted)
                        return
                    if not self.stays:
                        return
                    rest = self.heartbeat_seconds - (time.monotonic() - sent_at)
                    if (
                        await channel.wait(version, rest)
                        or time.monotonic() - sent_at < self.heartbeat_seconds
                    ):
                        continue
                    news = HEARTBEAT
                if news:
                    yield news
                    sent_at = time.monotonic()

    async def _next(self, channel: Channel) -> bytes | None:
        """What comes next, perhaps nothing that is wanted; None when the client has all there is.

        Points before events: who comes back with an event's number is sent the points that were written after
        it, and must have had those before it.
        """
        news = b""
        at, is_new = self.at, False
        to = max(channel.metric_seq, channel.mark.metric_seq, self.mark.metric_seq)
        if self.wants_points and at.metric_seq < to:
            frames = await self._metrics(channel)
            # Points that were replaced since are found under later numbers.
            at.metric_seq = frames[-1].to if frames else to
            return b"".join(frame.data for frame in frames)
        to = max(channel.event_seq, self.mark.event_seq)
        if at.event_seq < to:
            events = await self._events(channel, to=to)
            # Where there are none any more, nothing is to be waited for.
            is_new, at.event_seq = True, events[-1].seq if events else to
            news += b"".join(frame.data for frame in events if self.types.wants(frame.type))
        if at.progress_number != channel.progress_number and channel.progress is not None:
            is_new, at.progress_number = True, channel.progress_number
            news += channel.progress if self.types.wants(JOB_PROGRESS) else b""
        return news if is_new else None

    async def _events(self, channel: Channel, *, to: int) -> list[EventFrame]:
        """The next ones up to number `to`: what was written since can have points before it that nobody has
        heard of yet.
        """
        job_id, after = self.mark.job_id, self.at.event_seq
        kept = channel.events_after(after)
        if kept or (kept is not None and after >= self.mark.event_seq):
            return kept

        def read() -> list[EventFrame]:
            with read_only(self.engine) as session:
                found = read_events(session, {job_id: after})
            return [event_frame(event) for event in found.get(job_id, []) if event.seq <= to]

        return await self.feed.read(read)

    async def _metrics(self, channel: Channel) -> list[MetricsFrame]:
        job_id, after = self.mark.job_id, self.at.metric_seq
        if kept := channel.metrics_after(after):
            return kept

        def read() -> list[MetricsFrame]:
            with read_only(self.engine) as session:
                found = read_points(session, {job_id: after}).get(job_id)
            return [metrics_frame(job_id, found, after=after)] if found else []

        return await self.feed.read(read)

    def _has_all_of(self, channel: Channel) -> bool:
        return self.at.event_seq >= channel.event_seq and (
            not self.wants_points or self.at.metric_seq >= channel.mark.metric_seq
        )


class JobStream(EventSourceResponse):
    """Sends what a follower's frames are, and lets go of it when the client does."""

    def __init__(self, follower: Follower) -> None:
        self._frames = follower.frames()
        super().__init__(self._frames, headers=_HEADERS)

    async def stream_response(self, send: Send) -> None:
        # A client that leaves while a piece is being sent stops this task, and not the generator by itself.
        async with aclosing(self._frames):
            await super().stream_response(send)
