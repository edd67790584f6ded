"""`/v1/jobs/{job_id}/...`: cancel, pause, resume, retry and clone a job."""

from typing import Any, Final

from fastapi import Response, status
from sqlalchemy.orm import Session

from app.db.dependencies import WriteSession
from app.db.models import Job
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
from app.idempotency import Answer, Repeatable, RepeatableRequest, answer_once
from app.jobs import queries, service
from app.jobs.creating import CreationOfRequest
from app.jobs.endpoints import Priority
from app.jobs.labels import METADATA_PARAMETER, LabelsOfRequest, labels_of
from app.jobs.lifecycle import FINISHED_JOBS, JobStatus
from app.jobs.schemas import JobOut
from app.jobs.spec_request import OVERRIDES_REQUEST_BODY, OverridesOfRequest, parse_spec
from app.preconditions import ETAG_HEADER, Expected, ExpectedVersion, entity_tag
from app.routing import Router

router = Router(prefix="/v1/jobs", tags=["Jobs"], responses=problem_responses(Unauthorized, Forbidden))

_PROBLEMS: Final = problem_responses(BadRequest, NotFound, Conflict, PreconditionFailed, Unprocessable)


def _accepted(description: str) -> dict[int | str, dict[str, Any]]:
    return {
        200: {"headers": ETAG_HEADER},
        202: {"model": JobOut, "description": description, "headers": ETAG_HEADER},
    }


@router.post(
    "/{job_id}/cancel",
    response_model=JobOut,
    responses={**_PROBLEMS, **_accepted("What runs is being stopped.")},
)
def cancel_job(session: WriteSession, asked: Repeatable, expected: ExpectedVersion, job_id: str) -> Response:
    """Stop a job. 202 while something still runs, 200 when nothing is left to do."""

    def act() -> Answer:
        _expect(session, asked, expected, job_id)
        job = service.request_cancel(session, project_id=asked.project_id, job_id=job_id)
        return _acted(session, job, takes_time=JobStatus(job.status) not in FINISHED_JOBS)

    return answer_once(session, asked, act)


@router.post(
    "/{job_id}/pause",
    response_model=JobOut,
    responses={**_PROBLEMS, **_accepted("What runs stores what it can and hands its step back.")},
)
def pause_job(session: WriteSession, asked: Repeatable, expected: ExpectedVersion, job_id: str) -> Response:
    """Hold a job where it is. 202 while something still runs, 200 when nothing does. Costs no attempt."""

    def act() -> Answer:
        _expect(session, asked, expected, job_id)
        job = service.request_pause(session, project_id=asked.project_id, job_id=job_id)
        return _acted(session, job, takes_time=job.status != JobStatus.PAUSED)

    return answer_once(session, asked, act)


@router.post(
    "/{job_id}/resume",
    response_model=JobOut,
    responses={**_PROBLEMS, **_accepted("Its steps wait for workers again.")},
)
def resume_job(session: WriteSession, asked: Repeatable, expected: ExpectedVersion, job_id: str) -> Response:
    """Let a paused job go on from its last stored parts. 200 when it was not paused."""

    def act() -> Answer:
        _expect(session, asked, expected, job_id)
        was = service.get_job(session, project_id=asked.project_id, job_id=job_id).status
        job = service.request_resume(session, project_id=asked.project_id, job_id=job_id)
        return _acted(session, job, takes_time=was in (JobStatus.PAUSED, JobStatus.PAUSING))

    return answer_once(session, asked, act)


@router.post(
    "/{job_id}/retry",
    status_code=202,
    response_model=JobOut,
    responses={**_PROBLEMS, **problem_responses(TooManyRequests)},
)
def retry_job(session: WriteSession, asked: Repeatable, expected: ExpectedVersion, job_id: str) -> Response:
    """Take a failed job up where it stopped. What finished is kept, and every budget starts again."""

    def act() -> Answer:
        _expect(session, asked, expected, job_id)
        job = service.retry(session, project_id=asked.project_id, job_id=job_id)
        return _acted(session, job, takes_time=True)

    return answer_once(session, asked, act)


@router.post(
    "/{job_id}/clone",
    status_code=status.HTTP_201_CREATED,
    response_model=JobOut,
    responses=problem_responses(
        NotFound, Conflict, BadRequest, ContentTooLarge, UnsupportedMediaType, Unprocessable, TooManyRequests
    ),
    openapi_extra={**OVERRIDES_REQUEST_BODY, "parameters": [METADATA_PARAMETER]},
)
def clone_job(
    session: WriteSession,
    creation: CreationOfRequest,
    job_id: str,
    overrides: OverridesOfRequest,
    given: LabelsOfRequest,
    priority: Priority = None,
) -> Response:
    """Submit the spec of a job again, with changes if some are given. Answers with the new job.

    The body is a partial spec, as JSON or YAML: objects are merged field by field, lists replaced, and a
    null takes a field back to its default (JSON merge patch). Priority, tags and metadata are those of the
    job unless others are given.
    """

    def act() -> Answer:
        job = service.get_job(session, project_id=creation.asked.project_id, job_id=job_id)
        return creation.make(
            session,
            parse_spec(service.merged_spec(job.spec, overrides)),
            priority=job.priority if priority is None else priority,
            labels=given.or_those_of(labels_of(session, [job.id])[job.id]),
            cloned_from=job,
        )

    return answer_once(session, creation.asked, act)


def _expect(session: Session, asked: RepeatableRequest, expected: Expected, job_id: str) -> None:
    """Refuse to act on another version than the caller saw."""
    if not expected.is_any:
        job = service.lock_job(session, project_id=asked.project_id, job_id=job_id)
        expected.require(job.last_event_seq)


def _acted(session: Session, job: Job, *, takes_time: bool) -> Answer:
    shown = queries.show_job(session, job)
    return Answer(body=shown, status=202 if takes_time else 200, headers={"ETag": entity_tag(shown.version)})
