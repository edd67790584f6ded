"""The outbox: doorbells to ring after the commit that made them."""

from datetime import datetime

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, UtcTime, db_time, new_id


class OutboxMessage(Base):
    __tablename__ = "outbox_messages"
    __table_args__ = (Index(None, "due_at"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True, default=lambda: new_id("msg"))
    resource: Mapped[str] = mapped_column(String(20))
    """The queue whose workers should look at the database."""
    due_at: Mapped[datetime] = mapped_column(UtcTime, default=db_time())
