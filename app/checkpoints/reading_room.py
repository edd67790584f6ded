"""How many promotions of a process may read weights at the same time."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from app.errors import Unavailable

MAX_AT_ONCE: Final = 4
"""Each reads gigabytes, and holds one of the threads that every other request needs, too."""
_places = threading.BoundedSemaphore(MAX_AT_ONCE)


@contextmanager
def place_to_read() -> Iterator[None]:
    """One of the places, as long as the block runs.

    Raises:
        Unavailable: all are taken.
    """
    if not _places.acquire(blocking=False):
        raise Unavailable(
            f"{MAX_AT_ONCE} checkpoints are being read for promotion; ask again", code="too_many_promotions"
        )
    try:
        yield
    finally:
        _places.release()
