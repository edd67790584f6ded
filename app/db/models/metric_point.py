"""Metric points: the numbers of one optimiser step. A resumed attempt overwrites what it repeats."""

from datetime import datetime

from sqlalchemy import ForeignKey, Integer, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Json, UtcTime, db_time, new_id
from app.db.tenancy import OfProject


class MetricPoint(OfProject, Base):
    __tablename__ = "metric_points"
    __table_args__ = (UniqueConstraint("step_id", "metric_step"), UniqueConstraint("job_id", "seq"))

    id: Mapped[str] = mapped_column(String(40), primary_key=True, default=lambda: new_id("point"))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    seq: Mapped[int] = mapped_column(Integer)
    """Order of writing within the job; what a reader continues from."""
    step_id: Mapped[str] = mapped_column(ForeignKey("steps.id"))
    metric_step: Mapped[int] = mapped_column(Integer)
    """The optimiser step."""
    attempt: Mapped[int] = mapped_column(Integer)
    values: Mapped[dict[str, float | None]] = mapped_column(Json)
    """By name; None for a number that was not finite."""
    created_at: Mapped[datetime] = mapped_column(UtcTime, default=db_time())
