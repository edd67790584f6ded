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
from sqlalchemy.orm import Session

CONTROL_VARIABLE = "FAULTS_CONTROL"


def take_out(control: str) -> None:
    """Remove one safeguard from this process."""
    CONTROLS[control]()


def _no_fence() -> None:
    from app.db import fence
    from app.db.models import Step

    # First: others take this one by name when they are imported.
    fence.is_held = lambda step_id, _attempt: and_(Step.id == step_id, Step.status == "running")
    from app.jobs import attempts, completion, repository

    locked, move_step, end_attempt = completion._locked, repository.move_step, attempts.end

    def current(session: Session, step_id: str) -> int:
        attempt: int = session.scalars(select(Step.attempt).where(Step.id == step_id)).one()
        return attempt

    def move_any(session: Session, step_id: str, **values: Any) -> bool:
        return move_step(session, step_id, **{**values, "attempt": current(session, step_id)})

    def end_any(session: Session, step_id: str, **values: Any) -> None:
        end_attempt(session, step_id, **{**values, "attempt": current(session, step_id)})

    completion._locked = lambda session, step_id, _attempt: locked(
        session, step_id, current(session, step_id)
    )
    repository.move_step = move_any
    attempts.end = end_any


def _announce_once() -> None:
    from app.jobs import reconcile
    from workers.celery_worker import CeleryWorker

    reconcile._ring_again = lambda _session: 0
    CeleryWorker._poll = lambda _self: None  # type: ignore[method-assign]


def _no_idempotency() -> None:
    from app import idempotency

    idempotency.answer_once = lambda _session, _asked, act: idempotency._response(act())


def _late_acknowledge() -> None:
    from workers.celery_app import app
    from workers.tasks import wake

    app.conf.task_acks_late = True
    wake.acks_late = True


def _no_fsync() -> None:
    os.fsync = lambda _descriptor: None


CONTROLS: dict[str, Callable[[], None]] = {
    "no_fence": _no_fence,
    "announce_once": _announce_once,
    "no_idempotency": _no_idempotency,
    "late_acknowledge": _late_acknowledge,
    "no_fsync": _no_fsync,
}
