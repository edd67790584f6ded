"""When a delivery that failed is tried again. Pure, apart from the random source."""

from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import SystemRandom
from typing import Final

_MINUTE: Final = 60.0
_HOUR: Final = 3600.0
RETRY_SECONDS: Final[Sequence[float]] = (
    0.0,
    5.0,
    5 * _MINUTE,
    30 * _MINUTE,
    2 * _HOUR,
    5 * _HOUR,
    10 * _HOUR,
    14 * _HOUR,
    20 * _HOUR,
    24 * _HOUR,
)
"""Before the first try, the second and so on: three days in all. Standard Webhooks' own recommendation."""
JITTER: Final = 0.1
"""Part of a pause by which it is longer or shorter, so that what failed together does not come together."""
MAX_WAIT_SECONDS: Final = 24 * _HOUR
"""The longest that a receiver can ask for."""
DISABLED_AFTER_SECONDS: Final = 5 * 24 * _HOUR


def next_try_in(
    num_tries: int, *, asked_seconds: float | None, pauses: Sequence[float] = RETRY_SECONDS
) -> float | None:
    """Seconds until the next try, after so many in vain; None when there is no further one.

    Args:
        asked_seconds: what the receiver's `Retry-After` asks for; it never shortens a pause.
    """
    if num_tries >= len(pauses):
        return None
    pause = pauses[num_tries] * SystemRandom().uniform(1 - JITTER, 1 + JITTER)
    return max(pause, min(asked_seconds or 0.0, MAX_WAIT_SECONDS))


def asked_seconds(retry_after: str | None, *, now: datetime) -> float | None:
    """What a `Retry-After` asks for: seconds, or a date (RFC 9110, 10.2.3); None where it makes no sense."""
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())
