"""Mending what crashes leave behind. Safe to run twice at once, and at any time."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import Engine, delete, exists, func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.db.base import db_time
from app.db.models import IdempotencyKey, Job, OutboxMessage, Step, Worker
from app.db.session import in_transaction
from app.jobs import endings, repository
from app.jobs.budgets import worker_lost
from app.jobs.lifecycle import Desired, StepStatus
from app.logs import get_logger
from fusion.failpoints import failpoint

RING_AGAIN_AFTER_SECONDS: Final = 10.0
"""A ready step that nobody claimed for so long rings again."""
_MAX_RINGS: Final = 32
_IDEMPOTENCY_KEYS_KEPT: Final = timedelta(days=1)
_SILENT_WORKERS_KEPT: Final = timedelta(days=1)

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class ReconcileReport:
    """What one round did."""

    num_rings: int = 0
    num_requeued: int = 0
    num_failed: int = 0
    num_cancelled: int = 0


class Reconciler:
    """Calls `reconcile` and knows when leases may be trusted.

    A lease also runs out when the database could not be reached, so after an outage, and after its own start,
    it waits one full lease before it expires anything. `now` is a monotonic clock in seconds.
    """

    def __init__(
        self, engine: Engine, *, lease_seconds: float, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._engine = engine
        self._lease_seconds = lease_seconds
        self._now = now
        self._last_reached: float | None = None
        self.may_expire_from = 0.0

    def run_once(self) -> ReconcileReport:
        """One round.

        Raises:
            DBAPIError: the database could not be reached; the next round knows.
        """
        started = self._now()
        if self._last_reached is None or started - self._last_reached > self._lease_seconds:
            self.may_expire_from = started + self._lease_seconds
        try:
            report = in_transaction(self._engine, reconcile, expire=started >= self.may_expire_from)
        except DBAPIError:
            self._last_reached = None
            raise
        self._last_reached = self._now()
        if report != ReconcileReport(num_rings=report.num_rings):
            log.info("reconciled", report=report)
        return report


def reconcile(session: Session, *, expire: bool = True) -> ReconcileReport:
    """One round: expired leases (unless `expire` is False), steps that nobody claimed, old rows."""
    # First, because it may lock workers, and everybody locks these before jobs.
    _forget_old_rows(session)
    outcomes = [_expire(session, step_id) for step_id in _expired_step_ids(session)] if expire else []
    num_rings = _ring_again(session)
    return ReconcileReport(
        num_rings=num_rings,
        num_requeued=outcomes.count(StepStatus.QUEUED),
        num_failed=outcomes.count(StepStatus.FAILED),
        num_cancelled=outcomes.count(StepStatus.CANCELLED),
    )


def _expired_step_ids(session: Session) -> list[str]:
    # By job, so that two reconcilers take the locks of the jobs in the same order.
    query = select(Step.id).where(Step.status == StepStatus.RUNNING, Step.lease_ends_at < db_time())
    return list(session.scalars(query.order_by(Step.job_id, Step.id)))


def _expire(session: Session, step_id: str) -> StepStatus | None:
    """Take a step from a worker that fell silent; None when it was heard of after all."""
    job = repository.lock_job_of_step(session, step_id)
    if job is None or not _is_still_expired(session, step_id):
        return None
    status = endings.lose(session, job, repository.get_step(session, step_id), error=worker_lost())
    failpoint("lease.expired")
    return status


def _is_still_expired(session: Session, step_id: str) -> bool:
    # The row's lock keeps a heartbeat out until this transaction has moved the step. Where somebody else has
    # it, the worker is writing right now and is not lost.
    query = select(Step.id).where(
        Step.id == step_id, Step.status == StepStatus.RUNNING, Step.lease_ends_at < db_time()
    )
    return session.scalar(query.with_for_update(key_share=True, skip_locked=True)) is not None


def _ring_again(session: Session) -> int:
    already_rings = exists().where(OutboxMessage.resource == Step.resource, OutboxMessage.due_at <= db_time())
    query = (
        select(Step.resource, func.count())
        .join(Job, Job.id == Step.job_id)
        .where(
            ~already_rings,
            Step.status == StepStatus.QUEUED,
            Job.desired == Desired.RUN,
            Step.ready_at < db_time(-RING_AGAIN_AFTER_SECONDS),
        )
        .group_by(Step.resource)
    )
    num_rings = 0
    for resource, num_waiting in session.execute(query):
        for _ in range(min(num_waiting, _MAX_RINGS)):
            repository.ring(session, resource)
            num_rings += 1
    return num_rings


def _forget_old_rows(session: Session) -> None:
    for table, column, kept in (
        (IdempotencyKey, IdempotencyKey.created_at, _IDEMPOTENCY_KEYS_KEPT),
        (Worker, Worker.last_seen_at, _SILENT_WORKERS_KEPT),
    ):
        old = delete(table).where(column < db_time(-kept.total_seconds()))
        session.execute(old, execution_options={"synchronize_session": False})
