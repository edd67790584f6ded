"""API keys. The secret is shown once; only its keyed hash is stored."""

from datetime import datetime

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Json, UtcTime, db_time, new_id
from app.db.tenancy import OfProject


class ApiKey(OfProject, Base):
    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(40), primary_key=True, default=lambda: new_id("key"))
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    prefix: Mapped[str] = mapped_column(String(40), index=True)
    """First characters of the secret, so that its owner recognises it in a list."""
    secret_hash: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[list[str]] = mapped_column(Json)
    created_by: Mapped[str | None] = mapped_column(String(40))
    replaced_by_id: Mapped[str | None] = mapped_column(String(40))
    """The key that a rotation made to take its place."""
    created_at: Mapped[datetime] = mapped_column(UtcTime, default=db_time())
    expires_at: Mapped[datetime | None] = mapped_column(UtcTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcTime)
    last_used_at: Mapped[datetime | None] = mapped_column(UtcTime)
