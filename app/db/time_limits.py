"""How long the database may take for a request. Other work of the service has no limit: some of it looks at
everything there is.

PostgreSQL keeps the time itself (`row_security.tell_whose` tells it with whose rows are meant). SQLite asks
us now and then whether a statement may go on.
"""

import sqlite3
import time
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Engine, event

_OPTION: Final = "fusion_time_limits"
_SQLITE_INSTRUCTIONS: Final = 1_000_000
"""Of SQLite's virtual machine between two questions: tens of milliseconds. Each question has to wait for its
turn among Python's threads."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeLimits:
    """Of one statement, and of a transaction in which nothing is asked for (PostgreSQL only)."""

    statement_seconds: float
    idle_seconds: float


def with_time_limits(engine: Engine, limits: TimeLimits) -> Engine:
    """The same database, which ends what takes longer."""
    return engine.execution_options(**{_OPTION: limits})


def time_limits_of(connectable: Engine | Connection) -> TimeLimits | None:
    """None where everything may take as long as it takes."""
    limits: TimeLimits | None = connectable.get_execution_options().get(_OPTION)
    return limits


def limit_sqlite_statements(engine: Engine) -> None:
    """Let statements of connections with limits end in time, with SQLITE_INTERRUPT.

    What SQLite does in a single instruction, such as `count(*)` of a whole table, is not interrupted.
    """
    event.listen(engine, "before_cursor_execute", _start_clock)
    event.listen(engine, "checkin", _stop_clock)


def _start_clock(connection: Connection, *_: Any) -> None:
    limits = time_limits_of(connection)
    if limits is None:
        return
    deadline = time.monotonic() + limits.statement_seconds
    driver: Any = connection.connection.dbapi_connection
    driver.set_progress_handler(lambda: time.monotonic() > deadline, _SQLITE_INSTRUCTIONS)


def _stop_clock(driver: sqlite3.Connection | None, _record: Any) -> None:
    if driver is not None:
        driver.set_progress_handler(None, 0)
