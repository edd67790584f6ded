"""How an endpoint gets a session: one request is one transaction, bound to the project of its caller."""

from collections.abc import Iterator
from typing import Annotated

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


def _writing(engine: ProjectEngine) -> Iterator[Session]:
    with db_session.transaction(engine) as session:
        yield session
    failpoint("request.committed")


def _reading(engine: ProjectEngine) -> Iterator[Session]:
    with db_session.read_only(engine) as session:
        yield session


# Scope "function" commits before the answer is sent: a 201 must never name a row that is then rolled back.
WriteSession = Annotated[Session, Depends(_writing, scope="function")]
ReadSession = Annotated[Session, Depends(_reading, scope="function")]
