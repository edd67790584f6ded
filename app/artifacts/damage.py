"""Blobs that this process found damaged while it sent them.

A whole download ends before its last bytes when they turn out wrong. Clients that continue by ranges would
then ask for just those, and a range cannot be checked: for a while nothing of the blob is sent any more.
"""

import threading
import time
from collections import OrderedDict
from typing import Final

_KNOWN_SECONDS: Final = 600.0
"""After it was mended, it is served again so much later at most."""
_MAX_KNOWN: Final = 10_000


class DamagedBlobs:
    """Keys, each for some minutes."""

    def __init__(self) -> None:
        self._until: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def remember(self, key: str) -> None:
        with self._lock:
            self._until[key] = time.monotonic() + _KNOWN_SECONDS
            while len(self._until) > _MAX_KNOWN:
                self._until.popitem(last=False)

    def holds(self, key: str) -> bool:
        with self._lock:
            return self._until.get(key, 0.0) > time.monotonic()
