"""Writes that must become known: repeated while the database is away, and settled when an answer was lost.

A connection that breaks while a commit is under way leaves open whether it happened. The attempt's row tells:
its outcome is written in the same transaction as everything else.
"""

import time
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from app.db.session import in_transaction
from app.jobs import service as jobs
from app.jobs.lifecycle import AttemptOutcome, Instruction
from app.jobs.service import ClaimedStep
from app.logs import get_logger
from workers.lease import Lease
from workers.progress import LeaseLostError
from workers.worker import Worker

RETRY_SECONDS = 2.0
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
    except (OperationalError, InterfaceError) as error:
        log.warning("database_unreachable", error=str(error))
    while not worker.drain.wait(RETRY_SECONDS):
        try:
            step = in_transaction(
                worker.engine, jobs.find_unheard_claim, worker_id=worker.id, lease_seconds=lease_seconds
            )
        except (OperationalError, InterfaceError) as error:
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
    """End the attempt in `outcome` through `function`, exactly once.

    Raises:
        LeaseLostError: somebody else ended it.
    """
    fence: dict[str, Any] = {"step_id": step.step_id, "attempt": step.attempt}
    answer_was_lost = False

    def write() -> bool:
        nonlocal answer_was_lost
        try:
            if in_transaction(worker.engine, function, **fence, **values):
                return True
            return answer_was_lost and _ended_as(worker, step, outcome)
        except DBAPIError:
            answer_was_lost = True
            raise

    if not insist(write, lease=lease):
        raise LeaseLostError


def insist(function: Callable[[], ResultT], *, lease: Lease) -> ResultT:
    """Repeat a write while the database cannot be reached and the lease may still be ours."""
    while True:
        try:
            return function()
        except DBAPIError as error:
            if lease.instruction is Instruction.LOST:
                raise LeaseLostError from error
            log.warning("database_unreachable", error=str(error))
            time.sleep(RETRY_SECONDS)


def _ended_as(worker: Worker, step: ClaimedStep, outcome: AttemptOutcome) -> bool:
    found = in_transaction(worker.engine, jobs.attempt_outcome, step_id=step.step_id, attempt=step.attempt)
    log.info("commit_settled", committed=found is outcome)
    return found is outcome
