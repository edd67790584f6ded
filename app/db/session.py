"""Engines and transactions. Nothing else in the product commits."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine, event
from sqlalchemy import create_engine as create_sqlalchemy_engine
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from app.db.notes import changes_something, note_of, notice_flush, notice_statement
from app.db.row_security import act_as_service, tell_whose
from app.db.tenancy import narrow_statement, refuse_foreign_rows
from app.db.time_limits import limit_sqlite_statements

P = ParamSpec("P")
R = TypeVar("R")

SQLITE_BUSY_TIMEOUT_SECONDS = 30
_SQLITE_WITH_SAFE_WAL = (3, 51, 3)
"""Earlier ones can corrupt a database when two connections reset the write-ahead log at once."""

# As many as the server has threads, so that none waits for a connection but where more requests come than it
# can answer; those are told so in time to try again.
_POOL: dict[str, Any] = {"pool_size": 10, "max_overflow": 30, "pool_timeout": 10}


_POSTGRES_CONNECTION: dict[str, Any] = {
    # A database made with the encoding SQL_ASCII would otherwise answer in bytes.
    "client_encoding": "utf8",
    # A server whose machine is gone says nothing. By itself the kernel waits two hours for an answer, and a
    # quarter of an hour for a sign that the question arrived; a heartbeat must not.
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
"""What a database URL says of these wins."""


def create_engine(url: str) -> Engine:
    """An engine for `sqlite:///file` or `postgresql+psycopg://...`, set up the way the service relies on.

    Raises:
        ValueError: for any other database.
    """
    parsed = make_url(url)
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        return _sqlite_engine(url)
    if backend == "postgresql":
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        defaults = {name: value for name, value in _POSTGRES_CONNECTION.items() if name not in parsed.query}
        return create_sqlalchemy_engine(parsed, pool_pre_ping=True, connect_args=defaults, **_POOL)
    raise ValueError(f"database {backend!r} is not supported; use sqlite:///... or postgresql+psycopg://...")


class _Session(Session):
    """A session that keeps to the project of its engine."""


event.listen(_Session, "after_begin", tell_whose)
event.listen(_Session, "do_orm_execute", narrow_statement)
event.listen(_Session, "before_flush", refuse_foreign_rows)
event.listen(_Session, "do_orm_execute", notice_statement)
event.listen(_Session, "after_flush", notice_flush)


@contextmanager
def transaction(engine: Engine) -> Iterator[Session]:
    """A session whose work is committed at the end of the block, or undone when the block raises."""
    with _Session(engine, expire_on_commit=False, autoflush=True) as session:
        note = note_of(session)
        is_noted = False
        with session.begin():
            yield session
            if note is not None and changes_something(session):
                note.write(session)
                is_noted = True
        if note is not None and is_noted:
            note.written()


@contextmanager
def read_only(engine: Engine) -> Iterator[Session]:
    """A session that sees one consistent state and takes no write lock."""
    reader = engine.execution_options(postgresql_readonly=True, sqlite_read_only=True)
    with _Session(reader, expire_on_commit=False) as session, session.begin():
        yield session


@contextmanager
def schema_transaction(engine: Engine) -> Iterator[Connection]:
    """A connection for changes of the schema: all of them are committed, or none."""
    with engine.begin() as connection:
        act_as_service(connection)
        yield connection


def in_transaction(
    engine: Engine, function: Callable[Concatenate[Session, P], R], *args: P.args, **kwargs: P.kwargs
) -> R:
    """Call `function(session, ...)` in a transaction of its own."""
    with transaction(engine) as session:
        return function(session, *args, **kwargs)


def _sqlite_engine(url: str) -> Engine:
    engine = create_sqlalchemy_engine(url, connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS}, **_POOL)
    event.listen(engine, "connect", _prepare_sqlite_connection)
    event.listen(engine, "begin", _begin_sqlite_transaction)
    limit_sqlite_statements(engine)
    return engine


def _prepare_sqlite_connection(connection: sqlite3.Connection, _record: Any) -> None:
    # The driver's own transaction handling starts with a read and upgrades later, which fails at once
    # under contention whatever the timeout says; we say BEGIN ourselves.
    connection.isolation_level = None
    journal = "WAL" if sqlite3.sqlite_version_info >= _SQLITE_WITH_SAFE_WAL else "DELETE"
    for pragma in (
        f"busy_timeout = {SQLITE_BUSY_TIMEOUT_SECONDS * 1000}",
        f"journal_mode = {journal}",
        "synchronous = FULL",
        "foreign_keys = ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite_transaction(connection: Connection) -> None:
    read_only = connection.get_execution_options().get("sqlite_read_only", False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
