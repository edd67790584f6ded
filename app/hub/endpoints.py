"""The routes of the Hugging Face Hub that its clients read models with, at its paths.

`HF_ENDPOINT=<this service>` and `HF_TOKEN=<API key>` are all that they need. Whoever may not see a repository
is told that there is none. Nothing can be pushed.
"""

from typing import Annotated, Any, Final

from fastapi import Path, Query, Request, Response

from app.accounts import projects
from app.accounts.dependencies import CurrentPrincipal
from app.accounts.scopes import Scope
from app.artifacts import repository as artifact_repository
from app.artifacts.downloads import CONTENT_RESPONSES, download, stored_bytes_of
from app.db.dependencies import ReadSession
from app.errors import Forbidden, NotFound, Unauthorized, Unprocessable, problem_responses
from app.hub.refusals import HubRoute
from app.hub.repos import find_repo, find_repo_file, no_entry
from app.hub.schemas import AccessToken, Refs, RepoInfo, TokenAuth, TreeEntry, WhoAmI
from app.hub.tree import entries_below
from app.routing import Router
from app.storage.dependencies import Store

_REFUSALS: Final[dict[int | str, dict[str, Any]]] = problem_responses(Unauthorized, Forbidden, Unprocessable)
router = Router(tags=["Hub"], route_class=HubRoute, responses=_REFUSALS)

Namespace = Annotated[str, Path(description="The project: its id or its name.")]
RepoName = Annotated[str, Path(description="The model: its id or its name.")]
Revision = Annotated[str, Path(description="`main`, or a commit of 40 hexadecimal digits.")]


@router.get("/api/whoami-v2")
def hub_whoami(principal: CurrentPrincipal, session: ReadSession) -> WhoAmI:
    """Whose key this is; `hf auth whoami` and `login` ask for it."""
    project = projects.get_project(session, principal.project_id)
    role = "write" if principal.may(Scope.MODELS_WRITE) else "read"
    token = AccessToken(display_name=principal.key_id, role=role)
    return WhoAmI(id=project.id, name=project.id, fullname=project.name, auth=TokenAuth(access_token=token))


@router.get("/api/models/{namespace}/{repo}", responses=problem_responses(NotFound))
def hub_model_info(
    principal: CurrentPrincipal,
    session: ReadSession,
    namespace: Namespace,
    repo: RepoName,
    blobs: Annotated[bool, Query(description="Sizes and digests of the files, too.")] = False,
) -> RepoInfo:
    """A repository at `main`: its commit and its files."""
    found = find_repo(session, project_id=principal.project_id, namespace=namespace, repo=repo)
    files = artifact_repository.files_of(session, found.artifact.id)
    return RepoInfo.of(found, files, with_blobs=blobs)


@router.get("/api/models/{namespace}/{repo}/revision/{revision:path}", responses=problem_responses(NotFound))
def hub_model_info_at_revision(
    principal: CurrentPrincipal,
    session: ReadSession,
    namespace: Namespace,
    repo: RepoName,
    revision: Revision,
    blobs: Annotated[bool, Query(description="Sizes and digests of the files, too.")] = False,
) -> RepoInfo:
    """A repository at a revision: its commit and its files."""
    found = find_repo(
        session, project_id=principal.project_id, namespace=namespace, repo=repo, revision=revision
    )
    files = artifact_repository.files_of(session, found.artifact.id)
    return RepoInfo.of(found, files, with_blobs=blobs)


@router.get("/api/models/{namespace}/{repo}/refs", responses=problem_responses(NotFound))
def hub_model_refs(
    principal: CurrentPrincipal, session: ReadSession, namespace: Namespace, repo: RepoName
) -> Refs:
    """The named revisions of a repository: `main`."""
    return Refs.of(find_repo(session, project_id=principal.project_id, namespace=namespace, repo=repo))


@router.get(
    "/api/models/{namespace}/{repo}/tree/{revision}",
    operation_id="hub_model_tree_of_root",
    responses=problem_responses(NotFound),
)
@router.get(
    "/api/models/{namespace}/{repo}/tree/{revision}/{path:path}", responses=problem_responses(NotFound)
)
def hub_model_tree(
    principal: CurrentPrincipal,
    session: ReadSession,
    namespace: Namespace,
    repo: RepoName,
    revision: Revision,
    path: str = "",
    recursive: Annotated[bool, Query(description="Everything below, not only what lies there.")] = False,
) -> list[TreeEntry]:
    """Files and folders of a repository, with sizes and digests."""
    found = find_repo(
        session, project_id=principal.project_id, namespace=namespace, repo=repo, revision=revision
    )
    files = artifact_repository.files_of(session, found.artifact.id)
    entries = entries_below(files, path.strip("/"), recursive=recursive)
    if entries is None:
        raise no_entry(found, path)
    return [TreeEntry.of(entry) for entry in entries]


@router.head("/{namespace}/{repo}/resolve/{revision}/{path:path}", include_in_schema=False)
@router.get(
    "/{namespace}/{repo}/resolve/{revision}/{path:path}",
    response_class=Response,
    responses=CONTENT_RESPONSES,
)
def hub_file(
    principal: CurrentPrincipal,
    session: ReadSession,
    store: Store,
    request: Request,
    namespace: Namespace,
    repo: RepoName,
    revision: Revision,
    path: str,
) -> Response:
    """Bytes of one file: whole, or one range of it. The entity tag is the sha256."""
    found = find_repo(
        session, project_id=principal.project_id, namespace=namespace, repo=repo, revision=revision
    )
    stored = stored_bytes_of(find_repo_file(session, found, path))
    answer = download(request, store, stored)
    answer.headers.update(found.headers)
    answer.headers["X-Linked-Size"] = str(stored.size)
    answer.headers["X-Linked-ETag"] = stored.etag
    return answer
