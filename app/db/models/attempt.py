"""Attempts: every try at a step, who made it and how it ended."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Json, UtcTime, db_time


class Attempt(Base):
    __tablename__ = "attempts"

    step_id: Mapped[str] = mapped_column(ForeignKey("steps.id"), primary_key=True)
    attempt: Mapped[int] = mapped_column(Integer, primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    worker_id: Mapped[str] = mapped_column(String(200))
    outcome: Mapped[str] = mapped_column(String(20))
    reason: Mapped[str | None] = mapped_column(Text)
    error: Mapped[dict[str, Any] | None] = mapped_column(Json)
    started_at: Mapped[datetime] = mapped_column(UtcTime, default=db_time())
    ended_at: Mapped[datetime | None] = mapped_column(UtcTime)
