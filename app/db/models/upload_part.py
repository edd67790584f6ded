"""The parts of pending uploads. The bytes are in the object store under their digest."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, UtcTime, db_time, new_id
from app.db.tenancy import OfProject


class UploadPart(OfProject, Base):
    __tablename__ = "upload_parts"
    __table_args__ = (UniqueConstraint("upload_id", "sha256"), Index(None, "project_id", "num_bytes"))

    id: Mapped[str] = mapped_column(String(40), primary_key=True, default=lambda: new_id("part"))
    upload_id: Mapped[str] = mapped_column(ForeignKey("uploads.id"))
    num_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    created_at: Mapped[datetime] = mapped_column(UtcTime, default=db_time())
