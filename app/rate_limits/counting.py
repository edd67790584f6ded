"""Counts requests by name in windows of one minute: in this process, or in Redis for all of them."""

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, cast

from limits.storage import RedisStorage
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from app.logs import get_logger

WINDOW_SECONDS: Final = 60
ANSWER_SECONDS: Final = 0.2
"""How long a request waits for Redis."""
PAUSE_SECONDS: Final = 10.0
"""How long nobody asks a Redis that did not answer."""
MAX_NAMES: Final = 100_000
"""Counted at once without Redis."""

log = get_logger(__name__)


class Counter(Protocol):
    """Something that counts."""

    def count(self, name: str, *, window: int) -> int | None:
        """One more; how many there are in this window by now, or None when nobody can tell."""


@dataclass(kw_only=True)
class LocalCounter:
    """Counts what this process sees. Of too many names it forgets the one that was silent for longest:
    whoever asks all the time is remembered, however many others come."""

    _window: int = 0
    _counts: OrderedDict[str, int] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, name: str, *, window: int) -> int:
        with self._lock:
            if window != self._window:
                self._window = window
                self._counts.clear()
            used = self._counts[name] = self._counts.pop(name, 0) + 1
            if len(self._counts) > MAX_NAMES:
                self._counts.popitem(last=False)
            return used


class RedisCounter:
    """Counts for all processes that use the same Redis. One that does not answer is left alone for a while:
    only the requests that find it out wait for it, and those no longer than a moment."""

    def __init__(self, url: str) -> None:
        options: dict[str, Any] = {
            "socket_timeout": ANSWER_SECONDS,
            "socket_connect_timeout": ANSWER_SECONDS,
            "retry": Retry(NoBackoff(), 0),
        }
        self._storage = RedisStorage(url, key_prefix="fusion-rate", **options)
        self._away_until = 0.0

    def count(self, name: str, *, window: int) -> int | None:
        if time.monotonic() < self._away_until:
            return None
        try:
            # Twice its length, because the clocks of processes differ a little.
            return self._storage.incr(f"{name}/{window}", 2 * WINDOW_SECONDS)
        except (RedisError, OSError) as error:
            self._away_until = time.monotonic() + PAUSE_SECONDS
            log.warning("rate_limits_local", error=str(error), for_seconds=PAUSE_SECONDS)
            return None

    def close(self) -> None:
        cast("Any", self._storage.storage).close()
