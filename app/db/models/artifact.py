"""Artifacts: stored folders with a manifest. A row exists only once every byte is stored."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Json, UtcTime, db_time, new_id
from app.db.tenancy import OfProject


class Artifact(OfProject, Base):
    __tablename__ = "artifacts"
    __table_args__ = (
        Index(None, "project_id", "id"),
        Index(None, "project_id", "num_bytes"),
        Index(None, "job_id", "kind"),
        Index("uq_artifacts_step_id_kind_role", "step_id", "kind", "role", unique=True),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True, default=lambda: new_id("art"))
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"))
    step_id: Mapped[str | None] = mapped_column(ForeignKey("steps.id"))
    attempt: Mapped[int | None] = mapped_column(Integer)
    kind: Mapped[str] = mapped_column(String(20))
    """output, checkpoint, model or log."""
    role: Mapped[str] = mapped_column(String(300))
    """For a checkpoint its path in the step's folder; else the name of the step."""
    digest: Mapped[str] = mapped_column(String(64))
    num_bytes: Mapped[int] = mapped_column(BigInteger)
    num_files: Mapped[int] = mapped_column(Integer)
    manifest: Mapped[dict[str, Any] | None] = mapped_column(Json)
    created_at: Mapped[datetime] = mapped_column(UtcTime, default=db_time())
