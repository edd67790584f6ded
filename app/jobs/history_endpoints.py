"""`/v1/jobs/{job_id}/...` to read: steps and attempts of a job. More of its history: `app.following`."""

from typing import Annotated

from fastapi import Query

from app.accounts.dependencies import CurrentPrincipal
from app.db.dependencies import ReadSession
from app.errors import Forbidden, NotFound, Unauthorized, problem_responses
from app.jobs import queries, service
from app.jobs.schemas import AttemptOut, StepOut
from app.lists import ListOf, list_of
from app.routing import Router

router = Router(prefix="/v1/jobs", tags=["Jobs"], responses=problem_responses(Unauthorized, Forbidden))


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
