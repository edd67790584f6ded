"""`/v1/jobs`: submit, check and follow fusion jobs. What is done to them is in `action_endpoints`."""

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response, status
from fastapi.responses import JSONResponse
from sqlalchemy.orm import Session

from app.accounts.dependencies import CurrentPrincipal
from app.db.dependencies import ReadSession, WriteSession
from app.db.models import Job
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
from app.idempotency import answer_once
from app.jobs import queries, service
from app.jobs.actions import MAX_PRIORITY, MIN_PRIORITY
from app.jobs.creating import CreationOfRequest
from app.jobs.lifecycle import JobStatus
from app.jobs.schemas import EventOut, JobOut, MetricPointOut, PlannedStepOut, StepOut, ValidationOut
from app.jobs.spec_checks import check_spec
from app.jobs.spec_request import SPEC_REQUEST_BODY, SpecOfRequest
from app.lists import ListOf, PageRequest, Paging, list_of
from app.settings import Settings
from fusion.plan import plan_steps
from fusion.spec import FusionSpec

router = APIRouter(prefix="/v1/jobs", tags=["Jobs"], responses=problem_responses(Unauthorized, Forbidden))

_SPEC_PROBLEMS = problem_responses(BadRequest, ContentTooLarge, UnsupportedMediaType, Unprocessable)
_ID_PROBLEMS = problem_responses(NotFound)

Priority = Annotated[
    int | None,
    Query(
        ge=MIN_PRIORITY,
        le=MAX_PRIORITY,
        description="Which of the project's jobs goes first: the higher one. Can be changed later.",
    ),
]


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    response_model=JobOut,
    responses={
        **_SPEC_PROBLEMS,
        **problem_responses(Conflict),
        200: {"model": ValidationOut, "description": "The spec would be accepted (`dry_run`)."},
    },
    openapi_extra=SPEC_REQUEST_BODY,
)
def submit_job(
    session: WriteSession,
    creation: CreationOfRequest,
    spec: SpecOfRequest,
    priority: Priority = None,
    dry_run: Annotated[bool, Query(description="Check only; nothing is stored.")] = False,
) -> Response:
    """Submit a fusion job. The body is the spec, as JSON or YAML."""
    if dry_run:
        creation.check(session, spec)
        return JSONResponse(_validation(spec).model_dump(mode="json"))
    return answer_once(session, creation.asked, lambda: creation.make(session, spec, priority=priority or 0))


@router.post("/validate", responses=_SPEC_PROBLEMS, openapi_extra=SPEC_REQUEST_BODY)
def validate_job(
    request: Request, principal: CurrentPrincipal, session: ReadSession, spec: SpecOfRequest
) -> ValidationOut:
    """Check a spec as a submission would, and show the steps it would have."""
    check_spec(session, spec, project_id=principal.project_id, allowed_roots=_allowed_roots(request))
    return _validation(spec)


@router.get("", responses=problem_responses(Unprocessable))
def list_jobs(
    principal: CurrentPrincipal,
    session: ReadSession,
    page: Paging,
    job_status: Annotated[
        list[JobStatus] | None, Query(alias="status", description="Repeat it to allow several.")
    ] = None,
) -> ListOf[JobOut]:
    """Jobs of the project, the newest first."""
    jobs, has_more = queries.list_jobs(
        session, project_id=principal.project_id, statuses=job_status or [], page=page
    )
    return ListOf[JobOut](**list_of(jobs, has_more=has_more))


@router.get("/{job_id}", responses=_ID_PROBLEMS)
def get_job(principal: CurrentPrincipal, session: ReadSession, job_id: str) -> JobOut:
    """One job with its progress."""
    job = service.get_job(session, project_id=principal.project_id, job_id=job_id)
    return queries.show_jobs(session, [job])[0]


@router.get("/{job_id}/steps", responses=_ID_PROBLEMS)
def list_job_steps(principal: CurrentPrincipal, session: ReadSession, job_id: str) -> ListOf[StepOut]:
    """All steps of a job, in the order of its plan."""
    job = service.get_job(session, project_id=principal.project_id, job_id=job_id)
    return ListOf[StepOut](**list_of(queries.list_steps(session, job), has_more=False))


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


def _allowed_roots(request: Request) -> tuple[Path, ...]:
    settings: Settings = request.app.state.settings
    return settings.allowed_roots


def _validation(spec: FusionSpec) -> ValidationOut:
    return ValidationOut(
        spec=spec.model_dump(mode="json"),
        spec_digest=spec.digest(),
        steps=[
            PlannedStepOut(
                name=step.name,
                stage=step.stage,
                subject=step.subject,
                resource=step.resource,
                needs=list(step.needs),
            )
            for step in plan_steps(spec)
        ],
    )


def _metric_points(
    session: Session, job: Job, *, step: str | None, max_points: int | None, page: PageRequest
) -> tuple[list[MetricPointOut], bool]:
    if max_points is None:
        return queries.list_metric_points(session, job, step_name=step, page=page)
    return queries.sample_curves(session, job, step_name=step, max_points=max_points), False
