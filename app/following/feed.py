"""One poller per API process, for everybody there who follows a job: the database is the only source.

It asks a few questions however many follow, holds a connection only while it asks, and rests when nobody
follows. Nothing is lost when it, or the process, ends: followers come back with the last number they saw.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final, TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app.errors import Unavailable
from app.following.channel import Channel
from app.following.looking import Look, Wanted, look
from app.following.reading import Mark
from app.logs import get_logger

KEY_CHECK_SECONDS: Final = 5.0
PROGRESS_SECONDS: Final = 1.0
_NUM_READERS: Final = 4
"""Threads, and so connections to the database, for all followers that lag behind."""

T = TypeVar("T")
log = get_logger(__name__)


class Feed:
    """Followed jobs by id. Apart from reading, everything happens in the event loop's thread."""

    def __init__(
        self,
        engine: Engine,
        *,
        poll_seconds: float,
        max_followers: int,
        key_check_seconds: float = KEY_CHECK_SECONDS,
    ) -> None:
        self._engine = engine
        self._key_check_seconds = key_check_seconds
        self._poll_seconds = poll_seconds
        self._max_followers = max_followers
        self._channels: dict[str, Channel] = {}
        self._keys: Counter[str] = Counter()
        self._dead_keys: set[str] = set()
        self._keys_checked_at = self._progress_at = 0.0
        self._poller: asyncio.Task[None] | None = None
        self._poll_thread = ThreadPoolExecutor(1, "feed-poll")
        self._readers = ThreadPoolExecutor(_NUM_READERS, "feed-read")
        self.is_closing = False

    @property
    def num_followers(self) -> int:
        return sum(self._keys.values())

    def require_room(self) -> None:
        """Raises Unavailable when as many follow as may, or the process is about to end."""
        if self.is_closing:
            raise Unavailable("this process is about to end; ask again", code="server_stopping")
        if self.num_followers >= self._max_followers:
            raise Unavailable(
                f"{self._max_followers} clients follow jobs through this process, and no more may",
                code="too_many_followers",
            )

    @contextmanager
    def follow(self, mark: Mark, *, key_id: str, wants_points: bool) -> Iterator[Channel]:
        """The channel of a job, as long as the block runs."""
        channel = self._channels.get(mark.job_id) or Channel(mark)
        self._channels[mark.job_id] = channel
        channel.take_mark(mark)
        channel.num_followers += 1
        channel.num_wanting_points += wants_points
        self._keys[key_id] += 1
        self._keep_polling()
        try:
            yield channel
        finally:
            channel.num_followers -= 1
            channel.num_wanting_points -= wants_points
            self._keys -= Counter([key_id])
            if channel.num_followers == 0 and self._channels.get(mark.job_id) is channel:
                del self._channels[mark.job_id]

    def is_welcome(self, key_id: str) -> bool:
        """Whether a follower may go on: its key works, and the process is to stay."""
        return not self.is_closing and key_id not in self._dead_keys

    async def read(self, function: Callable[[], T]) -> T:
        """Do something with the database in one of a few threads."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, function)

    def close(self) -> None:
        """Let everybody go, at once."""
        self.is_closing = True
        for channel in self._channels.values():
            channel.wake()

    def dispose(self) -> None:
        """Give the threads back; nobody follows any more."""
        self.close()
        if self._poller is not None:
            self._poller.cancel()
        self._poll_thread.shutdown(wait=False)
        self._readers.shutdown(wait=False)

    def _keep_polling(self) -> None:
        poller = self._poller
        if poller is None or poller.done() or poller.get_loop() is not asyncio.get_running_loop():
            self._poller = asyncio.get_running_loop().create_task(self._poll(), name="feed")

    async def _poll(self) -> None:
        loop = asyncio.get_running_loop()
        while self._channels and not self.is_closing:
            wanted = self._wanted()
            try:
                found = await loop.run_in_executor(self._poll_thread, look, self._engine, wanted)
                self._hand_out(wanted, found)
                if found.has_more:
                    continue
            except SQLAlchemyError as error:
                # Followers hear heartbeats meanwhile, and miss nothing.
                log.warning("database_unreachable", num_jobs=len(wanted.marks), error=str(error))
            except Exception:
                # Nobody would notice that the poller is gone.
                log.exception("feed_failed")
            await asyncio.sleep(self._poll_seconds)

    def _wanted(self) -> Wanted:
        now = time.monotonic()
        checks_keys = now - self._keys_checked_at >= self._key_check_seconds
        shows_progress = now - self._progress_at >= PROGRESS_SECONDS
        self._keys_checked_at = now if checks_keys else self._keys_checked_at
        self._progress_at = now if shows_progress else self._progress_at
        return Wanted(
            marks={job_id: channel.mark for job_id, channel in self._channels.items()},
            event_seqs={job_id: channel.event_seq for job_id, channel in self._channels.items()},
            metric_seqs={
                job_id: channel.metric_seq
                for job_id, channel in self._channels.items()
                if channel.num_wanting_points
            },
            progress=shows_progress,
            key_ids=frozenset(self._keys) if checks_keys else frozenset(),
        )

    def _hand_out(self, wanted: Wanted, found: Look) -> None:
        marks = {mark.job_id: mark for mark in found.marks}
        for job_id, event_seq in wanted.event_seqs.items():
            channel = self._channels.get(job_id)
            if channel is None or channel.event_seq != event_seq:
                continue  # everybody left, and perhaps somebody else came
            try:
                _hand_to(channel, marks.get(job_id), found)
            except Exception:
                # What is wrong with one job is told to nobody who follows another one.
                log.exception("following_failed", job_id=job_id)
                del self._channels[job_id]
                channel.break_off()
        if wanted.key_ids:
            self._dismiss(wanted.key_ids - found.live_keys)

    def _dismiss(self, dead: frozenset[str]) -> None:
        self._dead_keys = (self._dead_keys & set(self._keys)) | dead
        if dead:
            for channel in self._channels.values():
                channel.wake()


def _hand_to(channel: Channel, mark: Mark | None, found: Look) -> None:
    """What is new of one job; `mark` is None where there is no such job any more."""
    if mark is None:
        channel.lose_job()
        return
    if failure := found.failures.get(mark.job_id):
        raise failure
    # Events before the mark: whoever sees the job finished has its last event at hand.
    if frames := found.events.get(mark.job_id):
        channel.take_events(frames)
    elif not found.has_more:
        channel.skip_events(mark.event_seq)
    if metrics := found.metrics.get(mark.job_id):
        channel.take_metrics(metrics)
    elif not found.has_more:
        channel.skip_metrics(mark.metric_seq)
    if progress := found.progress.get(mark.job_id):
        channel.take_progress(progress)
    channel.take_mark(mark)
