"""`/v1/fine_tuning/jobs`: jobs as OpenAI's fine-tuning API has them, for its clients as they are."""

from collections.abc import Callable
from typing import Annotated, Any, Final

from fastapi import Depends, Query, Response
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
    TooManyRequests,
    Unauthorized,
    Unprocessable,
    problem_responses,
)
from app.idempotency import Answer, Repeatable, RepeatableRequest, answer_once
from app.jobs import service
from app.jobs.creating import CreationOfRequest
from app.jobs.filters import page_of_jobs, require_job_cursors
from app.jobs.labels import METADATA_PARAMETER, Labels
from app.lists import ListOf, PageRequest, list_of
from app.openai_face import checkpoints, history, jobs
from app.openai_face.drafting import draft_spec
from app.openai_face.filters import FiltersOfRequest
from app.openai_face.requests import CreateFineTuningJob
from app.openai_face.schemas import FineTuningCheckpoint, FineTuningEvent, FineTuningJob
from app.openai_face.spec_files import read_spec_file
from app.preconditions import ETAG_HEADER
from app.routing import Router
from app.storage.dependencies import Store

PATH: Final = "/v1/fine_tuning/jobs"
router = Router(prefix=PATH, tags=["OpenAI"], responses=problem_responses(Unauthorized, Forbidden))

_ID: Final = r"^[0-9A-Za-z-]{1,64}$"
_MAX_PAGE: Final = 100
_ACTION_PROBLEMS: Final = problem_responses(NotFound, Conflict, Unprocessable)
_LISTED: Final[dict[str, Any]] = {"parameters": [METADATA_PARAMETER]}


async def _page_request(
    after: Annotated[str | None, Query(pattern=_ID, description="Id of the item before the page.")] = None,
    limit: Annotated[int, Query(ge=1, description=f"More than {_MAX_PAGE} count as that many.")] = 20,
) -> PageRequest:
    return PageRequest(after=after, before=None, limit=min(limit, _MAX_PAGE), order="desc")


Paging = Annotated[PageRequest, Depends(_page_request)]


@router.post(
    "",
    response_model=FineTuningJob,
    responses={
        **problem_responses(BadRequest, Conflict, ContentTooLarge, Unprocessable, TooManyRequests),
        200: {"headers": ETAG_HEADER},
    },
)
def create_fine_tuning_job(
    session: WriteSession, store: Store, creation: CreationOfRequest, asked: CreateFineTuningJob
) -> Response:
    """Submit a fusion job. The spec is the field `fusion`, an uploaded file, or a recipe with parameters."""

    def act() -> Answer:
        spec_file = read_spec_file(
            session, store, asked.training_file, project_id=creation.principal.project_id
        )
        draft = draft_spec(asked, spec_file=spec_file)
        spec = draft.spec()
        try:
            made = creation.find_or_submit(
                session,
                spec,
                labels=Labels(metadata=asked.metadata or {}),
                openai_request=asked.as_asked(),
            )
        except Unprocessable as error:
            raise draft.blamed(error) from error
        shown = jobs.show_job(session, made.job)
        return made.answer(shown, path=f"{PATH}/{shown.id}", version=made.job.last_event_seq, status=200)

    return answer_once(session, creation.asked, act)


@router.get("", responses=problem_responses(Unprocessable), openapi_extra=_LISTED)
def list_fine_tuning_jobs(
    principal: CurrentPrincipal, session: ReadSession, filters: FiltersOfRequest, page: Paging
) -> ListOf[FineTuningJob]:
    """Jobs of the project, the newest first, those of the native API too."""
    require_job_cursors(page)
    found, has_more = page_of_jobs(session, project_id=principal.project_id, filters=filters, page=page)
    return ListOf[FineTuningJob](**list_of(jobs.show_jobs(session, found), has_more=has_more))


@router.get("/{job_id}", responses=problem_responses(NotFound))
def get_fine_tuning_job(principal: CurrentPrincipal, session: ReadSession, job_id: str) -> FineTuningJob:
    """One job."""
    job = service.get_job(session, project_id=principal.project_id, job_id=job_id)
    return jobs.show_jobs(session, [job])[0]


@router.post("/{job_id}/cancel", response_model=FineTuningJob, responses=_ACTION_PROBLEMS)
def cancel_fine_tuning_job(session: WriteSession, asked: Repeatable, job_id: str) -> Response:
    """Stop a job. It is `running` until what runs has stopped; one that has ended stays as it is."""
    return _act(session, asked, job_id, service.request_cancel)


@router.post("/{job_id}/pause", response_model=FineTuningJob, responses=_ACTION_PROBLEMS)
def pause_fine_tuning_job(session: WriteSession, asked: Repeatable, job_id: str) -> Response:
    """Hold a job where it is. It is `running` until what runs has stored what it can."""
    return _act(session, asked, job_id, service.request_pause)


@router.post("/{job_id}/resume", response_model=FineTuningJob, responses=_ACTION_PROBLEMS)
def resume_fine_tuning_job(session: WriteSession, asked: Repeatable, job_id: str) -> Response:
    """Let a paused job go on from its last stored parts."""
    return _act(session, asked, job_id, service.request_resume)


@router.get("/{job_id}/events", responses=problem_responses(NotFound, Unprocessable))
def list_fine_tuning_events(
    principal: CurrentPrincipal, session: ReadSession, job_id: str, page: Paging
) -> ListOf[FineTuningEvent]:
    """What happened to a job, and the points of its curves, the newest first."""
    job = service.get_job(session, project_id=principal.project_id, job_id=job_id)
    found, has_more = history.list_events(session, job, after=page.after, limit=page.limit)
    return ListOf[FineTuningEvent](**list_of(found, has_more=has_more))


@router.get("/{job_id}/checkpoints", responses=problem_responses(NotFound, Unprocessable))
def list_fine_tuning_checkpoints(
    principal: CurrentPrincipal, session: ReadSession, job_id: str, page: Paging
) -> ListOf[FineTuningCheckpoint]:
    """Stored states of the job's trainings, the newest first."""
    job = service.get_job(session, project_id=principal.project_id, job_id=job_id)
    found, has_more = checkpoints.list_checkpoints(session, job, page=page)
    return ListOf[FineTuningCheckpoint](**list_of(found, has_more=has_more))


def _act(session: Session, asked: RepeatableRequest, job_id: str, request: Callable[..., Job]) -> Response:
    def act() -> Answer:
        job = request(session, project_id=asked.project_id, job_id=job_id)
        return Answer(body=jobs.show_job(session, job))

    return answer_once(session, asked, act)
