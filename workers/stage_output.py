"""What a stage prints, from its pipe into the log of the attempt."""

import os
import select
import threading
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from app.logs import get_logger
from workers.scrubbing import Scrubber, StreamScrubber

_READ_BYTES: Final = 1 << 16
_LOOK_SECONDS: Final = 0.25

log = get_logger(__name__)


class StageOutput:
    """Reads a pipe while its `with` block runs, and what is still in it afterwards, and keeps it in a file
    without secrets. A full disk costs the log and not the stage: the pipe is read on."""

    def __init__(self, descriptor: int, path: Path, scrubber: Scrubber) -> None:
        self._descriptor = descriptor
        self._path = path
        self._scrubber = StreamScrubber(scrubber)
        self._is_over = threading.Event()
        self._is_kept = True
        self._thread = threading.Thread(target=self._run, name="stage-output", daemon=True)

    def __enter__(self) -> Self:
        self._file = self._path.open("ab", buffering=0)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Call it when the stage has ended. A process that it lost control of may keep the pipe open."""
        self._is_over.set()
        self._thread.join()
        self._file.close()

    def _run(self) -> None:
        while (data := self._read()) is not None:
            self._keep(self._scrubber.feed(data))
        self._keep(self._scrubber.end())

    def _read(self) -> bytes | None:
        """What comes next, perhaps nothing yet; None when nothing will come any more."""
        readable, _, _ = select.select([self._descriptor], [], [], _LOOK_SECONDS)
        if not readable:
            return None if self._is_over.is_set() else b""
        return os.read(self._descriptor, _READ_BYTES) or None

    def _keep(self, data: bytes) -> None:
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            if self._is_kept:
                log.warning("output_not_kept", path=str(self._path), error=str(error))
            self._is_kept = False
