"""SIGTERM as a wish: a stage that can stop well looks for it, every other stage simply ends."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def asked_to_end(*, listen: bool = True) -> Iterator[Callable[[], bool]]:
    """While the block runs, SIGTERM does not end the process but makes the yielded function answer true.

    A second SIGTERM ends it all the same. Outside the main thread, where Python hears no signals, and without
    `listen`, the function always answers false.
    """
    wanted = False

    def hear(_number: int, _frame: FrameType | None) -> None:
        nonlocal wanted
        wanted = True
        signal.signal(signal.SIGTERM, before)

    if not listen or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = signal.signal(signal.SIGTERM, hear)
    try:
        yield lambda: wanted
    finally:
        signal.signal(signal.SIGTERM, before)
