"""Why a job waits, and how many steps go before its own."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.db.models import Step
from app.jobs.fair_share import CLAIM_ORDER, is_claimable
from app.jobs.lifecycle import StepStatus
from app.jobs.workers import workers_heard_of
from app.quotas.usage import startable

NUM_PLACES_COUNTED: Final = 1000
_SILENT_SECONDS: Final = 120
"""A worker is heard of every ten seconds, also by heartbeats of the step that it runs."""


class WaitingReason(StrEnum):
    RETRYING = "retrying"
    """An attempt failed, and the next one waits out its back-off."""
    WAITING_FOR_WORKER = "waiting_for_worker"
    """No worker that takes its kind of step was heard of lately."""
    QUOTA_EXCEEDED = "quota_exceeded"
    """The project runs as many jobs as it may, or has used up its storage or GPU hours."""
    WAITING_FOR_TURN = "waiting_for_turn"
    """Workers are there, and busy, or other steps come first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """`position`: the step's place among those of the project that wait for the same kind of worker, 1 is
    next; None while it may not be claimed, or beyond the first thousand."""

    reason: WaitingReason | None
    position: int | None


class Queues:
    """What waits in a project, read once for however many jobs."""

    def __init__(self, session: Session, *, project_id: str, now: datetime, steps: Iterable[Step]) -> None:
        """`steps`: of all the jobs."""
        self._session = session
        self._project_id = project_id
        self._now = now
        self._queued = [step for step in steps if step.status == StepStatus.QUEUED]
        self._places: dict[str, dict[str, int]] = {}
        self._served: set[str] | None = None
        self._startable: dict[str, bool] | None = None

    def waiting(self, steps: Iterable[Step]) -> Waiting | None:
        """How it stands with a job of which nothing runs; None where nothing of it waits for a worker."""
        present = list(steps)
        if any(step.status == StepStatus.RUNNING for step in present):
            return None
        queued = [step for step in present if step.status == StepStatus.QUEUED]
        if not queued:
            return None
        ready = [step for step in queued if step.ready_at is not None and step.ready_at <= self._now]
        if not ready:
            is_held = any(step.ready_at is None for step in queued)
            return Waiting(reason=None if is_held else WaitingReason.RETRYING, position=None)
        places = [place for step in ready if (place := self._place(step)) is not None]
        return Waiting(reason=self._reason(ready), position=min(places, default=None))

    def _reason(self, ready: list[Step]) -> WaitingReason:
        if not self._quotas_let_start(ready):
            return WaitingReason.QUOTA_EXCEEDED
        is_served = any(step.resource in self._served_resources() for step in ready)
        return WaitingReason.WAITING_FOR_TURN if is_served else WaitingReason.WAITING_FOR_WORKER

    def _quotas_let_start(self, ready: list[Step]) -> bool:
        if self._startable is None:
            # Once for all jobs: it adds up what the project stores and computed.
            found = self._session.execute(startable(), {"project_id": self._project_id}).one()
            self._startable = {"cpu": found.any_step, "gpu": found.gpu_step}
        return any(self._startable[step.resource] for step in ready)

    def _place(self, step: Step) -> int | None:
        if step.resource not in self._places:
            first = (
                select(Step.id, *CLAIM_ORDER)
                .where(Step.project_id == self._project_id, Step.resource == step.resource, is_claimable())
                .order_by(*CLAIM_ORDER)
                .limit(NUM_PLACES_COUNTED)
                .subquery()
            )
            order = [first.c[column.key] for column in CLAIM_ORDER]
            numbered = select(first.c.id, func.row_number().over(order_by=order).label("place")).subquery()
            asked = [one.id for one in self._queued if one.resource == step.resource]
            query = select(numbered.c.id, numbered.c.place).where(numbered.c.id.in_(asked))
            self._places[step.resource] = {row.id: row.place for row in self._session.execute(query)}
        return self._places[step.resource].get(step.id)

    def _served_resources(self) -> set[str]:
        if self._served is None:
            workers = workers_heard_of(self._session, within_seconds=_SILENT_SECONDS)
            self._served = {resource for worker in workers for resource in worker.resources}
        return self._served
