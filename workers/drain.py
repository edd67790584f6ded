"""The wish to end, as signal handlers may express it."""

import time

_LOOK_SECONDS = 0.1


class Drain:
    """Like `threading.Event`, whose `set` can deadlock in a handler that interrupted its `wait`."""

    def __init__(self) -> None:
        self._wanted = False

    def set(self) -> None:
        self._wanted = True

    def is_set(self) -> bool:
        return self._wanted

    def wait(self, seconds: float) -> bool:
        """Pause for `seconds`, or until the wish is there."""
        deadline = time.monotonic() + seconds
        while not self._wanted and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, _LOOK_SECONDS))
        return self._wanted
