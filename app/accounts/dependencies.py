"""Turns a request into a principal: the one place that reads API keys, and that says what they open."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Annotated, Final

from fastapi import BackgroundTasks, Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.accounts import projects, service
from app.accounts.access import is_audited, needed_scope
from app.accounts.last_use import LastUses
from app.accounts.scopes import Scope
from app.accounts.service import Authenticated, Principal
from app.audit.recording import AuditNote
from app.db.dependencies import ServiceEngine, bind_project, engine_of, held, service_engine_of, take_note
from app.db.notes import noted
from app.db.session import read_only, transaction
from app.errors import Forbidden, NotFound, Unauthorized
from app.rate_limits.addresses import caller_of
from app.rate_limits.limiter import Limiter

PROJECT_HEADER: Final = "OpenAI-Project"
"""With which an operator acts for another project; OpenAI's clients send it."""

_bearer = HTTPBearer(auto_error=False, description="An API key: `fus_...`", scheme_name="api_key")


def require_principal(
    request: Request,
    background: BackgroundTasks,
    engine: ServiceEngine,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Principal:
    """The caller, whose key carries the scope that the route needs. From here on the request is bound to a
    project: the key's, or the one that an operator names.

    Raises:
        TooManyRequests: of the key or its project; or from an address that has no key.
        Unauthorized: no key, or none that works.
        Forbidden: the key lacks the scope.
        NotFound: the header names a project that the caller cannot see.
    """
    found = _authenticate(request, engine, credentials)
    principal = _acting_for(engine, found.principal, request.headers.get(PROJECT_HEADER))
    last_uses: LastUses = request.app.state.last_uses
    if found.is_stale:
        # After the answer: a request that only reads must not wait for the database's write lock.
        background.add_task(last_uses.note, engine, found.principal.key_id)
    bind_project(request, principal.project_id)
    if is_audited(request.method, request.scope["route"].path):
        project = {"project_id": principal.project_id, "key_id": principal.key_id}
        request.state.audit_note = AuditNote.of(request, engine=engine_of(request), **project)
        take_note(request, request.state.audit_note)
    _require_scope(request, principal)
    return principal


def _authenticate(
    request: Request, engine: Engine, credentials: HTTPAuthorizationCredentials | None
) -> Authenticated:
    """Who asks, if they may ask by now. Whoever has a key that works is not held up by strangers who share
    the address. No connection to the database waits for what Redis has counted."""
    limiter: Limiter = request.app.state.limiter
    try:
        if credentials is None:
            raise Unauthorized("send an API key: `Authorization: Bearer fus_...`", code="missing_api_key")
        with read_only(engine) as session:
            found = service.authenticate(session, credentials.credentials, pepper=pepper_of(request))
    except Unauthorized:
        limiter.require(address=caller_of(request.client.host) if request.client is not None else "")
        raise
    own = found.principal
    request.state.answer_headers = limiter.require(key=own.key_id, project=own.project_id)
    return found


def pepper_of(request: Request) -> bytes:
    """The key of the key hashes, which `create_app` loaded."""
    pepper: bytes = request.app.state.key_pepper
    return pepper


CurrentPrincipal = Annotated[Principal, Depends(require_principal)]


async def _reading_projects(request: Request, principal: CurrentPrincipal) -> AsyncIterator[Session]:
    is_operator = principal.may(Scope.OPERATOR)
    engine = service_engine_of(request) if is_operator else engine_of(request)
    async with held(read_only(engine)) as session:
        yield session


async def _writing_projects(request: Request, principal: CurrentPrincipal) -> AsyncIterator[Session]:
    assert principal.may(Scope.OPERATOR), "app/accounts/access.py says who may change projects"
    async with held(transaction(noted(service_engine_of(request), request.state.audit_note))) as session:
        yield session


# Not bound to a project for operators, who run the service; for nobody else.
ReadProjects = Annotated[Session, Depends(_reading_projects, scope="function")]
WriteProjects = Annotated[Session, Depends(_writing_projects, scope="function")]


def _acting_for(engine: Engine, principal: Principal, project_id: str | None) -> Principal:
    if project_id is None or project_id == principal.project_id:
        return principal
    if not principal.may(Scope.OPERATOR):
        raise NotFound(f"there is no project {project_id!r}", code="project_not_found")
    with read_only(engine) as session:
        return replace(principal, project_id=projects.get_project(session, project_id).id)


def _require_scope(request: Request, principal: Principal) -> None:
    scope = needed_scope(request.method, request.scope["route"].path)
    if scope is not None:
        require(principal, scope)


def require(principal: Principal, scope: Scope) -> None:
    """For what a route does only sometimes, and that needs a scope of its own.

    Raises:
        Forbidden: the key lacks it.
    """
    if not principal.may(scope):
        has = ", ".join(sorted(principal.scopes))
        raise Forbidden(f"this needs the scope {scope.value!r}; the API key has {has}", code="scope_missing")
