"""Audit events: one for each request that asked for a change. Only appended to."""

from datetime import datetime

from sqlalchemy import Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, UtcTime, db_time, new_id
from app.db.tenancy import OfProject


class AuditEvent(OfProject, Base):
    __tablename__ = "audit_events"
    __table_args__ = (Index(None, "project_id", "id"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True, default=lambda: new_id("audit"))
    key_id: Mapped[str] = mapped_column(String(40))
    """The key that asked; an operator's may belong to another project."""
    address: Mapped[str | None] = mapped_column(String(64))
    request_id: Mapped[str | None] = mapped_column(String(100))
    action: Mapped[str] = mapped_column(String(100))
    """Name of the operation, as in the API description."""
    object_id: Mapped[str | None] = mapped_column(String(100))
    """What the request named, else what it made."""
    created_id: Mapped[str | None] = mapped_column(String(100))
    """What it made, where it named something, too."""
    outcome: Mapped[str] = mapped_column(String(20))
    """done, refused or failed."""
    status: Mapped[int | None] = mapped_column(Integer)
    """Status of the answer to what was not done."""
    code: Mapped[str | None] = mapped_column(String(100))
    """Code of its problem."""
    created_at: Mapped[datetime] = mapped_column(UtcTime, default=db_time())
