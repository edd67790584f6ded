"""Writes that must become known: repeated while the database is away, and settled when an answer was lost.

A connection that breaks while a commit is under way leaves open whether it happened. The attempt's row tells:
its outcome is written in the same transaction as everything else.
"""

import time
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy.exc import InterfaceError, OperationalError

from app.db.session import in_transaction
from app.jobs import service as jobs
from app.jobs.lifecycle import AttemptOutcome, Instruction
from app.jobs.service import ClaimedStep
from app.logs import get_logger
from fusion.failpoints import failpoint
from workers.lease import Lease
from workers.progress import LeaseLostError
from workers.worker import Worker

RETRY_SECONDS = 2.0
MAX_REFUSALS = 10
"""How often a write may fail although the database answered in between: an outage can flicker."""
UNREACHABLE = (OperationalError, InterfaceError)
"""The database is away, or refuses for now (a deadlock, a full disk). Its other refusals are for good."""

ResultT = TypeVar("ResultT")

log = get_logger(__name__)


def claim(worker: Worker) -> ClaimedStep | None:
    """Take a step; when the answer is lost, find out whether one was taken.

    Raises:
        DBAPIError: the database refuses the claim.
    """
    lease_seconds = worker.settings.lease_seconds
    try:
        return in_transaction(
            worker.engine,
            jobs.claim_step,
            worker_id=worker.id,
            resources=worker.resources,
            lease_seconds=lease_seconds,
        )
    except UNREACHABLE as error:
        log.warning("database_unreachable", error=str(error))
    while not worker.drain.wait(RETRY_SECONDS):
        try:
            step = in_transaction(
                worker.engine, jobs.find_unheard_claim, worker_id=worker.id, lease_seconds=lease_seconds
            )
        except UNREACHABLE as error:
            log.warning("database_unreachable", error=str(error))
            continue
        if step is not None:
            log.info("claim_settled", step_id=step.step_id, attempt=step.attempt)
        return step
    return None


def conclude(
    worker: Worker,
    step: ClaimedStep,
    function: Callable[..., bool],
    *,
    outcome: AttemptOutcome,
    lease: Lease,
    **values: object,
) -> None:
    """`end_once` for an end that is nothing but one call of `app.jobs`."""
    fence: dict[str, Any] = {"step_id": step.step_id, "attempt": step.attempt}

    def end() -> bool:
        return in_transaction(worker.engine, function, **fence, **values)

    end_once(worker, step, end, outcome=outcome, lease=lease)


def end_once(
    worker: Worker, step: ClaimedStep, end: Callable[[], bool], *, outcome: AttemptOutcome, lease: Lease
) -> None:
    """End the attempt in `outcome` by one transaction of `end`'s, exactly once, while the lease may be ours.

    Raises:
        LeaseLostError: somebody else ended it, or the database stayed away until the lease was gone.
        DBAPIError: the database refuses what is written, and would refuse it again.
    """
    answer_was_lost = False
    while True:
        try:
            failpoint("attempt.ending")
            if end() or (answer_was_lost and _ended_as(worker, step, outcome)):
                failpoint("attempt.ended")
                return
            raise LeaseLostError
        except UNREACHABLE as error:
            answer_was_lost = True
            if lease.instruction is Instruction.LOST:
                raise LeaseLostError from error
            log.warning("database_unreachable", error=str(error))
            time.sleep(RETRY_SECONDS)


def patiently(write: Callable[[], ResultT], *, lease: Lease) -> ResultT:
    """Do a write of a running attempt that may be repeated, again after every outage of the database.

    Raises:
        LeaseLostError: the database stayed away until the lease was gone.
        DBAPIError: the database answers heartbeats, and refuses this write all the same.
    """
    for _ in range(MAX_REFUSALS):
        try:
            return write()
        except UNREACHABLE as error:
            log.warning("database_unreachable", error=str(error))
            if not lease.wait_for_database():
                raise LeaseLostError from error
    return write()


def _ended_as(worker: Worker, step: ClaimedStep, outcome: AttemptOutcome) -> bool:
    found = in_transaction(worker.engine, jobs.attempt_outcome, step_id=step.step_id, attempt=step.attempt)
    log.info("commit_settled", committed=found is outcome)
    return found is outcome
