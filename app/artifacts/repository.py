"""Queries on artifacts, all of them within one project or one step."""

from collections.abc import Iterable

from sqlalchemy import Select, delete, select
from sqlalchemy.orm import Session

from app.artifacts.kinds import ArtifactKind
from app.db.models import Artifact, ArtifactFile, Project


def is_project(session: Session, project_id: str) -> bool:
    return session.get(Project, project_id) is not None


def artifacts_of_role(session: Session, *, step_id: str, kind: ArtifactKind, role: str) -> list[Artifact]:
    return list(
        session.scalars(
            select(Artifact).where(
                Artifact.step_id == step_id, Artifact.kind == kind.value, Artifact.role == role
            )
        )
    )


def remove_artifacts(session: Session, artifact_ids: Iterable[str]) -> None:
    ids = list(artifact_ids)
    session.execute(delete(ArtifactFile).where(ArtifactFile.artifact_id.in_(ids)))
    session.execute(delete(Artifact).where(Artifact.id.in_(ids)))


def find_artifact(session: Session, *, project_id: str, artifact_id: str) -> Artifact | None:
    return session.scalars(
        select(Artifact).where(Artifact.id == artifact_id, Artifact.project_id == project_id)
    ).one_or_none()


def files_of(session: Session, artifact_id: str) -> list[ArtifactFile]:
    """Files by path."""
    return list(
        session.scalars(
            select(ArtifactFile).where(ArtifactFile.artifact_id == artifact_id).order_by(ArtifactFile.path)
        )
    )


def select_artifacts(
    *, project_id: str, job_id: str | None, step_id: str | None, kind: ArtifactKind | None
) -> Select[Artifact]:
    """Statement for the artifacts of a project, narrowed by what is given."""
    statement = select(Artifact).where(Artifact.project_id == project_id)
    if job_id is not None:
        statement = statement.where(Artifact.job_id == job_id)
    if step_id is not None:
        statement = statement.where(Artifact.step_id == step_id)
    if kind is not None:
        statement = statement.where(Artifact.kind == kind.value)
    return statement
