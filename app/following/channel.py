"""What one process knows of one followed job: its latest events and points, and who has to be woken.

Nothing is queued for a follower. It has a position, and what it lacks is either still here or read from the
database again; so a slow follower costs no memory and loses nothing.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from app.following.frames import EventFrame, MetricsFrame
from app.following.reading import Mark

KEPT_EVENTS: Final = 1000
KEPT_METRIC_FRAMES: Final = 60


class Channel:
    """Lives as long as somebody follows the job. Belongs to the event loop's thread."""

    def __init__(self, mark: Mark) -> None:
        self.mark = mark
        self.event_seq = mark.event_seq
        self.metric_seq = mark.metric_seq
        self.progress: bytes | None = None
        self.progress_number = 0
        self.num_followers = 0
        self.num_wanting_points = 0
        self.version = 0
        self.is_gone = False
        """The job is nowhere to be found any more: nothing comes."""
        self.is_broken = False
        """Something of the job could not be handed out: whoever follows it has to come back."""
        self._events: deque[EventFrame] = deque(maxlen=KEPT_EVENTS)
        self._metrics: deque[MetricsFrame] = deque(maxlen=KEPT_METRIC_FRAMES)
        self._changed = asyncio.Event()

    @property
    def is_alive(self) -> bool:
        """Whether it makes sense to wait for something here."""
        return not (self.is_gone or self.is_broken)

    @property
    def is_over(self) -> bool:
        """Whether the job has finished, and every event of it was seen here."""
        return self.mark.is_finished and self.event_seq >= self.mark.event_seq

    def events_after(self, seq: int) -> list[EventFrame] | None:
        """Every event after number `seq`; None when some of them are no longer here."""
        if seq < self.event_seq - len(self._events):
            return None
        return [frame for frame in self._events if frame.seq > seq]

    def metrics_after(self, seq: int) -> list[MetricsFrame] | None:
        """Every point after number `seq`; None when some of them are no longer here, or in another cut."""
        if seq >= self.metric_seq:
            return []
        found = [frame for frame in self._metrics if frame.to > seq]
        return found if found and found[0].after == seq else None

    def take_mark(self, mark: Mark) -> None:
        """Hear how far the job is; what is older than what is known says nothing."""
        is_older = mark.event_seq < self.mark.event_seq or mark.metric_seq < self.mark.metric_seq
        if mark != self.mark and not is_older:
            self.mark = mark
            self.wake()

    def take_events(self, frames: Sequence[EventFrame]) -> None:
        """The events that follow the last one, in order.

        Raises:
            AssertionError: one is missing in between, and may yet appear: what comes after it has to wait.
        """
        for frame in frames:
            assert frame.seq == self.event_seq + 1, f"event {frame.seq} after {self.event_seq}"
            self._events.append(frame)
            self.event_seq = frame.seq
        self.wake()

    def take_metrics(self, frame: MetricsFrame) -> None:
        """The points that follow the last one."""
        if frame.after == self.metric_seq:
            self._metrics.append(frame)
            self.metric_seq = frame.to
            self.wake()

    def take_progress(self, frame: bytes) -> None:
        """Only the newest is kept."""
        if frame != self.progress:
            self.progress = frame
            self.progress_number += 1
            self.wake()

    def skip_events(self, to: int) -> None:
        """Those of a purged job are nowhere to be found."""
        if to > self.event_seq:
            self._events.clear()
            self.event_seq = to
            self.wake()

    def lose_job(self) -> None:
        """Let everybody go: there is no such job any more."""
        self.is_gone = True
        self.wake()

    def break_off(self) -> None:
        """Let everybody go, so that they come back and read from the database what they lack."""
        self.is_broken = True
        self.wake()

    def skip_metrics(self, to: int) -> None:
        """While nobody wants points none are read, and those that were replaced are nowhere to be found."""
        self._metrics.clear()
        self.metric_seq = to

    def wake(self) -> None:
        self.version += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait(self, version: int, seconds: float) -> bool:
        """Wait until the channel is newer than `version`; False when it is not after `seconds`."""
        if self.version == version:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, seconds)):
                    await self._changed.wait()
        return self.version != version
