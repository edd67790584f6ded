"""Writes what a stage says into the database: throttled, in batches, and always under the attempt's fence."""

import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app.db.session import transaction
from app.jobs import service as jobs
from app.jobs.service import ClaimedStep
from app.logs import get_logger
from workers.child_process import Event

FLUSH_SECONDS = 1.0
MAX_NOTES = 200
"""Notes kept per attempt; the log has them all."""
MAX_WAITING_POINTS = 10_000

log = get_logger(__name__)


class LeaseLostError(Exception):
    """A write of this attempt was refused, so the step belongs to somebody else."""


class ProgressRecorder:
    """Receives the events of one attempt and stores them at most once a second.

    A database that is away for a while costs detail, never the run: what could not be written waits.
    """

    def __init__(self, engine: Engine, step: ClaimedStep, *, publish_part: Callable[[str], None]) -> None:
        self._engine = engine
        self._fence: dict[str, Any] = {"step_id": step.step_id, "attempt": step.attempt}
        self._publish_part = publish_part
        self._progress: dict[str, Any] | None = None
        self._points: list[tuple[int, dict[str, float]]] = []
        self._notes: list[tuple[str, dict[str, Any]]] = []
        self._num_notes = 0
        self._flushed_at = 0.0

    def receive(self, event: Event) -> None:
        """Take one event; `report` and `error` are the supervisor's to read."""
        match event["type"]:
            case "progress":
                self._progress = {name: event.get(name) for name in ("done", "total", "unit", "tokens")}
            case "metrics":
                self._points.append((int(event["step"]), event["values"]))
                del self._points[:-MAX_WAITING_POINTS]
            case "note":
                self.note(str(event["message"]), event.get("details") or {})
            case "part":
                # First what led up to it: a resumed attempt does not say again what came before the part.
                self.flush(now=True)
                self._publish_part(str(event["path"]))
            case _:
                log.debug("unknown_event", type=event["type"], **self._fence)

    def note(self, message: str, details: dict[str, Any]) -> None:
        """A line for the job's history."""
        self._num_notes += 1
        if self._num_notes < MAX_NOTES:
            self._notes.append((message, details))
        elif self._num_notes == MAX_NOTES:
            self._notes.append(("further notes of this attempt are only in its log", {}))

    def flush(self, *, now: bool = False) -> None:
        """Write what waits, if a second has passed or `now`.

        Raises:
            LeaseLostError: the attempt is no longer the step's.
        """
        waiting = self._progress is not None or self._points or self._notes
        if not waiting or not (now or time.monotonic() - self._flushed_at >= FLUSH_SECONDS):
            return
        self._flushed_at = time.monotonic()
        try:
            self.write()
        except SQLAlchemyError as error:
            log.warning("progress_not_written", error=str(error), **self._fence)

    def write(self) -> None:
        """Write what waits. Safe to repeat.

        Raises:
            LeaseLostError: the attempt is no longer the step's.
            SQLAlchemyError: the database is away, or refuses.
        """
        if not self._in_one_transaction():
            raise LeaseLostError
        self._progress, self._points, self._notes = None, [], []

    def _in_one_transaction(self) -> bool:
        with transaction(self._engine) as session:
            held = True
            # Points and notes lock the job before the step, as everybody does; so progress comes last.
            if self._points:
                held = jobs.record_metrics(session, **self._fence, points=self._points)
            for message, details in self._notes:
                held = held and jobs.record_note(session, **self._fence, message=message, details=details)
            if held and self._progress is not None:
                held = jobs.record_progress(session, **self._fence, **self._progress)
        return held
