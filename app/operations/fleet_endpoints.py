"""`/v1/workers` and `/v1/queues`: whether anybody works, and how long the queues are."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from fastapi import Depends, Query, Request
from pydantic import BaseModel, ConfigDict
from sqlalchemy.orm import Session

from app.accounts.dependencies import CurrentPrincipal
from app.accounts.scopes import Scope
from app.accounts.service import Principal
from app.db.base import unix_seconds
from app.db.dependencies import held, service_engine_of
from app.db.models import Worker
from app.db.session import read_only
from app.errors import Forbidden, Unauthorized, Unprocessable, problem_responses
from app.jobs.workers import workers_heard_of
from app.lists import ListOf, list_of
from app.operations import fleet
from app.routing import Router
from app.settings import Settings
from fusion.plan import Resource

router = Router(tags=["Operations"], responses=problem_responses(Unauthorized, Forbidden))


class CurrentStep(BaseModel):
    """What a worker runs. The names are null where they belong to another project."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    job_id: str | None
    step_id: str | None
    step: str | None
    stage: str
    attempt: int
    started_at: int

    @classmethod
    def of(cls, current: fleet.Current, principal: Principal) -> Self:
        step, attempt = current.step, current.attempt
        is_shown = step.project_id == principal.project_id or principal.may(Scope.OPERATOR)
        return cls(
            job_id=step.job_id if is_shown else None,
            step_id=step.id if is_shown else None,
            step=step.name if is_shown else None,
            stage=step.stage,
            attempt=attempt.attempt,
            started_at=unix_seconds(attempt.started_at),
        )


class WorkerObject(BaseModel):
    """A process that runs steps."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    object: Literal["worker"] = "worker"
    id: str
    """Its machine, its process id and a random part."""
    resources: list[Resource]
    """Kinds of steps that it takes."""
    is_live: bool
    """Whether it was heard of lately."""
    started_at: int
    last_seen_at: int
    """Heartbeat of its step, or when it asked for one; written at most every 10 seconds."""
    current_step: CurrentStep | None

    @classmethod
    def of(
        cls, worker: Worker, current: fleet.Current | None, *, principal: Principal, is_live: bool
    ) -> Self:
        return cls.model_validate(
            {
                "id": worker.id,
                "resources": worker.resources,
                "is_live": is_live,
                "started_at": unix_seconds(worker.started_at),
                "last_seen_at": unix_seconds(worker.last_seen_at),
                "current_step": None if current is None else CurrentStep.of(current, principal),
            }
        )


class QueueObject(BaseModel):
    """Steps that want one kind of worker, of every project."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    object: Literal["queue"] = "queue"
    id: Resource
    depth: int
    """Steps that a worker could take now."""
    own_depth: int
    """Those of the caller's project."""
    num_delayed: int
    """Steps that wait for another try."""
    num_held: int
    """Steps of paused jobs."""
    num_running: int
    oldest_waiting_seconds: int | None
    """How long the one that waits longest has waited; null while none does."""
    num_live_workers: int
    num_idle_workers: int

    @classmethod
    def of(cls, queue: fleet.Queue) -> Self:
        oldest = queue.oldest_ready_at
        waited = None if oldest is None else max(0, round((datetime.now(UTC) - oldest).total_seconds()))
        counts: dict[str, Any] = {
            name: getattr(queue, name) for name in fleet.Queue.__slots__ if name in cls.model_fields
        }
        return cls.model_validate({"id": queue.resource, "oldest_waiting_seconds": waited, **counts})


async def _whole_service(request: Request) -> AsyncIterator[Session]:
    async with held(read_only(service_engine_of(request))) as session:
        yield session


WholeService = Annotated[Session, Depends(_whole_service, scope="function")]


@router.get("/v1/workers", responses=problem_responses(Unprocessable))
def list_workers(
    request: Request,
    principal: CurrentPrincipal,
    session: WholeService,
    limit: Annotated[int, Query(ge=1, le=1000, description="At most so many, the liveliest first.")] = 100,
    live: Annotated[bool, Query(description="Only those that were heard of lately.")] = False,
) -> ListOf[WorkerObject]:
    """Workers, the one heard of last first. What they run for other projects has no names."""
    alive = {worker.id for worker in _live(request, session)}
    found = fleet.list_workers(session, limit=limit + 1)
    shown = [
        WorkerObject.of(worker, current, principal=principal, is_live=worker.id in alive)
        for worker, current in found
        if not live or worker.id in alive
    ]
    return ListOf[WorkerObject](**list_of(shown[:limit], has_more=len(shown) > limit))


@router.get("/v1/queues")
def list_queues(request: Request, principal: CurrentPrincipal, session: WholeService) -> ListOf[QueueObject]:
    """How many steps wait for each kind of worker, how long, and how many workers there are."""
    queues = fleet.list_queues(session, project_id=principal.project_id, live=_live(request, session))
    return ListOf[QueueObject](**list_of([QueueObject.of(queue) for queue in queues], has_more=False))


def _live(request: Request, session: Session) -> list[Worker]:
    settings: Settings = request.app.state.settings
    return workers_heard_of(session, within_seconds=2.0 * settings.lease_seconds)
