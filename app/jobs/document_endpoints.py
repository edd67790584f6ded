"""`/v1/jobs/{job_id}/lock`, `/report` and `/card`: what a job leaves to be read."""

from typing import Annotated, Any

from fastapi import Path, Response

from app.accounts.dependencies import CurrentPrincipal
from app.db.dependencies import ReadSession
from app.errors import Conflict, Forbidden, NotFound, Unauthorized, problem_responses
from app.jobs import documents, service
from app.routing import Router
from app.storage.dependencies import Store

router = Router(prefix="/v1/jobs", tags=["Jobs"], responses=problem_responses(Unauthorized, Forbidden))

JobId = Annotated[str, Path(description="Id of the job.")]
_PROBLEMS = problem_responses(NotFound, Conflict)
_MARKDOWN: dict[int | str, dict[str, Any]] = {
    200: {"description": "Markdown.", "content": {"text/markdown": {"schema": {"type": "string"}}}}
}


@router.get("/{job_id}/lock", responses=_PROBLEMS)
def get_job_lock(
    principal: CurrentPrincipal, session: ReadSession, store: Store, job_id: JobId
) -> dict[str, Any]:
    """What pins the job: spec and seed, checkpoints and text by digest, outputs by digest.

    There once `prepare` has succeeded; `outputs` grows with every step.
    """
    job = service.get_job(session, project_id=principal.project_id, job_id=job_id)
    return documents.read_lock(session, store, job)


@router.get("/{job_id}/report", responses=_PROBLEMS)
def get_job_report(
    principal: CurrentPrincipal, session: ReadSession, store: Store, job_id: JobId
) -> dict[str, Any]:
    """The evaluation: bits per byte of sources, target, control and fused model, overall and per domain."""
    job = service.get_job(session, project_id=principal.project_id, job_id=job_id)
    return documents.read_report(session, store, job)


@router.get("/{job_id}/card", response_class=Response, responses={**_PROBLEMS, **_MARKDOWN})
def get_job_card(principal: CurrentPrincipal, session: ReadSession, store: Store, job_id: JobId) -> Response:
    """The model card, as it lies beside the published weights."""
    job = service.get_job(session, project_id=principal.project_id, job_id=job_id)
    card = documents.read_card(session, store, job)
    return Response(card, media_type="text/markdown; charset=utf-8")
