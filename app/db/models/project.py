"""Projects: the tenants. Every row of a tenant's carries its project."""

from datetime import datetime

from sqlalchemy import BigInteger, Float, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, UtcTime, db_time, new_id
from app.db.tenancy import IsProject


class Project(IsProject, Base):
    __tablename__ = "projects"

    id: Mapped[str] = mapped_column(String(40), primary_key=True, default=lambda: new_id("proj"))
    name: Mapped[str] = mapped_column(String(200), unique=True)
    created_at: Mapped[datetime] = mapped_column(UtcTime, default=db_time())
    deleted_at: Mapped[datetime | None] = mapped_column(UtcTime)
    """Its keys have ended and its things are gone; what happened in it stays on record."""
    # The limits (`app.quotas.limits.Quotas`); None is without limit.
    max_queued_jobs: Mapped[int | None] = mapped_column(Integer)
    max_running_jobs: Mapped[int | None] = mapped_column(Integer)
    max_stored_bytes: Mapped[int | None] = mapped_column(BigInteger)
    max_gpu_hours_per_month: Mapped[float | None] = mapped_column(Float)
