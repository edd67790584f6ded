"""Log chunks: what the processes of attempts wrote to standard output and error, some lines at a time."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, UtcTime, db_time
from app.db.tenancy import OfProject


class LogChunk(OfProject, Base):
    __tablename__ = "log_chunks"
    __table_args__ = (UniqueConstraint("step_id", "attempt", "first_byte"),)

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(Integer, primary_key=True)
    """Order of writing within the job; what a reader continues from."""
    step_id: Mapped[str] = mapped_column(String(40), ForeignKey("steps.id"))
    attempt: Mapped[int] = mapped_column(Integer)
    first_byte: Mapped[int] = mapped_column(BigInteger)
    """Where the chunk began in what the process wrote."""
    num_bytes: Mapped[int] = mapped_column(BigInteger)
    """What it was there; the text is cleaned, and may be shorter."""
    text: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcTime, default=db_time())
