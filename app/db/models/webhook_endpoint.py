"""Webhook endpoints: where a project wants to be told what happens."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Json, UtcTime, db_time, new_id
from app.db.tenancy import OfProject


class WebhookEndpoint(OfProject, Base):
    __tablename__ = "webhook_endpoints"
    __table_args__ = (Index(None, "project_id", "id"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True, default=lambda: new_id("whe"))
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    url: Mapped[str] = mapped_column(Text)
    description: Mapped[str] = mapped_column(Text)
    event_types: Mapped[list[str]] = mapped_column(Json)
    enabled: Mapped[bool] = mapped_column()
    disabled_reason: Mapped[str | None] = mapped_column(String(20))
    """Why the service disabled it; None where its user did."""
    secret: Mapped[str | None] = mapped_column(Text)
    """Sealed (`app.sealing`); None once it is deleted."""
    old_secret: Mapped[str | None] = mapped_column(Text)
    """The one before, sealed; it signs too until `old_secret_ends_at`."""
    old_secret_ends_at: Mapped[datetime | None] = mapped_column(UtcTime)
    failing_since: Mapped[datetime | None] = mapped_column(UtcTime)
    """First failure since something last arrived."""
    created_by: Mapped[str | None] = mapped_column(String(40))
    created_at: Mapped[datetime] = mapped_column(UtcTime, default=db_time())
    deleted_at: Mapped[datetime | None] = mapped_column(UtcTime)
    """The row stays: a transaction that tells of an event may be about to refer to it."""
