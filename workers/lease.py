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
        self._heard = threading.Condition()
        self._asked_at = float("-inf")
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
        with self._heard:
            self._instruction = Instruction.LOST
            self._stop.set()
            self._heard.notify_all()

    def wait_for_database(self) -> bool:
        """Wait until a heartbeat that is yet to be sent is answered; False when the lease is lost before."""
        began = time.monotonic()
        with self._heard:
            while self._asked_at < began and self._instruction is not Instruction.LOST:
                if not self._thread.is_alive():
                    return False
                self._heard.wait(timeout=LISTEN_SECONDS)
            return self._instruction is not Instruction.LOST

    def _run(self) -> None:
        answered_at = time.monotonic()
        while not self._stop.wait(self._pause_seconds):
            asked_at = time.monotonic()
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
            self._hear(heard, asked_at=asked_at)
            if heard is Instruction.LOST:
                return

    def _hear(self, instruction: Instruction, *, asked_at: float) -> None:
        with self._heard:
            if self._instruction is not Instruction.LOST:
                self._instruction = instruction
            self._asked_at = asked_at
            self._heard.notify_all()
