"""`/v1/jobs/{job_id}/...`: cancel, pause, resume, retry and clone a job, and change its priority."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Request, Response, status

from app.accounts.dependencies import CurrentPrincipal
from app.db.dependencies import WriteSession
from app.errors import (
    BadRequest,
    Conflict,
    ContentTooLarge,
    Forbidden,
    NotFound,
    Unauthorized,
    Unprocessable,
    UnsupportedMediaType,
    problem_responses,
)
from app.jobs import queries, service
from app.jobs.endpoints import IdempotencyKey, Priority
from app.jobs.lifecycle import FINISHED_JOBS, JobStatus
from app.jobs.schemas import JobChange, JobOut
from app.jobs.spec_checks import check_spec
from app.jobs.spec_request import OVERRIDES_REQUEST_BODY, OverridesOfRequest, parse_spec
from app.settings import Settings

router = APIRouter(prefix="/v1/jobs", tags=["Jobs"], responses=problem_responses(Unauthorized, Forbidden))

_PROBLEMS: Final = problem_responses(NotFound, Conflict)


def _accepted(description: str) -> dict[int | str, dict[str, Any]]:
    return {202: {"model": JobOut, "description": description}}


@router.patch("/{job_id}", responses=problem_responses(NotFound, Conflict, Unprocessable))
def change_job(
    principal: CurrentPrincipal,
    session: WriteSession,
    job_id: str,
    change: Annotated[JobChange, Body(examples=[{"priority": 5}])],
) -> JobOut:
    """Change the priority of a job that has not finished. What runs goes on."""
    job = service.set_priority(
        session, project_id=principal.project_id, job_id=job_id, priority=change.priority
    )
    return queries.show_jobs(session, [job])[0]


@router.post(
    "/{job_id}/cancel",
    responses={**problem_responses(NotFound), **_accepted("What runs is being stopped.")},
)
def cancel_job(principal: CurrentPrincipal, session: WriteSession, response: Response, job_id: str) -> JobOut:
    """Stop a job. 202 while something still runs, 200 when nothing is left to do."""
    job = service.request_cancel(session, project_id=principal.project_id, job_id=job_id)
    if JobStatus(job.status) not in FINISHED_JOBS:
        response.status_code = status.HTTP_202_ACCEPTED
    return queries.show_jobs(session, [job])[0]


@router.post(
    "/{job_id}/pause",
    responses={**_PROBLEMS, **_accepted("What runs stores what it can and hands its step back.")},
)
def pause_job(principal: CurrentPrincipal, session: WriteSession, response: Response, job_id: str) -> JobOut:
    """Hold a job where it is. 202 while something still runs, 200 when nothing does. Costs no attempt."""
    job = service.request_pause(session, project_id=principal.project_id, job_id=job_id)
    if job.status != JobStatus.PAUSED:
        response.status_code = status.HTTP_202_ACCEPTED
    return queries.show_jobs(session, [job])[0]


@router.post(
    "/{job_id}/resume",
    responses={**_PROBLEMS, **_accepted("Its steps wait for workers again.")},
)
def resume_job(principal: CurrentPrincipal, session: WriteSession, response: Response, job_id: str) -> JobOut:
    """Let a paused job go on from its last stored parts. 200 when it was not paused."""
    was = service.get_job(session, project_id=principal.project_id, job_id=job_id).status
    job = service.request_resume(session, project_id=principal.project_id, job_id=job_id)
    if was in (JobStatus.PAUSED, JobStatus.PAUSING):
        response.status_code = status.HTTP_202_ACCEPTED
    return queries.show_jobs(session, [job])[0]


@router.post("/{job_id}/retry", status_code=202, responses=_PROBLEMS)
def retry_job(principal: CurrentPrincipal, session: WriteSession, job_id: str) -> JobOut:
    """Take a failed job up where it stopped. What finished is kept, and every budget starts again."""
    job = service.retry(session, project_id=principal.project_id, job_id=job_id)
    return queries.show_jobs(session, [job])[0]


@router.post(
    "/{job_id}/clone",
    status_code=status.HTTP_201_CREATED,
    responses=problem_responses(NotFound, BadRequest, ContentTooLarge, UnsupportedMediaType, Unprocessable),
    openapi_extra=OVERRIDES_REQUEST_BODY,
)
def clone_job(
    request: Request,
    response: Response,
    principal: CurrentPrincipal,
    session: WriteSession,
    job_id: str,
    overrides: OverridesOfRequest,
    idempotency_key: IdempotencyKey = None,
    priority: Priority = None,
) -> JobOut:
    """Submit the spec of a job again, with changes if some are given. Answers with the new job.

    The body is a partial spec, as JSON or YAML: objects are merged field by field, lists replaced, and a
    null takes a field back to its default.
    """
    job = service.get_job(session, project_id=principal.project_id, job_id=job_id)
    spec = parse_spec(service.merged_spec(job.spec, overrides))
    settings: Settings = request.app.state.settings
    check_spec(session, spec, project_id=principal.project_id, allowed_roots=settings.allowed_roots)
    submitted = service.submit(
        session,
        project_id=principal.project_id,
        spec=spec,
        created_by=principal.key_id,
        idempotency_key=idempotency_key,
        priority=job.priority if priority is None else priority,
        cloned_from_id=job.id,
    )
    response.headers["Location"] = f"/v1/jobs/{submitted.job.id}"
    if submitted.replayed:
        response.headers["Idempotent-Replayed"] = "true"
    return queries.show_jobs(session, [submitted.job])[0]
