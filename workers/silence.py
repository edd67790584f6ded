"""How long nothing has been heard of a stage."""

import time
from collections.abc import Callable

MAX_GAP_SECONDS = 5.0
"""What one look can add: a supervisor that was itself suspended must not blame the stage for it."""


class Silence:
    """Counts the time between looks in which the stage said nothing. Everything it says counts as a sign."""

    def __init__(self, *, limit_seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self._limit_seconds = limit_seconds
        self._now = now
        self._looked_at = now()
        self._seconds = 0.0

    def look(self, *, heard: bool) -> None:
        """Note whether something was heard since the look before."""
        gap = self._now() - self._looked_at
        self._looked_at += gap
        self._seconds = 0.0 if heard else self._seconds + min(gap, MAX_GAP_SECONDS)

    @property
    def is_too_long(self) -> bool:
        return self._seconds > self._limit_seconds
