"""`/v1/secrets`: write-only. No answer holds a value, and none is kept for a repeated request."""

import re

from fastapi import Request, status

from app.accounts.dependencies import CurrentPrincipal
from app.db.dependencies import ReadSession, WriteSession
from app.db.models import Secret
from app.errors import (
    Conflict,
    FieldProblem,
    Forbidden,
    NotFound,
    Unauthorized,
    Unprocessable,
    problem_responses,
)
from app.lists import ListOf, Paging, list_of, page_of_rows
from app.routing import Router
from app.sealing import Seals
from app.secrets import service
from app.secrets.schemas import VALUE_PATTERN, CreateSecret, DeletedSecret, SecretObject

router = Router(prefix="/v1/secrets", tags=["Secrets"], responses=problem_responses(Unauthorized, Forbidden))


@router.post("", status_code=status.HTTP_201_CREATED, responses=problem_responses(Conflict, Unprocessable))
def create_secret(
    principal: CurrentPrincipal, request: Request, session: WriteSession, wanted: CreateSecret
) -> SecretObject:
    """Store a secret that specs of this project may name (`secret` of a model of a hub)."""
    seals: Seals = request.app.state.seals
    value = wanted.value.get_secret_value()
    if re.fullmatch(VALUE_PATTERN, value) is None:
        detail = "printable ASCII without spaces, quotes and backslashes is expected"
        problem = FieldProblem(pointer="/value", code="value_invalid", detail=detail)
        raise Unprocessable(f"/value: {detail}", code="value_invalid", errors=[problem])
    secret = service.store_secret(session, seals, principal=principal, name=wanted.name, value=value)
    return SecretObject.of(secret)


@router.get("")
def list_secrets(principal: CurrentPrincipal, session: ReadSession, page: Paging) -> ListOf[SecretObject]:
    """Secrets of the project, without their values."""
    wanted = service.select_secrets(principal.project_id)
    found, has_more = page_of_rows(session, wanted, id_column=Secret.id, page=page)
    return ListOf[SecretObject](**list_of([SecretObject.of(secret) for secret in found], has_more=has_more))


@router.get("/{secret_id}", responses=problem_responses(NotFound))
def get_secret(principal: CurrentPrincipal, session: ReadSession, secret_id: str) -> SecretObject:
    """One secret, without its value."""
    found = service.get_secret(session, project_id=principal.project_id, secret_id=secret_id)
    return SecretObject.of(found)


@router.delete("/{secret_id}", responses=problem_responses(NotFound))
def delete_secret(principal: CurrentPrincipal, session: WriteSession, secret_id: str) -> DeletedSecret:
    """Forget a secret at once. A job that names it fails where it needs it, and can be retried."""
    service.delete_secret(session, project_id=principal.project_id, secret_id=secret_id)
    return DeletedSecret(id=secret_id)
