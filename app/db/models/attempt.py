"""Attempts: every try at a step, who made it and how it ended. Only appended to; what ended stays."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Json, UtcTime, db_time, only_where
from app.db.tenancy import OfProject

RUNNING = "outcome = 'running'"


class Attempt(OfProject, Base):
    __tablename__ = "attempts"
    __table_args__ = (
        Index(None, "project_id", "started_at"),
        # Whatever the code does, a step has one running attempt.
        Index(
            "uq_attempts_running",
            "step_id",
            unique=True,
            **only_where(RUNNING),
        ),
    )

    step_id: Mapped[str] = mapped_column(ForeignKey("steps.id"), primary_key=True)
    attempt: Mapped[int] = mapped_column(Integer, primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    worker_id: Mapped[str] = mapped_column(String(200))
    outcome: Mapped[str] = mapped_column(String(20))
    reason: Mapped[str | None] = mapped_column(Text)
    error: Mapped[dict[str, Any] | None] = mapped_column(Json)
    started_at: Mapped[datetime] = mapped_column(UtcTime, default=db_time())
    ended_at: Mapped[datetime | None] = mapped_column(UtcTime)
