"""`/v1/jobs`: submit, check, read, change and remove jobs. Lists, actions, history: in files of their own."""

from pathlib import Path
from typing import Annotated, Any, Final

from fastapi import Body, Query, Request, Response, status
from fastapi.openapi.models import Example
from fastapi.responses import JSONResponse
from sqlalchemy.orm import Session

from app.accounts.dependencies import CurrentPrincipal, require
from app.accounts.scopes import Scope
from app.accounts.service import Principal
from app.db.dependencies import ProjectEngine, ReadSession, WriteSession
from app.errors import (
    BadRequest,
    Conflict,
    ContentTooLarge,
    Forbidden,
    NotFound,
    PreconditionFailed,
    TooManyRequests,
    Unauthorized,
    Unprocessable,
    UnsupportedMediaType,
    problem_responses,
)
from app.idempotency import answer_once
from app.jobs import queries, service
from app.jobs.actions import MAX_PRIORITY, MIN_PRIORITY
from app.jobs.creating import CreationOfRequest
from app.jobs.estimates.estimate import estimate_job
from app.jobs.labels import METADATA_PARAMETER, Labels, LabelsOfRequest
from app.jobs.removal import delete_job
from app.jobs.schemas import DeletedJob, EstimateOut, JobInFull, JobOut, PlannedStepOut, ValidationOut
from app.jobs.spec_checks import check_spec
from app.jobs.spec_request import SPEC_REQUEST_BODY, SpecOfRequest
from app.preconditions import ETAG_HEADER, ExpectedVersion, entity_tag
from app.routing import Router
from app.settings import Settings
from app.storage.dependencies import Store
from fusion.plan import plan_steps
from fusion.spec import FusionSpec

router = Router(prefix="/v1/jobs", tags=["Jobs"], responses=problem_responses(Unauthorized, Forbidden))

_SPEC_PROBLEMS: Final = problem_responses(BadRequest, ContentTooLarge, UnsupportedMediaType, Unprocessable)
_CHANGE_PROBLEMS: Final = problem_responses(BadRequest, NotFound, Conflict, PreconditionFailed, Unprocessable)
_SHOWN: Final[dict[int | str, dict[str, Any]]] = {200: {"headers": ETAG_HEADER}}
_CHANGE_EXAMPLES: Final[dict[str, Example]] = {
    "labels": {
        "summary": "Rename it, replace its tags, set one pair and remove another",
        "value": {"name": "gentler", "tags": ["baseline"], "metadata": {"team": "nlp", "ticket": None}},
    },
    "priority": {"summary": "Let it go first", "value": {"priority": 5}},
}

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
        **problem_responses(Conflict, TooManyRequests),
        200: {"model": ValidationOut, "description": "The spec would be accepted (`dry_run`)."},
        201: {"headers": ETAG_HEADER},
    },
    openapi_extra={**SPEC_REQUEST_BODY, "parameters": [METADATA_PARAMETER]},
)
def submit_job(
    principal: CurrentPrincipal,
    session: WriteSession,
    creation: CreationOfRequest,
    spec: SpecOfRequest,
    given: LabelsOfRequest,
    priority: Priority = None,
    dry_run: Annotated[bool, Query(description="Check only; nothing is stored.")] = False,
) -> Response:
    """Submit a fusion job. The body is the spec, as JSON or YAML."""
    if dry_run:
        creation.check(session, spec)
        return JSONResponse(_validation(session, principal, spec).model_dump(mode="json"))
    labels = given.or_those_of(Labels())
    return answer_once(
        session,
        creation.asked,
        lambda: creation.make(session, spec, priority=priority or 0, labels=labels),
    )


@router.post("/validate", responses=_SPEC_PROBLEMS, openapi_extra=SPEC_REQUEST_BODY)
def validate_job(
    request: Request, principal: CurrentPrincipal, session: ReadSession, spec: SpecOfRequest
) -> ValidationOut:
    """Check a spec as a submission would, and show the steps it would have."""
    check_spec(session, spec, project_id=principal.project_id, allowed_roots=_allowed_roots(request))
    return _validation(session, principal, spec)


@router.patch("/{job_id}", responses={**_CHANGE_PROBLEMS, **_SHOWN})
def change_job(
    principal: CurrentPrincipal,
    session: WriteSession,
    response: Response,
    job_id: str,
    change: Annotated[service.JobChange, Body(openapi_examples=_CHANGE_EXAMPLES)],
    expected: ExpectedVersion,
) -> JobInFull:
    """Change name, tags, metadata or priority (JSON merge patch). What runs goes on; the spec stays."""
    job = service.change_job(
        session, project_id=principal.project_id, job_id=job_id, change=change, expected=expected
    )
    response.headers["ETag"] = entity_tag(job.last_event_seq)
    return queries.show_job_in_full(session, job)


@router.delete("/{job_id}", responses=_CHANGE_PROBLEMS)
def remove_job(
    principal: CurrentPrincipal,
    engine: ProjectEngine,
    store: Store,
    job_id: str,
    expected: ExpectedVersion,
    purge: Annotated[
        bool, Query(description="Delete what it stored, too, also of a job that is deleted already.")
    ] = False,
) -> DeletedJob:
    """Take a finished job out of every list. A model that it made, and that is registered, stays usable.

    `purge` needs the scope `artifacts:write`, too.
    """
    if purge:
        require(principal, Scope.ARTIFACTS_WRITE)
    freed_bytes = delete_job(
        engine, store, project_id=principal.project_id, job_id=job_id, purge=purge, expected=expected
    )
    return DeletedJob(id=job_id, purged=purge, freed_bytes=freed_bytes)


def _allowed_roots(request: Request) -> tuple[Path, ...]:
    settings: Settings = request.app.state.settings
    return settings.allowed_roots


def _validation(session: Session, principal: Principal, spec: FusionSpec) -> ValidationOut:
    estimate = EstimateOut.of(estimate_job(session, spec, project_id=principal.project_id))
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
        estimate=estimate,
        warnings=estimate.warnings,
    )
