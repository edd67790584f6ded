"""Models of a project: registered checkpoints, which jobs name as sources, and the results of jobs."""

from collections.abc import Sequence
from pathlib import Path

from sqlalchemy.orm import Session

from app.accounts.service import Principal
from app.catalog import repository
from app.catalog.names import check_model_folder
from app.db.models import Model
from app.errors import Conflict, NotFound, Unprocessable
from app.secrets.service import find_secret
from fusion.spec import ModelRef


def register_source(
    session: Session, *, principal: Principal, name: str, ref: ModelRef, allowed_roots: Sequence[Path]
) -> Model:
    """Register a checkpoint of the hub, or a folder under an allowed root.

    Raises:
        Unprocessable: a path that may not be read, a reference to another registered model, or a secret
            that the project does not have.
    """
    if ref.model_id is not None:
        raise Unprocessable(
            f"{ref.model_id} is registered already; give hub and revision, or path", code="model_registered"
        )
    origin = {"hub": ref.hub, "revision": ref.revision}
    if ref.secret is not None:
        find_secret(session, project_id=principal.project_id, name=ref.secret, pointer="/ref/secret")
        origin["secret"] = ref.secret
    if ref.path is not None:
        folder = check_model_folder(ref.path, allowed_roots=allowed_roots, pointer="/ref/path")
        origin = {"path": folder}
    model = Model(project_id=principal.project_id, name=name, origin=origin, created_by=principal.key_id)
    session.add(model)
    session.flush()
    return model


def register_fused_model(
    session: Session,
    *,
    project_id: str,
    job_id: str,
    artifact_id: str,
    name: str,
    created_by: str | None = None,
) -> Model:
    """Register the result of a job; the same job again gets the model it has."""
    found = repository.find_model_of_job(session, job_id=job_id)
    if found is not None:
        return found
    model = Model(
        project_id=project_id, name=name, job_id=job_id, artifact_id=artifact_id, created_by=created_by
    )
    session.add(model)
    session.flush()
    return model


def get_model(session: Session, *, project_id: str, model_id: str) -> Model:
    """A model of the project.

    Raises:
        NotFound: there is none; another project's is none either.
    """
    model = repository.find_model(session, project_id=project_id, model_id=model_id)
    if model is None:
        raise NotFound(f"there is no model {model_id!r} in this project", code="model_not_found")
    return model


def stored_artifact_of(model: Model) -> str:
    """The artifact with the model's files.

    Raises:
        NotFound: it is a registered checkpoint, whose files this service does not store.
    """
    if model.artifact_id is None:
        raise NotFound(
            f"{model.id} is a registered checkpoint; its files are where its ref says",
            code="model_has_no_artifact",
        )
    return model.artifact_id


def delete_model(session: Session, *, project_id: str, model_id: str) -> None:
    """Take a model out of the catalogue. The artifact of a fused one stays with its job.

    Raises:
        NotFound: there is none.
        Conflict: a job that has not ended names it, or a publication is not finished.
    """
    model = get_model(session, project_id=project_id, model_id=model_id)
    user = repository.live_job_naming(session, project_id=project_id, resource_id=model_id)
    if user is not None:
        raise Conflict(f"{user} uses this model; cancel the job or wait for its end", code="model_in_use")
    publication = repository.live_publication_of(session, model_id=model_id)
    if publication is not None:
        raise Conflict(
            f"{publication} publishes this model; cancel it or wait for its end", code="model_in_use"
        )
    session.delete(model)
