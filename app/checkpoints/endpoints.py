"""`/v1/jobs/{job_id}/checkpoints` and `/v1/checkpoints`: what a training stored on its way."""

from typing import Annotated

from fastapi import Body, Request, Response, status

from app.accounts.dependencies import CurrentPrincipal
from app.artifacts import repository as artifact_repository
from app.checkpoints.promotion import ask_promotion, get_checkpoint, get_promotion
from app.checkpoints.repository import PromotionStatus, checkpoints_of
from app.checkpoints.schemas import (
    AskPromotion,
    CheckpointObject,
    CheckpointWithFiles,
    PromotionObject,
)
from app.db.dependencies import ProjectEngine, ReadSession
from app.errors import (
    Conflict,
    Forbidden,
    NotFound,
    Unauthorized,
    Unprocessable,
    problem_responses,
)
from app.jobs import service as jobs
from app.lists import ListOf, list_of
from app.routing import Router
from app.settings import Settings
from app.storage.dependencies import Store

router = Router(tags=["Checkpoints"], responses=problem_responses(Unauthorized, Forbidden))


@router.get("/v1/jobs/{job_id}/checkpoints", responses=problem_responses(NotFound))
def list_job_checkpoints(
    principal: CurrentPrincipal, session: ReadSession, job_id: str
) -> ListOf[CheckpointObject]:
    """Checkpoints of a job that are there, oldest first: each training keeps its last two while it runs.

    They go when their step has succeeded, or some days after the job has ended; what was promoted stays.
    """
    job = jobs.get_job(session, project_id=principal.project_id, job_id=job_id)
    found = checkpoints_of(session, project_id=principal.project_id, job_id=job.id)
    shown = [CheckpointObject.of(checkpoint) for checkpoint in found]
    return ListOf[CheckpointObject](**list_of(shown, has_more=False))


@router.get("/v1/checkpoints/{checkpoint_id}", responses=problem_responses(NotFound))
def show_checkpoint(
    principal: CurrentPrincipal, session: ReadSession, checkpoint_id: str
) -> CheckpointWithFiles:
    """One checkpoint with its files."""
    found = get_checkpoint(session, project_id=principal.project_id, checkpoint_id=checkpoint_id)
    return CheckpointWithFiles.of_files(found, artifact_repository.files_of(session, checkpoint_id))


@router.post(
    "/v1/checkpoints/{checkpoint_id}/promote",
    status_code=status.HTTP_202_ACCEPTED,
    responses={
        200: {"description": "It is done; `model_id` is the model.", "model": PromotionObject},
        **problem_responses(NotFound, Conflict, Unprocessable),
    },
)
def promote_checkpoint(
    principal: CurrentPrincipal,
    engine: ProjectEngine,
    store: Store,
    request: Request,
    response: Response,
    checkpoint_id: str,
    wanted: Annotated[AskPromotion | None, Body()] = None,
) -> PromotionObject:
    """Make a model of a checkpoint: an artifact of the same bytes, which stays when the checkpoint goes. 202
    while it takes time, 200 when it is done.

    Every byte is read once before it is a model, by whoever keeps house; poll
    `GET /v1/checkpoints/{checkpoint_id}/promotion`. From the first answer on the bytes stay. Asked again it
    is the same promotion and the same model; one that failed begins anew.
    """
    settings: Settings = request.app.state.settings
    promotion = ask_promotion(
        engine,
        store,
        checkpoint_id=checkpoint_id,
        name=None if wanted is None else wanted.name,
        principal=principal,
        folder=settings.uploads_dir,
    )
    if promotion.status == PromotionStatus.SUCCEEDED:
        response.status_code = status.HTTP_200_OK
    response.headers["Location"] = f"/v1/checkpoints/{checkpoint_id}/promotion"
    return PromotionObject.of(promotion)


@router.get("/v1/checkpoints/{checkpoint_id}/promotion", responses=problem_responses(NotFound))
def show_promotion(principal: CurrentPrincipal, session: ReadSession, checkpoint_id: str) -> PromotionObject:
    """How far the promotion of a checkpoint is, and what became of it, also when the checkpoint is gone."""
    found = get_promotion(session, project_id=principal.project_id, checkpoint_id=checkpoint_id)
    return PromotionObject.of(found)
