"""Files that users uploaded. The bytes are in the object store under their digest."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Json, UtcTime, db_time, new_id, only_where
from app.db.tenancy import OfProject

UNCHECKED = "status = 'uploaded'"


class File(OfProject, Base):
    __tablename__ = "files"
    __table_args__ = (
        Index(None, "project_id", "id"),
        Index(None, "project_id", "num_bytes"),
        Index(None, "project_id", "sha256"),
        Index("ix_files_unchecked", "id", **only_where(UNCHECKED)),
        Index(None, "expires_at"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True, default=lambda: new_id("file"))
    filename: Mapped[str] = mapped_column(String(500))
    purpose: Mapped[str] = mapped_column(String(40))
    num_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    status: Mapped[str] = mapped_column(String(20))
    """uploaded until it is checked; then processed, or error when the check found a problem."""
    error: Mapped[dict[str, Any] | None] = mapped_column(Json)
    """code, message, hint, line and byte of that problem."""
    facts: Mapped[dict[str, Any] | None] = mapped_column(Json)
    """What the check found in it: format, num_records, fields, num_text_bytes."""
    check_ends_at: Mapped[datetime | None] = mapped_column(UtcTime)
    """Until then a process is checking it."""
    expires_at: Mapped[datetime | None] = mapped_column(UtcTime)
    """From then on it is as if deleted, except for jobs that began before."""
    created_by: Mapped[str | None] = mapped_column(String(40))
    created_at: Mapped[datetime] = mapped_column(UtcTime, default=db_time())
