"""Steps: the units of work of a job. Only steps have a state machine (`app.jobs.lifecycle`)."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Float, ForeignKey, Index, Integer, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Json, UtcTime, db_time, new_id, only_where
from app.db.tenancy import OfProject

CLAIMABLE = "status = 'queued' AND ready_at IS NOT NULL"


class Step(OfProject, Base):
    __tablename__ = "steps"
    __table_args__ = (
        UniqueConstraint("job_id", "name"),
        Index(None, "status", "resource", "ready_at"),
        Index(None, "status", "lease_ends_at"),
        # In the order of claims within a project and a resource: a claim reads one entry, however many wait.
        Index(
            "ix_steps_claimable",
            *("project_id", "resource", "claim_rank", "job_id", "position"),
            **only_where(CLAIMABLE),
        ),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True, default=lambda: new_id("step"))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    position: Mapped[int] = mapped_column(Integer)
    name: Mapped[str] = mapped_column(String(100))
    stage: Mapped[str] = mapped_column(String(20))
    subject: Mapped[str | None] = mapped_column(String(100))
    resource: Mapped[str] = mapped_column(String(20))
    weight: Mapped[float] = mapped_column(Float)

    status: Mapped[str] = mapped_column(String(20))
    status_reason: Mapped[str | None] = mapped_column(String(100))
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    """The fencing token: a write of an earlier attempt is refused."""
    num_errors: Mapped[int] = mapped_column(Integer, default=0)
    """Attempts that failed since the last progress: what the budget for errors has spent."""
    num_losses: Mapped[int] = mapped_column(Integer, default=0)
    """Attempts whose worker or process was lost since the last progress: the other budget."""
    forgiven_attempts: Mapped[int] = mapped_column(Integer, default=0)
    """Attempts up to this number count no longer: a part was stored then, or a user asked for a retry."""
    num_batch_halvings: Mapped[int] = mapped_column(Integer, default=0)
    """How often the next attempt halves its batches, because earlier ones ran out of memory. Stays until a
    user asks for a retry (`app.jobs.budgets`)."""
    worker_id: Mapped[str | None] = mapped_column(String(200))
    lease_ends_at: Mapped[datetime | None] = mapped_column(UtcTime)
    ready_at: Mapped[datetime | None] = mapped_column(UtcTime)
    """Not claimed before: later than now while an attempt backs off, None while its job is paused."""
    claim_rank: Mapped[int] = mapped_column(Integer, default=0)
    """Smaller is claimed first within the project: minus the priority of the job."""

    done: Mapped[float | None] = mapped_column(Float)
    total: Mapped[float | None] = mapped_column(Float)
    unit: Mapped[str | None] = mapped_column(String(40))
    tokens_done: Mapped[int | None] = mapped_column(BigInteger)
    first_done: Mapped[float | None] = mapped_column(Float)
    """`done` at the attempt's first report: a resumed attempt does not start at zero."""
    first_progress_at: Mapped[datetime | None] = mapped_column(UtcTime)
    progress_at: Mapped[datetime | None] = mapped_column(UtcTime)

    # No foreign key: artifacts already refer to steps, and SQLite cannot add the second one of a cycle later.
    artifact_id: Mapped[str | None] = mapped_column(String(40))
    figures: Mapped[dict[str, Any] | None] = mapped_column(Json)
    error: Mapped[dict[str, Any] | None] = mapped_column(Json)
    created_at: Mapped[datetime] = mapped_column(UtcTime, default=db_time())
    started_at: Mapped[datetime | None] = mapped_column(UtcTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcTime)
