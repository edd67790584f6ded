"""Uploads in parts: files that are on their way."""

from datetime import datetime

from sqlalchemy import BigInteger, Float, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, UtcTime, db_time, new_id
from app.db.tenancy import OfProject


class Upload(OfProject, Base):
    __tablename__ = "uploads"
    __table_args__ = (Index(None, "project_id", "id"), Index(None, "status", "expires_at"))

    id: Mapped[str] = mapped_column(String(40), primary_key=True, default=lambda: new_id("upload"))
    filename: Mapped[str] = mapped_column(String(500))
    purpose: Mapped[str] = mapped_column(String(40))
    mime_type: Mapped[str | None] = mapped_column(String(200))
    num_bytes: Mapped[int] = mapped_column(BigInteger)
    """Size of the whole file, as announced."""
    announced_digest: Mapped[str | None] = mapped_column(String(64))
    """What the digest of the whole file shall be, where its client said so."""
    status: Mapped[str] = mapped_column(String(20))
    """pending, completed, cancelled or expired."""
    file_id: Mapped[str | None] = mapped_column(String(40))
    """What a completed one became. No foreign key: the file may go before the memory of its upload."""
    file_expires_after_seconds: Mapped[float | None] = mapped_column(Float)
    created_by: Mapped[str | None] = mapped_column(String(40))
    created_at: Mapped[datetime] = mapped_column(UtcTime, default=db_time())
    expires_at: Mapped[datetime] = mapped_column(UtcTime)
    """A pending upload is abandoned from then on; every part moves it."""
    ended_at: Mapped[datetime | None] = mapped_column(UtcTime)
