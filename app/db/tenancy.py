"""Whose rows a transaction may see: the first of two walls between projects (the second: `row_security`).

An engine knows its project (`of_project`), and so does every session made with it. Whatever such a session
reads, changes or removes through the ORM is narrowed to the rows of that project, also where a query forgot
to ask for them, and it cannot store a row of another one. An engine that was bound to no project serves the
service itself: workers, housekeeper, authentication.
"""

from typing import Final

from sqlalchemy import Engine, ForeignKey, String
from sqlalchemy.orm import (
    Mapped,
    ORMExecuteState,
    Session,
    UOWTransaction,
    mapped_column,
    with_loader_criteria,
)

PROJECT_OPTION: Final = "fusion_project"


class OfProject:
    """A table whose rows belong to projects."""

    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))


class IsProject:
    """The table of projects itself, of which a project sees one row."""

    id: Mapped[str] = mapped_column(String(40), primary_key=True)


def of_project(engine: Engine, project_id: str) -> Engine:
    """The same database, as one project sees it."""
    return engine.execution_options(**{PROJECT_OPTION: project_id})


def project_of(session: Session) -> str | None:
    """The project that a session is bound to; None for one of the service itself."""
    project_id: str | None = session.get_bind().get_execution_options().get(PROJECT_OPTION)
    return project_id


def narrow_statement(state: ORMExecuteState) -> None:
    """`do_orm_execute`: add the project to a statement, for every table of a tenant's that it names."""
    project_id = project_of(state.session)
    if project_id is None or state.is_insert:
        return
    state.statement = state.statement.options(
        with_loader_criteria(OfProject, lambda table: table.project_id == project_id, include_aliases=True),
        with_loader_criteria(IsProject, lambda table: table.id == project_id, include_aliases=True),
    )


def refuse_foreign_rows(session: Session, _context: UOWTransaction, _instances: object) -> None:
    """`before_flush`: a bound session stores rows of its own project only."""
    project_id = project_of(session)
    if project_id is None:
        return
    for row in (*session.new, *session.dirty):
        if isinstance(row, OfProject) and row.project_id != project_id:
            raise AssertionError(f"a session of {project_id} would store a row of {row.project_id}: {row!r}")
