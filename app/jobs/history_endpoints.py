"""`/v1/jobs/{job_id}/...` to read: steps, attempts, events and metrics of a job."""

from typing import Annotated

from fastapi import APIRouter, Query
from sqlalchemy.orm import Session

from app.accounts.dependencies import CurrentPrincipal
from app.db.dependencies import ReadSession
from app.db.models import Job
from app.errors import Forbidden, NotFound, Unauthorized, Unprocessable, problem_responses
from app.jobs import queries, service
from app.jobs.schemas import AttemptOut, EventOut, MetricPointOut, StepOut
from app.lists import ListOf, PageRequest, Paging, list_of

router = APIRouter(prefix="/v1/jobs", tags=["Jobs"], responses=problem_responses(Unauthorized, Forbidden))


@router.get("/{job_id}/steps", responses=problem_responses(NotFound))
def list_job_steps(principal: CurrentPrincipal, session: ReadSession, job_id: str) -> ListOf[StepOut]:
    """All steps of a job, in the order of its plan."""
    job = service.get_job(session, project_id=principal.project_id, job_id=job_id)
    return ListOf[StepOut](**list_of(queries.list_steps(session, job), has_more=False))


@router.get("/{job_id}/attempts", responses=problem_responses(NotFound))
def list_job_attempts(
    principal: CurrentPrincipal,
    session: ReadSession,
    job_id: str,
    step: Annotated[str | None, Query(description="Name or id of a step; all steps when absent.")] = None,
) -> ListOf[AttemptOut]:
    """Every try at every step, in the order of the plan: who made it, when, and how it ended."""
    job = service.get_job(session, project_id=principal.project_id, job_id=job_id)
    return ListOf[AttemptOut](**list_of(queries.list_attempts(session, job, step_name=step), has_more=False))


@router.get("/{job_id}/events", responses=problem_responses(NotFound, Unprocessable))
def list_job_events(
    principal: CurrentPrincipal, session: ReadSession, job_id: str, page: Paging
) -> ListOf[EventOut]:
    """History of a job. Events are numbered without gaps, so a reader that goes on misses none."""
    job = service.get_job(session, project_id=principal.project_id, job_id=job_id)
    events, has_more = queries.list_events(session, job, page=page)
    return ListOf[EventOut](**list_of(events, has_more=has_more))


@router.get("/{job_id}/metrics", responses=problem_responses(NotFound, Unprocessable))
def list_job_metrics(
    principal: CurrentPrincipal,
    session: ReadSession,
    job_id: str,
    page: Paging,
    step: Annotated[str | None, Query(description="Name or id of a step; all steps when absent.")] = None,
    max_points: Annotated[
        int | None,
        Query(
            ge=1,
            le=queries.MAX_POINTS_PER_CURVE,
            description="Whole curves with at most so many points per step, instead of a page.",
        ),
    ] = None,
) -> ListOf[MetricPointOut]:
    """Training curves of a job: a page in the order of writing, or a sample of every curve."""
    job = service.get_job(session, project_id=principal.project_id, job_id=job_id)
    points, has_more = _metric_points(session, job, step=step, max_points=max_points, page=page)
    return ListOf[MetricPointOut](**list_of(points, has_more=has_more))


def _metric_points(
    session: Session, job: Job, *, step: str | None, max_points: int | None, page: PageRequest
) -> tuple[list[MetricPointOut], bool]:
    if max_points is None:
        return queries.list_metric_points(session, job, step_name=step, page=page)
    return queries.sample_curves(session, job, step_name=step, max_points=max_points), False
