"""What more requests than a process can answer come to: those that would wait too long are refused at once.

Requests wait in one line for threads, most of them twice. Without an end to the line everybody would wait
longer and longer, clients would give up, and the work done for them would be lost; so the line is closed
while it is too long. Those in it are answered, and whoever is refused is told when to come again.
"""

import asyncio
from collections import deque
from random import SystemRandom
from typing import Final

from anyio import CapacityLimiter, create_task_group
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import Unavailable
from app.logs import get_logger
from app.problems import problem_response
from app.request_context import QUIET_PATHS

_PROBE_EVERY_SECONDS: Final = 0.25
_LONGEST_PAUSE_SECONDS: Final = 5
"""Until another try; each is told another pause, or all would come again together."""

log = get_logger(__name__)


class WaitingLine:
    """The line of those who wait for a thread, measured by standing in it four times a second."""

    def __init__(self) -> None:
        self._threads: CapacityLimiter | None = None
        self._joined_at: deque[float] = deque()
        """When those of us joined who stand in it."""
        self._seconds_per_place = 0.0
        """What the last of us waited, over the number of those who were before it."""

    @property
    def waiting_seconds(self) -> float:
        """How long whoever joins now is going to wait, as far as that can be known."""
        if self._threads is None:
            return 0.0
        waited = _now() - self._joined_at[0] if self._joined_at else 0.0
        return max(waited, self._threads.statistics().tasks_waiting * self._seconds_per_place)

    async def watch(self, threads: CapacityLimiter) -> None:
        """Until cancelled."""
        self._threads = threads
        async with create_task_group() as probes:
            while True:
                probes.start_soon(self._stand_in_line, threads)
                await asyncio.sleep(_PROBE_EVERY_SECONDS)

    async def _stand_in_line(self, threads: CapacityLimiter) -> None:
        joined_at, place = _now(), threads.statistics().tasks_waiting + 1
        self._joined_at.append(joined_at)
        async with threads:
            self._joined_at.popleft()
            self._seconds_per_place = (_now() - joined_at) / place


class OverloadMiddleware:
    """Lets no request join the line of the app's state while it is longer than `max_wait_seconds`."""

    def __init__(self, app: ASGIApp, *, max_wait_seconds: float) -> None:
        self._app = app
        self._max_wait_seconds = max_wait_seconds
        self._is_closed = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in QUIET_PATHS and self._is_too_long(scope["app"]):
            refuse = problem_response(_overload(), instance=scope["path"])
            await refuse(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _is_too_long(self, app: Starlette) -> bool:
        line: WaitingLine = app.state.waiting_line
        seconds = line.waiting_seconds
        was_closed, self._is_closed = self._is_closed, seconds > self._max_wait_seconds
        if self._is_closed and not was_closed:
            log.warning("overloaded", waiting_seconds=round(seconds, 1))
        return self._is_closed


def _now() -> float:
    return asyncio.get_running_loop().time()


def _overload() -> Unavailable:
    pause = SystemRandom().randint(1, _LONGEST_PAUSE_SECONDS)
    return Unavailable(
        "the service has more requests than it can answer; try again",
        code="overloaded",
        headers={"Retry-After": str(pause)},
    )
