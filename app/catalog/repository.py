"""Queries on files and models, all of them within one project."""

from typing import Final, Literal

from sqlalchemy import ColumnElement, Select, Text, and_, cast, or_, select
from sqlalchemy.orm import Session

from app.db.base import db_time
from app.db.models import File, Job, Model, Publication

# Jobs in these states read nothing any more; the states themselves belong to app.jobs.
FINISHED = ("succeeded", "failed", "cancelled")
# And whether a publication waits or is under way, by states that belong to app.publications.
_UNFINISHED_PUBLICATION = ("queued", "running")


def is_current(file: type[File] = File) -> ColumnElement[bool]:
    """Not expired, by the database's clock."""
    return or_(file.expires_at.is_(None), file.expires_at > db_time())


ModelKind = Literal["registered", "fused", "promoted"]
_KINDS: Final[dict[ModelKind, ColumnElement[bool]]] = {
    "registered": Model.artifact_id.is_(None),
    "fused": and_(Model.artifact_id.is_not(None), Model.checkpoint_id.is_(None)),
    "promoted": Model.checkpoint_id.is_not(None),
}


def find_file(session: Session, *, project_id: str, file_id: str) -> File | None:
    return session.scalars(
        select(File).where(File.id == file_id, File.project_id == project_id, is_current())
    ).one_or_none()


def select_files(*, project_id: str, purpose: str | None, sha256: str | None) -> Select[File]:
    """Statement for the files of a project."""
    statement = select(File).where(File.project_id == project_id, is_current())
    if sha256 is not None:
        statement = statement.where(File.sha256 == sha256)
    return statement if purpose is None else statement.where(File.purpose == purpose)


def oldest_file_with(session: Session, *, project_id: str, sha256: str) -> str | None:
    """Id of the file that had these bytes first, of those that are left."""
    query = select_files(project_id=project_id, purpose=None, sha256=sha256).order_by(File.id).limit(1)
    return session.scalar(query.with_only_columns(File.id))


def find_model(session: Session, *, project_id: str, model_id: str) -> Model | None:
    return session.scalars(
        select(Model).where(Model.id == model_id, Model.project_id == project_id)
    ).one_or_none()


def find_model_of_job(session: Session, *, job_id: str) -> Model | None:
    """The result of a job; what its checkpoints were promoted to is none."""
    return session.scalars(select(Model).where(Model.job_id == job_id)).one_or_none()


def kind_of(model: Model) -> ModelKind:
    """What became a model."""
    if model.artifact_id is None:
        return "registered"
    return "fused" if model.checkpoint_id is None else "promoted"


def select_models(
    *, project_id: str, job_id: str | None, name: str | None = None, kind: ModelKind | None = None
) -> Select[Model]:
    """Statement for the models of a project, narrowed by what is given."""
    statement = select(Model).where(Model.project_id == project_id)
    if job_id is not None:
        statement = statement.where(or_(Model.job_id == job_id, Model.checkpoint_job_id == job_id))
    if name is not None:
        statement = statement.where(Model.name == name)
    return statement if kind is None else statement.where(_KINDS[kind])


def live_publication_of(session: Session, *, model_id: str) -> str | None:
    """Id of a publication that still sends the files of a model."""
    unfinished = Publication.status.in_(_UNFINISHED_PUBLICATION)
    query = select(Publication.id).where(Publication.model_id == model_id, unfinished).limit(1)
    return session.scalar(query)


def live_job_naming(session: Session, *, project_id: str, resource_id: str) -> str | None:
    """Id of a job that may still read a file or model, by the mention of its id in the job's spec."""
    return session.scalars(
        select(Job.id)
        .where(
            Job.project_id == project_id,
            Job.status.not_in(FINISHED),
            cast(Job.spec, Text).contains(resource_id, autoescape=True),
        )
        .limit(1)
    ).one_or_none()
