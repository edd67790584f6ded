"""Publications: a model that is being copied to a place outside of the service, or was, or could not be."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Json, UtcTime, db_time, new_id, only_where
from app.db.tenancy import OfProject

UNFINISHED = "status IN ('queued', 'running')"


class Publication(OfProject, Base):
    __tablename__ = "publications"
    __table_args__ = (
        Index(None, "project_id", "id"),
        Index(None, "model_id"),
        Index("ix_publications_unfinished", "due_at", "id", **only_where(UNFINISHED)),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True, default=lambda: new_id("pub"))
    model_id: Mapped[str] = mapped_column(String(40))
    """No foreign key: what was published is told of when the model is gone."""
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    """The job that made the model."""
    artifact_id: Mapped[str] = mapped_column(String(40))
    destination: Mapped[dict[str, Any]] = mapped_column(Json)
    """As it was asked for; of a secret only the name."""
    status: Mapped[str] = mapped_column(String(20))
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    """How often somebody began to send; the number of the last one is its fence."""
    num_failures: Mapped[int] = mapped_column(Integer, default=0)
    """How often the destination could not be reached."""
    num_bytes: Mapped[int] = mapped_column(BigInteger)
    num_bytes_sent: Mapped[int] = mapped_column(BigInteger, default=0)
    due_at: Mapped[datetime] = mapped_column(UtcTime, default=db_time())
    """Not to be begun before."""
    leased_until: Mapped[datetime | None] = mapped_column(UtcTime)
    """Somebody is sending; after a crash it is free again."""
    place: Mapped[dict[str, Any] | None] = mapped_column(Json)
    """url and revision of what was published."""
    error: Mapped[dict[str, Any] | None] = mapped_column(Json)
    """code, message and hint of what went wrong, also of a try that another one follows."""
    created_by: Mapped[str | None] = mapped_column(String(40))
    created_at: Mapped[datetime] = mapped_column(UtcTime, default=db_time())
    finished_at: Mapped[datetime | None] = mapped_column(UtcTime)
