"""Storing, finding and opening secrets. Called inside a transaction; never commits."""

from sqlalchemy import Select, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.accounts.service import Principal
from app.db.base import is_id, new_id
from app.db.models import Secret
from app.errors import Conflict, FieldProblem, NotFound, Unprocessable
from app.sealing import Seals


def store_secret(session: Session, seals: Seals, *, principal: Principal, name: str, value: str) -> Secret:
    """A new secret.

    Raises:
        Conflict: the project has one of that name.
        Unprocessable: the name could be taken for an id.
    """
    if is_id(name, prefix="secret"):
        detail = "a name must not look like the id of a secret"
        problem = FieldProblem(pointer="/name", code="name_invalid", detail=detail)
        raise Unprocessable(detail, code="name_invalid", errors=[problem])
    secret = Secret(
        id=new_id("secret"), project_id=principal.project_id, name=name, created_by=principal.key_id
    )
    secret.sealed = seals.seal(value, of=_place_of(secret))
    try:
        with session.begin_nested():
            session.add(secret)
    except IntegrityError as error:
        raise Conflict(f"the project has a secret {name!r} already", code="secret_exists") from error
    session.refresh(secret)
    return secret


def open_secret(seals: Seals, secret: Secret) -> str:
    """The value of a secret.

    Raises:
        InfrastructureError: the key it was sealed with is not here, or the row was altered.
    """
    return seals.unseal(secret.sealed, of=_place_of(secret))


def select_secrets(project_id: str) -> Select[Secret]:
    """Statement for the secrets of a project."""
    return select(Secret).where(Secret.project_id == project_id)


def get_secret(session: Session, *, project_id: str, secret_id: str) -> Secret:
    """A secret of the project.

    Raises:
        NotFound: there is none; another project's is none either.
    """
    secret = session.scalars(select_secrets(project_id).where(Secret.id == secret_id)).one_or_none()
    if secret is None:
        raise NotFound(f"there is no secret {secret_id!r} in this project", code="secret_not_found")
    return secret


def find_secret(session: Session, *, project_id: str, name: str, pointer: str) -> Secret:
    """What a field names by name or id.

    Raises:
        Unprocessable: the project has none.
    """
    named = or_(Secret.name == name, Secret.id == name)
    secret = session.scalars(select_secrets(project_id).where(named)).one_or_none()
    if secret is None:
        detail = f"this project has no secret {name!r}"
        problem = FieldProblem(pointer=pointer, code="secret_not_found", detail=detail)
        raise Unprocessable(f"{pointer}: {detail}", code="secret_not_found", errors=[problem])
    return secret


def delete_secret(session: Session, *, project_id: str, secret_id: str) -> None:
    """Forget a secret, also while a job names it: one that got known must go at once.

    Raises:
        NotFound: there is none.
    """
    session.delete(get_secret(session, project_id=project_id, secret_id=secret_id))


def _place_of(secret: Secret) -> str:
    return f"{secret.project_id}/{secret.id}"
