"""How an endpoint gets a session: one request is one transaction."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.db import session as db_session
from fusion.failpoints import failpoint


def engine_of(request: Request) -> Engine:
    """The engine that `create_app` made."""
    engine: Engine = request.app.state.engine
    return engine


def _writing(engine: Annotated[Engine, Depends(engine_of)]) -> Iterator[Session]:
    with db_session.transaction(engine) as session:
        yield session
    failpoint("request.committed")


def _reading(engine: Annotated[Engine, Depends(engine_of)]) -> Iterator[Session]:
    with db_session.read_only(engine) as session:
        yield session


# Scope "function" commits before the answer is sent: a 201 must never name a row that is then rolled back.
WriteSession = Annotated[Session, Depends(_writing, scope="function")]
ReadSession = Annotated[Session, Depends(_reading, scope="function")]
