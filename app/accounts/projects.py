"""Projects: the tenants of the service. Called inside a transaction; never commits."""

from typing import Final

from sqlalchemy import delete, exists, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.accounts import repository
from app.db.base import Base, db_time
from app.db.models import ApiKey, Job, Project
from app.errors import Conflict, NotFound
from app.quotas.limits import UNLIMITED, Quotas

DEFAULT_PROJECT_NAME: Final = "default"
KEPT_TABLES: Final = frozenset({"api_keys", "jobs", "steps", "attempts", "events", "audit_events"})
"""What stays on record of a deleted project: who did what. The rest goes, its bytes with the next garbage."""
# Whether a job has ended is told by states that belong to app.jobs.
_FINISHED: Final = ("succeeded", "failed", "cancelled")


def ensure_default_project(session: Session) -> Project:
    """The project that exists without anybody creating it; safe when two processes start at once."""
    found = repository.project_named(session, DEFAULT_PROJECT_NAME)
    if found is not None:
        return found
    try:
        with session.begin_nested():
            project = Project(name=DEFAULT_PROJECT_NAME)
            session.add(project)
        return project
    except IntegrityError:
        winner = repository.project_named(session, DEFAULT_PROJECT_NAME)
        assert winner is not None, "the name is unique, so whoever won has it"
        return winner


def create_project(session: Session, *, name: str, quotas: Quotas = UNLIMITED) -> Project:
    """A new project.

    Raises:
        Conflict: another one has the name.
    """
    project = Project(name=name, **quotas.columns())
    _keep(session, project, name=name)
    return project


def get_project(session: Session, project_id: str) -> Project:
    """A project that the session may see.

    Raises:
        NotFound: there is none; one that was deleted is none.
    """
    project = repository.find_project(session, project_id)
    if project is None:
        raise NotFound(f"there is no project {project_id!r}", code="project_not_found")
    return project


def change_project(
    session: Session, project_id: str, *, name: str | None, quotas: Quotas = UNLIMITED
) -> Project:
    """Give a project another name, or other limits: those that are set in `quotas`.

    Raises:
        NotFound: there is none.
        Conflict: another one has the name.
    """
    project = get_project(session, project_id)
    for column, value in quotas.columns().items():
        setattr(project, column, value)
    project.name = project.name if name is None else name
    _keep(session, project, name=project.name)
    return project


def delete_project(session: Session, project_id: str, *, own_project_id: str) -> None:
    """End a project: its keys stop, its files, models and artifacts go. What happened in it stays on record.

    Raises:
        NotFound: there is none.
        Conflict: it is the one of the key that asks, or a job of it has not ended.
    """
    project = get_project(session, project_id)
    if project.id == own_project_id:
        raise Conflict("a key cannot delete the project that it belongs to", code="project_in_use")
    # Whoever is inserting rows of the project holds its row shared; afterwards nobody begins.
    session.execute(select(Project.id).where(Project.id == project.id).with_for_update())
    unfinished = exists().where(Job.project_id == project.id, Job.status.not_in(_FINISHED))
    if session.scalar(select(unfinished)):
        raise Conflict(f"{project.name} has jobs that have not ended", code="project_has_jobs")
    of_project = (ApiKey.project_id == project.id, ApiKey.revoked_at.is_(None))
    session.execute(update(ApiKey).where(*of_project).values(revoked_at=db_time()))
    for table in reversed(Base.metadata.sorted_tables):
        if "project_id" in table.columns and table.name not in KEPT_TABLES:
            session.execute(delete(table).where(table.columns.project_id == project.id))
    # The name is free again.
    project.name = f"{project.name} ({project.id})"
    project.deleted_at = db_time()
    session.flush()


def _keep(session: Session, project: Project, *, name: str) -> None:
    try:
        with session.begin_nested():
            session.add(project)
    except IntegrityError as error:
        raise Conflict(f"another project is called {name!r}", code="project_exists") from error
    session.refresh(project)
