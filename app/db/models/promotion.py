"""Promotions: a model that is being made of a checkpoint, or was, or could not be. One per checkpoint."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Json, UtcTime, db_time, only_where
from app.db.tenancy import OfProject

UNFINISHED = "status IN ('queued', 'running')"


class Promotion(OfProject, Base):
    __tablename__ = "promotions"
    __table_args__ = (
        Index(
            "ix_promotions_unfinished",
            *("created_at", "artifact_id"),
            **only_where(UNFINISHED),
        ),
    )

    checkpoint_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    """No foreign key: checkpoints go while their training runs."""
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    artifact_id: Mapped[str] = mapped_column(String(40))
    """What the model will be. It is there from the beginning, so that the bytes stay until they are read."""
    name: Mapped[str] = mapped_column(String(200))
    """Of the model."""
    status: Mapped[str] = mapped_column(String(20))
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    """How often somebody began to read; the number of the last one is its fence."""
    num_bytes: Mapped[int] = mapped_column(BigInteger)
    num_bytes_read: Mapped[int] = mapped_column(BigInteger, default=0)
    leased_until: Mapped[datetime | None] = mapped_column(UtcTime)
    """Somebody is reading; after a crash it is free again."""
    model_id: Mapped[str | None] = mapped_column(String(40))
    error: Mapped[dict[str, Any] | None] = mapped_column(Json)
    """code, message and hint of what went wrong."""
    created_by: Mapped[str | None] = mapped_column(String(40))
    created_at: Mapped[datetime] = mapped_column(UtcTime, default=db_time())
    finished_at: Mapped[datetime | None] = mapped_column(UtcTime)
