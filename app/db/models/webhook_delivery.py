"""Webhook deliveries: one event for one endpoint, until it has arrived or is given up."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Json, UtcTime, db_time, new_id
from app.db.tenancy import OfProject


class WebhookDelivery(OfProject, Base):
    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        Index(None, "status", "due_at"),
        Index(None, "leased_until"),
        Index(None, "endpoint_id", "id"),
        Index(None, "job_id", "endpoint_id", "seq"),
        Index(None, "created_at"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True, default=lambda: new_id("whd"))
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("webhook_endpoints.id"))
    event_id: Mapped[str] = mapped_column(String(40))
    """What the receiver knows it by (`webhook-id`), the same for every try."""
    type: Mapped[str] = mapped_column(String(60))
    data: Mapped[dict[str, Any]] = mapped_column(Json)
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"))
    """Deliveries of one job to one endpoint go one after the other, in the order of `seq`."""
    seq: Mapped[int] = mapped_column(Integer)
    status: Mapped[str] = mapped_column(String(20))
    num_tries: Mapped[int] = mapped_column(Integer, default=0)
    """Tries that were begun; the number of the last one is its fence."""
    forgiven_tries: Mapped[int] = mapped_column(Integer, default=0)
    """How many there were when somebody last asked to send it again."""
    tries: Mapped[list[dict[str, Any]]] = mapped_column(Json, default=list)
    """What became of the latest ones."""
    due_at: Mapped[datetime | None] = mapped_column(UtcTime, default=db_time())
    """None while its endpoint is disabled, so that nobody who looks for what is due finds it."""
    leased_until: Mapped[datetime | None] = mapped_column(UtcTime)
    """Somebody is sending it; after a crash it is free again."""
    created_at: Mapped[datetime] = mapped_column(UtcTime, default=db_time())
    ended_at: Mapped[datetime | None] = mapped_column(UtcTime)
