"""Which model a repository of the hub's protocol is: `{project}/{model}` at a revision.

The project goes by its id or its name, the model by its id or its name. Several models may share a name, as
when a job is submitted again: `main` is the newest of them, and each is a commit. A commit is the start of
the artifact's digest, so equal commits are equal files, and a model never changes under its commit.
"""

import re
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from app.db.models import Artifact, ArtifactFile, Model, Project
from app.errors import NotFound

MAIN: Final = "main"
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
"""No name holds one, and PostgreSQL refuses to be asked for some."""
_REPO_NOT_FOUND: Final = {"X-Error-Code": "RepoNotFound"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Repo:
    """A stored model, by the name it was asked for."""

    id: str
    model: Model
    artifact: Artifact

    @property
    def commit(self) -> str:
        return commit_of(self.artifact)

    @property
    def headers(self) -> dict[str, str]:
        """What clients file the answer under, also that a file does not exist."""
        return {"X-Repo-Commit": self.commit}


def commit_of(artifact: Artifact) -> str:
    """40 hexadecimal digits that stand for the files."""
    return artifact.digest[:40]


def find_repo(session: Session, *, project_id: str, namespace: str, repo: str, revision: str = MAIN) -> Repo:
    """The model that a repository is at a revision.

    Raises:
        NotFound: no such repository (other projects' are none), or no such revision of it.
    """
    repo_id = f"{namespace}/{repo}"
    if _CONTROL.search(repo_id):
        raise _no_repo(repo_id)
    project = session.scalars(select(Project).where(Project.id == project_id)).one()
    if namespace not in (project.id, project.name):
        raise _no_repo(repo_id)
    named = _stored_models(project_id, repo)
    newest = session.execute(named).first()
    if newest is None:
        raise _no_repo(repo_id)
    found = newest
    if revision != MAIN:
        of_commit = named.where(Artifact.digest.startswith(revision, autoescape=True))
        at_revision = session.execute(of_commit).first() if _COMMIT.fullmatch(revision) else None
        if at_revision is None:
            raise NotFound(
                f"{repo_id} has no revision {revision!r}",
                code="revision_not_found",
                headers={"X-Error-Code": "RevisionNotFound"},
            )
        found = at_revision
    return Repo(id=repo_id, model=found[0], artifact=found[1])


def find_repo_file(session: Session, repo: Repo, path: str) -> ArtifactFile:
    """One file of a repository.

    Raises:
        NotFound: there is none at that path.
    """
    query = select(ArtifactFile).where(
        ArtifactFile.artifact_id == repo.artifact.id, ArtifactFile.path == path
    )
    found = None if _CONTROL.search(path) else session.scalars(query).one_or_none()
    if found is None:
        raise no_entry(repo, path)
    return found


def no_entry(repo: Repo, path: str) -> NotFound:
    """Says of a path that the repository holds nothing there."""
    return NotFound(
        f"{repo.id} has no {path!r} at {repo.commit}",
        code="entry_not_found",
        headers={"X-Error-Code": "EntryNotFound", **repo.headers},
    )


def _stored_models(project_id: str, repo: str) -> Select[Model, Artifact]:
    """Models of that id or name, the one of that id first, then the newest."""
    return (
        select(Model, Artifact)
        .join(Artifact, Artifact.id == Model.artifact_id)
        .where(Model.project_id == project_id, (Model.id == repo) | (Model.name == repo))
        .order_by((Model.id == repo).desc(), Model.id.desc())
        .limit(1)
    )


def _no_repo(repo_id: str) -> NotFound:
    return NotFound(
        f"there is no repository {repo_id!r} in this project", code="repo_not_found", headers=_REPO_NOT_FOUND
    )
