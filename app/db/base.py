"""What every table shares: the declarative base, ids, and times taken from the database's clock."""

import re
import secrets
import time
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import JSON, DateTime, Dialect, Float, MetaData, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.sql import ColumnElement
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import FunctionElement, literal
from sqlalchemy.types import TypeDecorator

_BASE32: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_ID: Final = re.compile(r"[a-z]+-[0-9a-z]{26}")

Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
"""JSON; a Python None is an SQL NULL."""


class Base(DeclarativeBase):
    """Base of all tables. Constraints are named, so that a migration can drop them on both databases."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


def only_where(condition: str) -> dict[str, Any]:
    """Arguments of an index that holds the rows of this condition only."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


def new_id(prefix: str) -> str:
    """`prefix-` and 26 characters that sort by time of creation: 48 bits of milliseconds, 80 random bits."""
    number = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    return f"{prefix}-" + "".join(_BASE32[number >> shift & 31] for shift in range(125, -1, -5))


def is_id(text: str, *, prefix: str) -> bool:
    """Whether `text` looks like an id made by `new_id(prefix)`. Ask before a query sees foreign text."""
    return text.startswith(f"{prefix}-") and _ID.fullmatch(text) is not None


class UtcTime(TypeDecorator[datetime]):
    """A moment: `timestamptz` on PostgreSQL, UTC text on SQLite, always an aware `datetime` in Python."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError(f"a time without a zone has no meaning here: {value!r}")
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class _DatabaseTime(FunctionElement[datetime]):
    type = UtcTime()
    inherit_cache = True


@compiles(_DatabaseTime, "postgresql")
def _time_on_postgresql(element: _DatabaseTime, compiler: SQLCompiler, **kw: Any) -> str:
    # clock_timestamp, not now(): a transaction that waited for a lock must not write a lease in the past.
    return f"(clock_timestamp() + make_interval(secs => {compiler.process(element.clauses, **kw)}))"


@compiles(_DatabaseTime, "sqlite")
def _time_on_sqlite(element: _DatabaseTime, compiler: SQLCompiler, **kw: Any) -> str:
    offset = compiler.process(element.clauses, **kw)
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', {offset} || ' seconds')"


def db_time(offset_seconds: float = 0.0) -> ColumnElement[datetime]:
    """The database's clock, moved by `offset_seconds`; leases are compared with no other clock."""
    return _DatabaseTime(literal(float(offset_seconds), Float()))


def unix_seconds(moment: datetime) -> int:
    """How the API shows a time."""
    return int(moment.timestamp())
