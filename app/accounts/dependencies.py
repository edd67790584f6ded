"""Turns a request into a principal: the one place that reads API keys, and that says what they open."""

from typing import Annotated

from fastapi import BackgroundTasks, Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import Engine

from app.accounts import repository, service
from app.accounts.access import needed_scope
from app.accounts.service import Principal
from app.db.dependencies import bind_project, service_engine_of
from app.db.session import in_transaction, read_only
from app.errors import Forbidden, Unauthorized

_bearer = HTTPBearer(auto_error=False, description="An API key: `fus_...`", scheme_name="api_key")


def require_principal(
    request: Request,
    background: BackgroundTasks,
    engine: Annotated[Engine, Depends(service_engine_of)],
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Principal:
    """The caller, whose key carries the scope that the route needs. From here on the request is bound to its
    project.

    Raises:
        Unauthorized: no key, or none that works.
        Forbidden: the key lacks the scope.
    """
    if credentials is None:
        raise Unauthorized("send an API key: `Authorization: Bearer fus_...`", code="missing_api_key")
    with read_only(engine) as session:
        found = service.authenticate(session, credentials.credentials, pepper=pepper_of(request))
    if found.is_stale:
        # After the answer: a request that only reads must not wait for the database's write lock.
        background.add_task(in_transaction, engine, repository.touch_key, found.principal.key_id)
    bind_project(request, found.principal.project_id)
    _require_scope(request, found.principal)
    return found.principal


def pepper_of(request: Request) -> bytes:
    """The key of the key hashes, which `create_app` loaded."""
    pepper: bytes = request.app.state.key_pepper
    return pepper


CurrentPrincipal = Annotated[Principal, Depends(require_principal)]


def _require_scope(request: Request, principal: Principal) -> None:
    scope = needed_scope(request.method, request.scope["route"].path)
    if scope is not None and not principal.may(scope):
        has = ", ".join(sorted(principal.scopes))
        raise Forbidden(f"this needs the scope {scope.value!r}; the API key has {has}", code="scope_missing")
