"""`/v1/jobs/{job_id}/checkpoints` and `/v1/checkpoints`: what a training stored on its way."""

from typing import Annotated

from fastapi import APIRouter, Body, Depends, Request, Response, status
from sqlalchemy import Engine

from app.accounts.dependencies import CurrentPrincipal
from app.artifacts import repository as artifact_repository
from app.catalog.schemas import ModelObject
from app.checkpoints.promotion import get_checkpoint, promote
from app.checkpoints.repository import checkpoints_of
from app.checkpoints.schemas import CheckpointObject, CheckpointWithFiles, Promotion
from app.db.dependencies import ReadSession, engine_of
from app.errors import (
    Conflict,
    Forbidden,
    NotFound,
    Unauthorized,
    Unavailable,
    Unprocessable,
    problem_responses,
)
from app.jobs import service as jobs
from app.lists import ListOf, list_of
from app.settings import Settings
from app.storage.dependencies import Store

router = APIRouter(tags=["Checkpoints"], responses=problem_responses(Unauthorized, Forbidden))


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
    status_code=status.HTTP_201_CREATED,
    responses={
        200: {"description": "The model that it was promoted to before.", "model": ModelObject},
        **problem_responses(NotFound, Conflict, Unprocessable, Unavailable),
    },
)
def promote_checkpoint(
    principal: CurrentPrincipal,
    engine: Annotated[Engine, Depends(engine_of)],
    store: Store,
    request: Request,
    response: Response,
    checkpoint_id: str,
    wanted: Annotated[Promotion | None, Body()] = None,
) -> ModelObject:
    """Make a model of a checkpoint: an artifact of the same bytes, which stays when the checkpoint goes.

    Every byte is read once before, so it takes as long as reading the weights. Repeated, it gives that model.
    """
    settings: Settings = request.app.state.settings
    promoted = promote(
        engine,
        store,
        checkpoint_id=checkpoint_id,
        name=None if wanted is None else wanted.name,
        principal=principal,
        folder=settings.uploads_dir,
    )
    if not promoted.is_new:
        response.status_code = status.HTTP_200_OK
    response.headers["Location"] = f"/v1/models/{promoted.model.id}"
    return ModelObject.of(promoted.model)
