"""Models known to a project: registered checkpoints and the results of its jobs."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Json, UtcTime, db_time, new_id
from app.db.tenancy import OfProject


class Model(OfProject, Base):
    __tablename__ = "models"
    __table_args__ = (
        Index(None, "project_id", "id"),
        Index("uq_models_checkpoint_id", "checkpoint_id", unique=True),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True, default=lambda: new_id("model"))
    name: Mapped[str] = mapped_column(String(200))
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"), index=True)
    """The job that published it, which made no other such model; None for every other model."""
    artifact_id: Mapped[str | None] = mapped_column(ForeignKey("artifacts.id"))
    """The stored checkpoint; None where `origin` says where the checkpoint is."""
    checkpoint_id: Mapped[str | None] = mapped_column(String(40))
    """The checkpoint that was promoted to it, which may be gone; None for what a job published."""
    checkpoint_job_id: Mapped[str | None] = mapped_column(String(40), index=True)
    """The job of that checkpoint. Not in `job_id`, by which earlier releases find the one model of a job."""
    origin: Mapped[dict[str, Any] | None] = mapped_column(Json)
    """Hub repository and revision, or local path, of a registered checkpoint."""
    created_by: Mapped[str | None] = mapped_column(String(40))
    created_at: Mapped[datetime] = mapped_column(UtcTime, default=db_time())

    @property
    def made_by_job_id(self) -> str | None:
        """The job that published it, or trained the checkpoint; None for a registered one."""
        return self.job_id or self.checkpoint_job_id
