"""What more requests than a process can answer come to: those that would wait too long are refused at once.

Requests wait in one line for threads, several times each. Without an end to the line everybody would wait
longer and longer, clients would give up, and the work done for them would be lost; so the line is closed
until it is short again. Those in it are answered, and whoever is refused is told when to come again.
"""

import asyncio
import time
from random import SystemRandom
from typing import Final

from anyio import CapacityLimiter
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import Unavailable
from app.problems import problem_response
from app.request_context import QUIET_PATHS

_LOOK_EVERY_SECONDS: Final = 0.25
_LONGEST_PAUSE_SECONDS: Final = 5
"""Until another try; each is told another pause, or all would come again together."""


class WaitingLine:
    """The line of those who wait for a thread, measured by standing in it again and again."""

    def __init__(self) -> None:
        self._joined_at: float | None = None

    @property
    def waiting_seconds(self) -> float:
        """How long the line is at least."""
        return 0.0 if self._joined_at is None else time.monotonic() - self._joined_at

    async def watch(self, threads: CapacityLimiter) -> None:
        """Until cancelled."""
        while True:
            self._joined_at = time.monotonic()
            async with threads:
                self._joined_at = None
            await asyncio.sleep(_LOOK_EVERY_SECONDS)


class OverloadMiddleware:
    """Lets no request join the line of the app's state while it is longer than `max_wait_seconds`."""

    def __init__(self, app: ASGIApp, *, max_wait_seconds: float) -> None:
        self._app = app
        self._max_wait_seconds = max_wait_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] == "http" and scope["path"] not in QUIET_PATHS:
            line: WaitingLine = scope["app"].state.waiting_line
            if line.waiting_seconds > self._max_wait_seconds:
                app = problem_response(_overload(), instance=scope["path"])
        await app(scope, receive, send)


def _overload() -> Unavailable:
    pause = SystemRandom().randint(1, _LONGEST_PAUSE_SECONDS)
    return Unavailable(
        "the service has more requests than it can answer; try again",
        code="overloaded",
        headers={"Retry-After": str(pause)},
    )
