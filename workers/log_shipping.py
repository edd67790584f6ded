"""Brings what a stage prints into the database while it runs, so that it outlives stage and worker."""

import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app.db.session import in_transaction
from app.jobs.attempt_logs import HEAD_BYTES, MAX_CHUNK_BYTES, TAIL_BYTES, append_log
from app.jobs.service import ClaimedStep
from app.logs import get_logger
from workers.lease import Lease
from workers.progress import LeaseLostError
from workers.settling import patiently

SHIP_SECONDS = 1.0

log = get_logger(__name__)


class LogShipper:
    """Ships the log of one attempt once a second while its `with` block runs, and the rest at its end."""

    def __init__(self, engine: Engine, step: ClaimedStep, *, lease: Lease, path: Path) -> None:
        self._engine = engine
        self._fence: dict[str, Any] = {"step_id": step.step_id, "attempt": step.attempt}
        self._lease = lease
        self._path = path
        self._position = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"log-{step.step_id}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stop.wait(SHIP_SECONDS):
                try:
                    self._ship(is_over=False)
                except SQLAlchemyError as error:
                    log.warning("log_not_shipped", error=str(error), **self._fence)
            patiently(partial(self._ship, is_over=True), lease=self._lease)
        except LeaseLostError:
            # The next attempt has a log of its own, and this one ends where it lost its step.
            log.info("log_cut_off", **self._fence)
        except (SQLAlchemyError, OSError) as error:
            log.warning("log_not_kept", error=str(error), **self._fence)

    def _ship(self, *, is_over: bool) -> None:
        """Store what was written since the last time; an unfinished line only at the end.

        Raises:
            LeaseLostError: the attempt no longer has its step.
            SQLAlchemyError: the database is away; what was stored is not stored again.
        """
        for first_byte, data in self._news(is_over=is_over):
            stored = in_transaction(self._engine, append_log, **self._fence, first_byte=first_byte, data=data)
            if not stored:
                raise LeaseLostError
            self._position = first_byte + len(data)

    def _news(self, *, is_over: bool) -> Iterator[tuple[int, bytes]]:
        """Pieces from the position on, cut at ends of lines. The middle of a flood is not even read."""
        if not self._path.is_file():
            return
        size = self._path.stat().st_size
        with self._path.open("rb") as file:
            position = self._position
            if position >= HEAD_BYTES and size - position > TAIL_BYTES:
                position = size - TAIL_BYTES
            while position < size:
                file.seek(position)
                data = file.read(min(MAX_CHUNK_BYTES, size - position))
                whole = data[: data.rfind(b"\n") + 1]
                if whole or len(data) == MAX_CHUNK_BYTES or is_over:
                    yield position, whole or data
                    position += len(whole or data)
                else:
                    return
