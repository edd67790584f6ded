"""Labels of jobs: tags, and metadata as pairs. In a table of their own, so that lists can filter by them."""

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base
from app.db.tenancy import OfProject


class JobLabel(OfProject, Base):
    __tablename__ = "job_labels"
    __table_args__ = (Index(None, "project_id", "kind", "key", "value", "job_id"),)

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(10), primary_key=True)
    """tag, with an empty value, or metadata."""
    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[str] = mapped_column(String(512))
