"""`/v1/projects` and `/v1/me`: the tenants, and which one the caller is.

An operator sees and changes every project; anyone else sees their own.
"""

from typing import Annotated, Final

from fastapi import Body, Request, status
from fastapi.openapi.models import Example

from app.accounts import projects, repository
from app.accounts.dependencies import CurrentPrincipal, ReadProjects, WriteProjects
from app.accounts.schemas import ChangeProject, CreateProject, DeletedProject, Me, ProjectObject
from app.db.dependencies import ReadSession
from app.db.models import Project
from app.errors import Conflict, Forbidden, NotFound, Unauthorized, Unprocessable, problem_responses
from app.lists import ListOf, Paging, list_of, page_of_rows
from app.routing import Router
from app.settings import Settings

router = Router(tags=["Projects"], responses=problem_responses(Unauthorized, Forbidden))

_CHANGES: Final[dict[str, Example]] = {
    "name": {"summary": "Give it another name", "value": {"name": "garage"}},
    "quotas": {
        "summary": "Set one limit and take another away",
        "value": {"quotas": {"running_jobs": 2, "stored_bytes": None}},
    },
}


@router.get("/v1/me")
def get_me(principal: CurrentPrincipal, session: ReadSession) -> Me:
    """The key that asks, and the project whose things it sees."""
    return Me(
        key_id=principal.key_id,
        scopes=sorted(principal.scopes),
        project=ProjectObject.of(projects.get_project(session, principal.project_id)),
    )


@router.post(
    "/v1/projects",
    status_code=status.HTTP_201_CREATED,
    responses=problem_responses(Conflict, Unprocessable),
)
def create_project(request: Request, session: WriteProjects, wanted: CreateProject) -> ProjectObject:
    """Make a project. An operator makes its first key by naming it in the header `OpenAI-Project`.

    Limits that are not given are those that the service gives to new projects.
    """
    settings: Settings = request.app.state.settings
    quotas = settings.default_quotas.model_copy(update=wanted.quotas.model_dump(exclude_unset=True))
    return ProjectObject.of(projects.create_project(session, name=wanted.name, quotas=quotas))


@router.get("/v1/projects")
def list_projects(session: ReadProjects, page: Paging) -> ListOf[ProjectObject]:
    """Every project for an operator, their own for anyone else."""
    found, has_more = page_of_rows(session, repository.live_projects(), id_column=Project.id, page=page)
    return ListOf[ProjectObject](**list_of([ProjectObject.of(item) for item in found], has_more=has_more))


@router.get("/v1/projects/{project_id}", responses=problem_responses(NotFound))
def get_project(session: ReadProjects, project_id: str) -> ProjectObject:
    """One project."""
    return ProjectObject.of(projects.get_project(session, project_id))


@router.patch("/v1/projects/{project_id}", responses=problem_responses(NotFound, Conflict, Unprocessable))
def change_project(
    session: WriteProjects,
    project_id: str,
    wanted: Annotated[ChangeProject, Body(openapi_examples=_CHANGES)],
) -> ProjectObject:
    """Change name or limits of a project. What is stored, waits or runs already stays."""
    name = wanted.name if "name" in wanted.model_fields_set else None
    return ProjectObject.of(projects.change_project(session, project_id, name=name, quotas=wanted.quotas))


@router.delete("/v1/projects/{project_id}", responses=problem_responses(NotFound, Conflict))
def delete_project(principal: CurrentPrincipal, session: WriteProjects, project_id: str) -> DeletedProject:
    """End a project whose jobs have ended. Its keys stop and its stored things go; its history stays."""
    projects.delete_project(session, project_id, own_project_id=principal.project_id)
    return DeletedProject(id=project_id)
