"""`/v1/models`: registered checkpoints and fused models; OpenAI's fields, and ours."""

from typing import Annotated

from fastapi import Query, Request, status

from app.accounts.dependencies import CurrentPrincipal
from app.artifacts import repository as artifact_repository
from app.artifacts import service as artifact_service
from app.artifacts.schemas import ArtifactFileObject
from app.catalog import models, repository
from app.catalog.repository import ModelKind
from app.catalog.schemas import DeletedModel, ModelManifest, ModelObject, RegisterModel
from app.db.dependencies import ReadSession, WriteSession
from app.db.models import Model
from app.errors import Conflict, Forbidden, NotFound, Unauthorized, Unprocessable, problem_responses
from app.lists import ListOf, WholePaging, list_of, page_of_rows
from app.routing import Router
from app.settings import Settings

router = Router(prefix="/v1/models", tags=["Models"], responses=problem_responses(Unauthorized, Forbidden))


@router.post("", status_code=status.HTTP_201_CREATED, responses=problem_responses(Unprocessable))
def register_model(
    principal: CurrentPrincipal, session: WriteSession, request: Request, wanted: RegisterModel
) -> ModelObject:
    """Register a checkpoint, so that specs can name it by id."""
    settings: Settings = request.app.state.settings
    model = models.register_source(
        session, principal=principal, name=wanted.name, ref=wanted.ref, allowed_roots=settings.allowed_roots
    )
    session.refresh(model)
    return ModelObject.of(model)


@router.get("", responses=problem_responses(Unprocessable))
def list_models(
    principal: CurrentPrincipal,
    session: ReadSession,
    page: WholePaging,
    job_id: str | None = None,
    name: Annotated[str | None, Query(max_length=200, description="Exactly this name.")] = None,
    kind: Annotated[
        ModelKind | None,
        Query(
            description="Checkpoints to begin with, results of jobs, or promoted checkpoints of trainings."
        ),
    ] = None,
) -> ListOf[ModelObject]:
    """Models of the project, the newest first."""
    wanted = repository.select_models(project_id=principal.project_id, job_id=job_id, name=name, kind=kind)
    found, has_more = page_of_rows(session, wanted, id_column=Model.id, page=page)
    return ListOf[ModelObject](**list_of([ModelObject.of(model) for model in found], has_more=has_more))


@router.get("/{model_id}", responses=problem_responses(NotFound))
def get_model(principal: CurrentPrincipal, session: ReadSession, model_id: str) -> ModelObject:
    """One model."""
    return ModelObject.of(models.get_model(session, project_id=principal.project_id, model_id=model_id))


@router.get("/{model_id}/manifest", responses=problem_responses(NotFound))
def get_model_manifest(principal: CurrentPrincipal, session: ReadSession, model_id: str) -> ModelManifest:
    """Files of a fused model, with digests and where to download them."""
    model = models.get_model(session, project_id=principal.project_id, model_id=model_id)
    artifact = artifact_service.get_artifact(
        session, project_id=principal.project_id, artifact_id=models.stored_artifact_of(model)
    )
    return ModelManifest(
        id=model.id,
        artifact_id=artifact.id,
        digest=artifact.digest,
        num_bytes=artifact.num_bytes,
        files=[ArtifactFileObject.of(file) for file in artifact_repository.files_of(session, artifact.id)],
    )


@router.delete("/{model_id}", responses=problem_responses(NotFound, Conflict))
def delete_model(principal: CurrentPrincipal, session: WriteSession, model_id: str) -> DeletedModel:
    """Forget a model that no unfinished job names; the files of a fused one stay with its job."""
    models.delete_model(session, project_id=principal.project_id, model_id=model_id)
    return DeletedModel(id=model_id)
