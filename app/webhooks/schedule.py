"""When a delivery that failed is tried again. Pure."""

from collections.abc import Sequence
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
DISABLED_AFTER_SECONDS: Final = 5 * 24 * _HOUR
