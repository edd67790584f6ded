"""Turns a request into a principal: the one place that reads API keys, and the one filter by project."""

from typing import Annotated

from fastapi import BackgroundTasks, Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import Engine

from app.accounts import repository, service
from app.accounts.keys import Scope
from app.accounts.service import Principal
from app.db.dependencies import engine_of
from app.db.session import in_transaction, read_only
from app.errors import Forbidden, Unauthorized

_READING_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_bearer = HTTPBearer(auto_error=False, description="An API key: `fus_...`", scheme_name="api_key")


def require_principal(
    request: Request,
    background: BackgroundTasks,
    engine: Annotated[Engine, Depends(engine_of)],
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Principal:
    """The caller, whose key carries `read` for a request that reads and `write` for one that changes things.

    Raises:
        Unauthorized: no key, or none that works.
        Forbidden: the key lacks the scope.
    """
    if credentials is None:
        raise Unauthorized("send an API key: `Authorization: Bearer fus_...`", code="missing_api_key")
    with read_only(engine) as session:
        found = service.authenticate(session, credentials.credentials, pepper=pepper_of(request))
    if found is None:
        raise Unauthorized("the API key is unknown, expired or revoked")
    if found.is_stale:
        # After the answer: a request that only reads must not wait for the database's write lock.
        background.add_task(in_transaction, engine, repository.touch_key, found.principal.key_id)
    needed = Scope.READ if request.method in _READING_METHODS else Scope.WRITE
    return _require(found.principal, needed)


def pepper_of(request: Request) -> bytes:
    """The key of the key hashes, which `create_app` loaded."""
    pepper: bytes = request.app.state.key_pepper
    return pepper


CurrentPrincipal = Annotated[Principal, Depends(require_principal)]


def require_admin(principal: CurrentPrincipal) -> Principal:
    """The caller, whose key carries `admin`."""
    return _require(principal, Scope.ADMIN)


AdminPrincipal = Annotated[Principal, Depends(require_admin)]


def _require(principal: Principal, scope: Scope) -> Principal:
    if not principal.may(scope):
        raise Forbidden(f"this API key lacks the scope {scope.value!r}", code="scope_missing")
    return principal
