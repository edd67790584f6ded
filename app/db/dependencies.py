"""How an endpoint gets a session: one request is one transaction, bound to the project of its caller."""

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Annotated, Any

from anyio import CancelScope, CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import Depends, Request
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.db import session as db_session
from app.db.notes import Note, noted
from app.db.tenancy import of_project
from fusion.failpoints import failpoint


def service_engine_of(request: Request) -> Engine:
    """The engine that `create_app` made, which sees every project: for what the service does for itself."""
    engine: Engine = request.app.state.engine
    return engine


def bind_project(request: Request, project_id: str) -> None:
    """Say whose rows the rest of the request may see. Called by whoever found out who is asking."""
    request.state.engine = of_project(service_engine_of(request), project_id)


def take_note(request: Request, note: Note) -> None:
    """Let the first transaction that the request commits take a note along."""
    request.state.engine = noted(engine_of(request), note)


def engine_of(request: Request) -> Engine:
    """The engine as the caller's project sees it.

    Raises:
        AssertionError: nobody knows yet who is asking, so nothing may be seen.
    """
    engine: Engine | None = getattr(request.state, "engine", None)
    assert engine is not None, f"{request.url.path} reads the database before it knows whose request it is"
    return engine


# Not in a thread of their own, as FastAPI would call them otherwise: there is nothing to wait for.
async def _service_engine(request: Request) -> Engine:
    return service_engine_of(request)


async def _engine(request: Request) -> Engine:
    return engine_of(request)


ServiceEngine = Annotated[Engine, Depends(_service_engine)]
ProjectEngine = Annotated[Engine, Depends(_engine)]


@asynccontextmanager
async def held(session: AbstractContextManager[Session]) -> AsyncIterator[Session]:
    """A session for as long as a request needs it.

    It begins at once, because nothing is asked of the database yet; FastAPI would ask for a thread. It ends,
    as FastAPI ends what holds connections, in a thread for which nobody waits in line: until then it has a
    connection, and perhaps locks, for which those wait who are ahead.
    """
    entered = session.__enter__()
    try:
        yield entered
    except BaseException as error:
        if not await _leave(session, type(error), error, error.__traceback__):
            raise
    else:
        await _leave(session, None, None, None)


async def _leave(session: AbstractContextManager[Session], *error: Any) -> bool:
    with CancelScope(shield=True):
        is_settled = await run_sync(session.__exit__, *error, limiter=CapacityLimiter(1))
    return bool(is_settled)


async def _writing(engine: ProjectEngine) -> AsyncIterator[Session]:
    async with held(db_session.transaction(engine)) as session:
        yield session
    failpoint("request.committed")


async def _reading(engine: ProjectEngine) -> AsyncIterator[Session]:
    async with held(db_session.read_only(engine)) as session:
        yield session


# Scope "function" commits before the answer is sent: a 201 must never name a row that is then rolled back.
WriteSession = Annotated[Session, Depends(_writing, scope="function")]
ReadSession = Annotated[Session, Depends(_reading, scope="function")]
