"""Asking for publications, finding and cancelling them. Called inside a transaction; never commits."""

from typing import Final

from sqlalchemy import update
from sqlalchemy.orm import Session

from app.accounts.service import Principal
from app.artifacts import service as artifact_service
from app.catalog import models
from app.db.base import db_time
from app.db.locks import wait_for_lock
from app.db.models import Model, Publication
from app.errors import Conflict, NotFound, Unprocessable
from app.publications import repository
from app.publications.destinations import Destination, Outlets
from app.publications.repository import UNFINISHED, PublicationStatus
from app.secrets.service import find_secret

MAX_UNFINISHED: Final = 100
"""Per project."""


def ask_publication(
    session: Session, *, principal: Principal, model_id: str, destination: Destination, outlets: Outlets
) -> Publication:
    """Queue the publication of a model. Asked again while it is not finished, it is the same one.

    Raises:
        NotFound: no such model.
        Unprocessable: a place that the operator does not allow, or a secret that the project does not have.
        Conflict: the model's files are not stored here, or too many publications wait.
    """
    project_id = principal.project_id
    model = _publishable(session, project_id=project_id, model_id=model_id)
    if (problem := outlets.problem(destination)) is not None:
        raise Unprocessable(f"{problem.pointer}: {problem.detail}", code=problem.code, errors=[problem])
    if destination.secret is not None:
        find_secret(session, project_id=project_id, name=destination.secret, pointer="/secret")
    wait_for_lock(session, "publications", project_id)
    asked = destination.model_dump(mode="json")
    found = repository.find_unfinished(session, project_id=project_id, model_id=model_id, destination=asked)
    if found is not None:
        return found
    if repository.num_unfinished(session, project_id=project_id) >= MAX_UNFINISHED:
        raise Conflict(
            f"{MAX_UNFINISHED} publications of this project are unfinished, and no project has more",
            code="too_many_publications",
        )
    return _new_publication(session, model, asked, principal=principal)


def get_publication(session: Session, *, project_id: str, publication_id: str) -> Publication:
    """A publication of the project.

    Raises:
        NotFound: there is none; another project's is none either.
    """
    query = repository.select_publications(project_id).where(Publication.id == publication_id)
    found = session.scalars(query.execution_options(populate_existing=True)).one_or_none()
    if found is None:
        raise NotFound(
            f"there is no publication {publication_id!r} in this project", code="publication_not_found"
        )
    return found


def cancel_publication(session: Session, *, project_id: str, publication_id: str) -> Publication:
    """End a publication that is not finished; whoever sends notices it soon. A cancelled one stays as it is.

    Raises:
        NotFound: there is none.
        Conflict: it has succeeded or failed.
    """
    statement = (
        update(Publication)
        .where(
            Publication.id == publication_id,
            Publication.project_id == project_id,
            Publication.status.in_(UNFINISHED),
        )
        .values(status=PublicationStatus.CANCELLED, leased_until=None, finished_at=db_time())
    )
    session.execute(statement.execution_options(synchronize_session=False))
    found = get_publication(session, project_id=project_id, publication_id=publication_id)
    if found.status != PublicationStatus.CANCELLED:
        raise Conflict(f"{found.id} has {found.status} already", code="publication_finished")
    return found


def _publishable(session: Session, *, project_id: str, model_id: str) -> Model:
    model = models.get_model(session, project_id=project_id, model_id=model_id)
    if model.artifact_id is None:
        raise Conflict(
            f"{model.id} is a registered checkpoint; its files are where its ref says",
            code="model_has_no_artifact",
        )
    return model


def _new_publication(
    session: Session, model: Model, destination: dict[str, object], *, principal: Principal
) -> Publication:
    artifact_id, job_id = model.artifact_id, model.made_by_job_id
    assert artifact_id is not None, "a job stored it"
    assert job_id is not None, "a job stored it"
    artifact = artifact_service.get_artifact(
        session, project_id=principal.project_id, artifact_id=artifact_id
    )
    publication = Publication(
        project_id=principal.project_id,
        model_id=model.id,
        job_id=job_id,
        artifact_id=artifact_id,
        destination=destination,
        status=PublicationStatus.QUEUED,
        num_bytes=artifact.num_bytes,
        created_by=principal.key_id,
    )
    session.add(publication)
    session.flush()
    session.refresh(publication)
    return publication
