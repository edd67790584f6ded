"""The service with one safeguard missing. A suite that stays green with any of these proves nothing.

`no_fence`: writes name the step and its status but not the attempt. `announce_once`: a doorbell that was
lost is never rung again, and nobody looks unasked. `no_idempotency`: the key of a request is ignored.
`late_acknowledge`: a message is acknowledged when its work is done. `no_fsync`: nothing is forced to the
disk.
"""

import os
from collections.abc import Callable
from typing import Any

from sqlalchemy import and_, select

CONTROL_VARIABLE = "FAULTS_CONTROL"


def take_out(control: str) -> None:
    """Remove one safeguard from this process."""
    CONTROLS[control]()


def _no_fence() -> None:
    from app.artifacts import repository as artifacts
    from app.db.models import Attempt, Step
    from app.jobs import completion, reports, repository
    from app.jobs.lifecycle import StepStatus

    move_step, end_attempt = repository.move_step, repository.end_attempt

    def running(step_id: str, _attempt: int) -> Any:
        return and_(Step.id == step_id, Step.status == StepStatus.RUNNING)

    def current(session: Any, step_id: str) -> int:
        attempt: int = session.scalar(select(Step.attempt).where(Step.id == step_id))
        return attempt

    def move_any(session: Any, step_id: str, **values: Any) -> bool:
        return move_step(session, step_id, **{**values, "attempt": current(session, step_id)})

    def end_any(session: Any, step_id: str, **values: Any) -> None:
        end_attempt(session, step_id, **{**values, "attempt": current(session, step_id)})

    def is_running(session: Any, step_id: str, _attempt: int) -> bool:
        return session.scalar(select(Step.id).where(running(step_id, 0))) is not None

    def hold(session: Any, *, step_id: str, attempt: int) -> bool:
        return is_running(session, step_id, attempt)

    repository.running = running
    repository.move_step = move_any
    repository.end_attempt = end_any
    completion._is_running = is_running
    reports.holds_step = hold
    artifacts.hold_running_step = hold
    assert Attempt.__tablename__


def _announce_once() -> None:
    from app.jobs import reconcile
    from workers.celery_worker import CeleryWorker

    reconcile._ring_again = lambda _session: 0
    CeleryWorker._poll = lambda _self: None  # type: ignore[method-assign]


def _no_idempotency() -> None:
    from app.jobs import service

    service._job_of_key = lambda *_args, **_kwargs: None
    service._keep_key = lambda *_args, **_kwargs: True


def _late_acknowledge() -> None:
    from workers.celery_app import app

    app.conf.task_acks_late = True
    app.tasks["fusion.wake"].acks_late = True


def _no_fsync() -> None:
    os.fsync = lambda _descriptor: None


CONTROLS: dict[str, Callable[[], None]] = {
    "no_fence": _no_fence,
    "announce_once": _announce_once,
    "no_idempotency": _no_idempotency,
    "late_acknowledge": _late_acknowledge,
    "no_fsync": _no_fsync,
}
