"""When what failed at somebody else's is tried again. Pure, apart from the random source."""

from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import SystemRandom
from typing import Final

JITTER: Final = 0.1
"""Part of a pause by which it is longer or shorter, so that what failed together does not come together."""
MAX_WAIT_SECONDS: Final = 86_400.0
"""The longest that anybody can ask for."""


def next_try_in(num_tries: int, *, asked_seconds: float | None, pauses: Sequence[float]) -> float | None:
    """Seconds until the next try, after so many in vain; None when there is no further one.

    Args:
        asked_seconds: what a `Retry-After` asks for; it never shortens a pause.
        pauses: before the first try, the second and so on.
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
