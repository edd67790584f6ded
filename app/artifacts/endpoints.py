"""`/v1/artifacts`: what the steps of a job stored, and its bytes."""

from typing import Annotated

from fastapi import Query, Request, Response

from app.accounts.dependencies import CurrentPrincipal
from app.artifacts import repository, service
from app.artifacts.downloads import CONTENT_RESPONSES, download, stored_bytes_of
from app.artifacts.kinds import ArtifactKind
from app.artifacts.schemas import ArtifactObject, ArtifactWithFiles
from app.db.dependencies import ReadSession
from app.db.models import Artifact
from app.errors import Forbidden, NotFound, Unauthorized, problem_responses
from app.lists import ListOf, Paging, list_of, page_of_rows
from app.routing import Router
from app.storage.dependencies import Store

router = Router(
    prefix="/v1/artifacts", tags=["Artifacts"], responses=problem_responses(Unauthorized, Forbidden)
)


@router.get("")
def list_artifacts(
    principal: CurrentPrincipal,
    session: ReadSession,
    page: Paging,
    job_id: str | None = None,
    step_id: str | None = None,
    kind: ArtifactKind | None = None,
) -> ListOf[ArtifactObject]:
    """Artifacts of the project, of one job or of one step."""
    wanted = repository.select_artifacts(
        project_id=principal.project_id, job_id=job_id, step_id=step_id, kind=kind
    )
    artifacts, has_more = page_of_rows(session, wanted, id_column=Artifact.id, page=page)
    return ListOf[ArtifactObject](
        **list_of([ArtifactObject.of(artifact) for artifact in artifacts], has_more=has_more)
    )


@router.get("/{artifact_id}", responses=problem_responses(NotFound))
def get_artifact(principal: CurrentPrincipal, session: ReadSession, artifact_id: str) -> ArtifactWithFiles:
    """One artifact with its files."""
    artifact = service.get_artifact(session, project_id=principal.project_id, artifact_id=artifact_id)
    return ArtifactWithFiles.of_files(artifact, repository.files_of(session, artifact.id))


@router.head("/{artifact_id}/content", include_in_schema=False)
@router.get("/{artifact_id}/content", response_class=Response, responses=CONTENT_RESPONSES)
def get_artifact_content(
    principal: CurrentPrincipal,
    session: ReadSession,
    store: Store,
    request: Request,
    artifact_id: str,
    path: Annotated[str | None, Query(description="May be left out where there is only one file.")] = None,
) -> Response:
    """Bytes of one file: whole, or one range of it. The entity tag is the sha256."""
    artifact = service.get_artifact(session, project_id=principal.project_id, artifact_id=artifact_id)
    file = service.get_artifact_file(session, artifact, path)
    return download(request, store, stored_bytes_of(file))
