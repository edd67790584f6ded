"""States of publications, and the statements behind them."""

from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from app.db.models import Publication


class PublicationStatus(StrEnum):
    """Where a publication stands: queued -> running -> succeeded | failed, and queued again in between where
    the place could not be reached; cancelled from either."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


UNFINISHED: Final = (PublicationStatus.QUEUED, PublicationStatus.RUNNING)


def select_publications(
    project_id: str, *, model_id: str | None = None, status: PublicationStatus | None = None
) -> Select[Publication]:
    """Statement for the publications of a project."""
    query = select(Publication).where(Publication.project_id == project_id)
    if model_id is not None:
        query = query.where(Publication.model_id == model_id)
    return query if status is None else query.where(Publication.status == status)


def find_unfinished(
    session: Session, *, project_id: str, model_id: str, destination: dict[str, Any]
) -> Publication | None:
    """The publication of a model to a place that waits or is under way."""
    of_model = select_publications(project_id, model_id=model_id)
    found = session.scalars(of_model.where(Publication.status.in_(UNFINISHED)).order_by(Publication.id))
    return next((one for one in found if one.destination == destination), None)


def num_unfinished(session: Session, *, project_id: str) -> int:
    unfinished = select_publications(project_id).where(Publication.status.in_(UNFINISHED)).subquery()
    return session.scalar(select(func.count()).select_from(unfinished)) or 0
