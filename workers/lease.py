"""Keeps an attempt's lease alive and listens for what the user or the operator wants of it.

A thread of the supervisor sends the heartbeats, so that neither a busy stage nor a long upload looks dead.
"""

import threading
import time
from types import TracebackType
from typing import Self

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app.db.session import in_transaction
from app.jobs import service as jobs
from app.jobs.lifecycle import Instruction
from app.jobs.service import ClaimedStep
from app.logs import get_logger
from fusion.failpoints import failpoint

LISTEN_SECONDS = 2.0
"""How often a running step asks what is wanted; a cancel must be over within 15 seconds."""

log = get_logger(__name__)


class Lease:
    """The lease of one attempt, renewed while the `with` block runs."""

    def __init__(
        self,
        engine: Engine,
        step: ClaimedStep,
        *,
        lease_seconds: int,
        heartbeat_seconds: float,
        max_offline_seconds: float,
    ) -> None:
        self._engine = engine
        self._step = step
        self._lease_seconds = lease_seconds
        self._max_offline_seconds = max_offline_seconds
        self._pause_seconds = min(heartbeat_seconds, LISTEN_SECONDS)
        self._instruction = Instruction.CONTINUE
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"lease-{step.step_id}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def instruction(self) -> Instruction:
        """What the last answered heartbeat said."""
        return self._instruction

    def lose(self) -> None:
        """Another write of this attempt was refused: somebody else owns the step now."""
        self._instruction = Instruction.LOST
        self._stop.set()

    def _run(self) -> None:
        answered_at = time.monotonic()
        while not self._stop.wait(self._pause_seconds):
            try:
                heard = in_transaction(
                    self._engine,
                    jobs.heartbeat,
                    step_id=self._step.step_id,
                    attempt=self._step.attempt,
                    lease_seconds=self._lease_seconds,
                )
            except SQLAlchemyError as error:
                log.warning("heartbeat_failed", step_id=self._step.step_id, error=str(error))
                if time.monotonic() - answered_at > self._max_offline_seconds:
                    self.lose()
                continue
            failpoint("lease.renewed")
            answered_at = time.monotonic()
            if self._instruction is not Instruction.LOST:
                self._instruction = heard
            if heard is Instruction.LOST:
                return
