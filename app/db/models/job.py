"""Jobs: what a user submitted, and where it stands."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Json, UtcTime, db_time, new_id
from app.db.tenancy import OfProject


class Job(OfProject, Base):
    __tablename__ = "jobs"
    __table_args__ = (
        Index(None, "project_id", "id"),
        Index(None, "status", "id"),
        Index(None, "created_by", "request_digest"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True, default=lambda: new_id("job"))
    name: Mapped[str] = mapped_column(String(200))
    spec: Mapped[dict[str, Any]] = mapped_column(Json)
    spec_digest: Mapped[str] = mapped_column(String(64))
    status: Mapped[str] = mapped_column(String(20))
    """`lifecycle.job_status` of the steps and `desired`, stored so that lists can filter by it."""
    desired: Mapped[str] = mapped_column(String(20))
    """What the user asked for: run, pause or cancel."""
    priority: Mapped[int] = mapped_column(Integer, default=0)
    """Which of a project's jobs goes first: the higher one. Between projects it says nothing."""
    cloned_from_id: Mapped[str | None] = mapped_column(String(40))
    """The job whose spec this one began as."""
    status_reason: Mapped[str | None] = mapped_column(Text)
    error: Mapped[dict[str, Any] | None] = mapped_column(Json)
    last_event_seq: Mapped[int] = mapped_column(Integer, default=0)
    """Taken under the row's lock, so that events of a job become visible in the order of their numbers."""
    last_metric_seq: Mapped[int] = mapped_column(Integer, default=0)
    created_by: Mapped[str | None] = mapped_column(String(40))
    request_digest: Mapped[str | None] = mapped_column(String(64))
    """Of the request that made it, so that a client that sends it again gets this job."""
    created_at: Mapped[datetime] = mapped_column(UtcTime, default=db_time())
    started_at: Mapped[datetime | None] = mapped_column(UtcTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcTime)
