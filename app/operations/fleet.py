"""Who works, and what waits for whom: workers with what they run, and the queue of each kind of worker.

Both are about the whole service, so they are read with an engine that sees every project; what names a job or
a step of somebody else's is left out before it is shown.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from app.db.base import db_time
from app.db.models import Attempt, Step, Worker
from app.jobs.fair_share import is_claimable
from app.jobs.lifecycle import AttemptOutcome, StepStatus

RESOURCES = ("cpu", "gpu")


@dataclass(frozen=True, kw_only=True, slots=True)
class Current:
    """The attempt that a worker runs."""

    attempt: Attempt
    step: Step


@dataclass(frozen=True, kw_only=True, slots=True)
class Queue:
    """Steps that want one kind of worker.

    depth: may be claimed now. num_delayed: wait out a back-off. num_held: of paused jobs.
    """

    resource: str
    depth: int
    own_depth: int
    num_delayed: int
    num_held: int
    num_running: int
    oldest_ready_at: datetime | None
    num_live_workers: int
    num_idle_workers: int


def list_workers(session: Session, *, limit: int) -> list[tuple[Worker, Current | None]]:
    """Workers, the one heard of last first, with what each runs."""
    query = select(Worker).order_by(Worker.last_seen_at.desc(), Worker.id).limit(limit)
    workers = session.scalars(query).all()
    running = (
        select(Attempt, Step)
        .join(Step, Step.id == Attempt.step_id)
        .where(Step.status == StepStatus.RUNNING, Attempt.outcome == AttemptOutcome.RUNNING)
    )
    current = {
        attempt.worker_id: Current(attempt=attempt, step=step) for attempt, step in session.execute(running)
    }
    return [(worker, current.get(worker.id)) for worker in workers]


def list_queues(session: Session, *, project_id: str, live: Sequence[Worker]) -> list[Queue]:
    """The queue of every kind of worker. `live`: the workers that were heard of lately."""
    claimable = _count(session, is_claimable())
    own = _count(session, is_claimable(), Step.project_id == project_id)
    queued = Step.status == StepStatus.QUEUED
    delayed = _count(session, queued, Step.ready_at > db_time())
    held = _count(session, queued, Step.ready_at.is_(None))
    running = _count(session, Step.status == StepStatus.RUNNING)
    busy = set(session.scalars(select(Step.worker_id).where(Step.status == StepStatus.RUNNING)))
    fitting = {name: [worker for worker in live if name in worker.resources] for name in RESOURCES}
    return [
        Queue(
            resource=name,
            depth=claimable[name],
            own_depth=own[name],
            num_delayed=delayed[name],
            num_held=held[name],
            num_running=running[name],
            oldest_ready_at=_oldest(session, name),
            num_live_workers=len(fitting[name]),
            num_idle_workers=sum(worker.id not in busy for worker in fitting[name]),
        )
        for name in RESOURCES
    ]


def _oldest(session: Session, resource: str) -> datetime | None:
    query = select(func.min(Step.ready_at)).where(Step.resource == resource, is_claimable())
    return session.scalar(query)


def _count(session: Session, *conditions: ColumnElement[bool]) -> Counter[str]:
    """How many steps by resource."""
    query = select(Step.resource, func.count().label("num")).where(*conditions).group_by(Step.resource)
    return Counter({row.resource: row.num for row in session.execute(query)})
