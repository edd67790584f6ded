"""Calendar months (UTC) and spans of time, told by the database in the dialect it speaks."""

from datetime import datetime
from typing import Any

from sqlalchemy import Float, Integer, String, literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import ColumnElement
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import SQLColumnExpression
from sqlalchemy.sql.expression import FunctionElement

from app.db.base import UtcTime


class _MonthStart(FunctionElement[datetime]):
    type = UtcTime()
    inherit_cache = True


class _MonthOf(FunctionElement[str]):
    type = String()
    inherit_cache = True


class _SecondsBetween(FunctionElement[float]):
    type = Float()
    inherit_cache = True


@compiles(_MonthStart, "postgresql")
def _start_on_postgresql(element: _MonthStart, compiler: SQLCompiler, **kw: Any) -> str:
    months_ago = compiler.process(element.clauses, **kw)
    this_month = "date_trunc('month', clock_timestamp() AT TIME ZONE 'UTC')"
    return f"(({this_month} - make_interval(months => {months_ago})) AT TIME ZONE 'UTC')"


@compiles(_MonthStart, "sqlite")
def _start_on_sqlite(element: _MonthStart, compiler: SQLCompiler, **kw: Any) -> str:
    months_ago = compiler.process(element.clauses, **kw)
    moved = f"'now', 'start of month', '-' || {months_ago} || ' months'"
    return f"strftime('%Y-%m-%d 00:00:00.000000', {moved})"


@compiles(_MonthOf, "postgresql")
def _month_on_postgresql(element: _MonthOf, compiler: SQLCompiler, **kw: Any) -> str:
    return f"to_char({compiler.process(element.clauses, **kw)} AT TIME ZONE 'UTC', 'YYYY-MM')"


@compiles(_MonthOf, "sqlite")
def _month_on_sqlite(element: _MonthOf, compiler: SQLCompiler, **kw: Any) -> str:
    return f"strftime('%Y-%m', {compiler.process(element.clauses, **kw)})"


@compiles(_SecondsBetween, "postgresql")
def _seconds_on_postgresql(element: _SecondsBetween, compiler: SQLCompiler, **kw: Any) -> str:
    began, ended = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"CAST(extract(epoch FROM ({ended}) - ({began})) AS double precision)"


@compiles(_SecondsBetween, "sqlite")
def _seconds_on_sqlite(element: _SecondsBetween, compiler: SQLCompiler, **kw: Any) -> str:
    began, ended = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"((julianday({ended}) - julianday({began})) * 86400.0)"


def month_start(months_ago: int = 0) -> ColumnElement[datetime]:
    """The first moment of this month, or of one before, by the database's clock."""
    return _MonthStart(literal(months_ago, Integer()))


def month_of(moment: SQLColumnExpression[datetime]) -> ColumnElement[str]:
    """`YYYY-MM`."""
    return _MonthOf(moment)


def seconds_between(
    began: SQLColumnExpression[datetime], ended: SQLColumnExpression[datetime]
) -> ColumnElement[float]:
    """To the millisecond; None where one of them is."""
    return _SecondsBetween(began, ended)
