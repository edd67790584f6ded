"""Estimates: what a job was expected to take when it was submitted. Written once, with the job."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Json, UtcTime, db_time
from app.db.tenancy import OfProject


class JobEstimate(OfProject, Base):
    __tablename__ = "job_estimates"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    estimate: Mapped[dict[str, Any]] = mapped_column(Json)
    """`app.jobs.estimates.estimate.Estimate` as JSON."""
    created_at: Mapped[datetime] = mapped_column(UtcTime, default=db_time())
