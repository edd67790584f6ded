"""Refuses what would go beyond a project's limits.

What adds to the use is stored first and counted afterwards, in one transaction and under a lock of the
project's: of two requests that fit only one by one, one is undone.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, ScalarSelect, select
from sqlalchemy.orm import Session

from app.db.locks import wait_for_lock
from app.db.models import Project
from app.errors import QuotaExceeded
from app.quotas import usage
from app.quotas.limits import Quotas

_OPERATORS_RAISE = "an operator of the service can raise the limit: PATCH /v1/projects/{project_id}"
_QUEUE_RETRY_SECONDS = 60


def quotas_of(project: Project) -> Quotas:
    """The limits of a project."""
    return Quotas(**{name: getattr(project, f"max_{name}") for name in Quotas.model_fields})


def require_place_in_queue(session: Session, project_id: str, *, needs_gpu: bool) -> None:
    """Check, once a job waits, that it may.

    Raises:
        QuotaExceeded: more jobs wait than may, or the project has used up its storage or its GPU hours.
    """
    project = _project(session, project_id)
    _require_room(session, project)
    limit = project.max_queued_jobs
    if limit is not None:
        wait_for_lock(session, "queued_jobs", project_id)
        found = _used(session, usage.num_queued_jobs(project_id))
        if found > limit:
            raise QuotaExceeded(
                f"queued_jobs: {found - 1:.0f} of {limit} jobs wait already",
                hint=_hint("wait until one has started, or cancel one", project_id),
                headers={"Retry-After": str(_QUEUE_RETRY_SECONDS)},
            )
    gpu_limit = project.max_gpu_hours_per_month
    if needs_gpu and gpu_limit is not None:
        hours = _used(session, usage.gpu_hours(project_id))
        if hours >= gpu_limit:
            raise QuotaExceeded(
                f"gpu_hours_per_month: {hours:.2f} of {gpu_limit:g} GPU hours of this month are used",
                hint=_hint(f"the next month begins on {_next_month()}", project_id),
            )


def require_room(session: Session, project_id: str) -> None:
    """Check, once bytes are recorded, that the project may keep so many.

    Raises:
        QuotaExceeded: it may not.
    """
    _require_room(session, _project(session, project_id))


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """What a project may still store."""

    limit: int
    used: int

    @property
    def left(self) -> int:
        return max(0, self.limit - self.used)

    def __str__(self) -> str:
        return f"{self.used} of {self.limit} bytes are used"


def room_of(session: Session, project_id: str) -> Room | None:
    """None without limit."""
    limit = _project(session, project_id).max_stored_bytes
    if limit is None:
        return None
    return Room(limit=limit, used=int(_used(session, usage.stored_bytes(project_id))))


def too_many_bytes(project_id: str, detail: str) -> QuotaExceeded:
    """The refusal of bytes for which a project has no room."""
    way_out = "GET /v1/usage tells what takes the room; delete files, artifacts or jobs (`purge`)"
    return QuotaExceeded(f"stored_bytes: {detail}", hint=_hint(way_out, project_id))


def _require_room(session: Session, project: Project) -> None:
    limit = project.max_stored_bytes
    if limit is None:
        return
    wait_for_lock(session, "stored_bytes", project.id)
    found = int(_used(session, usage.stored_bytes(project.id)))
    if found > limit:
        raise too_many_bytes(project.id, f"{found} of {limit} bytes would be used")


def _project(session: Session, project_id: str) -> Project:
    query = select(Project).where(Project.id == project_id)
    return session.scalars(query.execution_options(populate_existing=True)).one()


def _used(session: Session, amount: ColumnElement[Any] | ScalarSelect[Any]) -> float:
    return float(session.scalar(select(amount)) or 0)


def _hint(way_out: str, project_id: str) -> str:
    return f"{way_out}; {_OPERATORS_RAISE.format(project_id=project_id)}"


def _next_month() -> str:
    today = datetime.now(UTC)
    year, month = (today.year + 1, 1) if today.month == 12 else (today.year, today.month + 1)
    return f"{year:04}-{month:02}-01"
