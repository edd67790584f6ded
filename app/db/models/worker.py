"""Workers that asked for work, and when they were last heard of."""

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Json, UtcTime, db_time


class Worker(Base):
    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(String(200), primary_key=True)
    resources: Mapped[list[str]] = mapped_column(Json)
    started_at: Mapped[datetime] = mapped_column(UtcTime, default=db_time())
    last_seen_at: Mapped[datetime] = mapped_column(UtcTime, default=db_time(), index=True)
