"""Jobs: what a user submitted, and where it stands."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Json, UtcTime, db_time, new_id, only_where
from app.db.tenancy import OfProject

LISTED = "deleted_at IS NULL"
UNPURGED = "purged_at IS NULL AND finished_at IS NOT NULL"
LOGS_LEFT = f"{UNPURGED} AND (logs_removed_at IS NULL OR logs_removed_at < finished_at)"
METRICS_LEFT = f"{UNPURGED} AND (metrics_removed_at IS NULL OR metrics_removed_at < finished_at)"
"""Of jobs that ended and were not purged: those whose logs, or curves, are still there."""
PURGED_LEFT = "purged_at IS NOT NULL AND history_removed_at IS NULL"
FILTERED = ("status", "stage", "strategy", "created_by", "created_at", "search_text", "deleted_at")
"""The last only because SQLite would look into the row for it, although the index says it."""


def search_text(name: str) -> str:
    """How a name is compared with what somebody looks for."""
    return name.casefold()


class Job(OfProject, Base):
    __tablename__ = "jobs"
    __table_args__ = (
        # Everything a list filters by, in the order of lists: whatever the filters, no row is read in vain.
        Index("ix_jobs_listed", "project_id", "id", *FILTERED, **only_where(LISTED)),
        Index("ix_jobs_listed_by_status", "project_id", "status", "id", "deleted_at", **only_where(LISTED)),
        Index(None, "created_by", "request_digest"),
        Index("ix_jobs_logs_left", "finished_at", **only_where(LOGS_LEFT)),
        Index("ix_jobs_metrics_left", "finished_at", **only_where(METRICS_LEFT)),
        Index("ix_jobs_purged_left", "id", **only_where(PURGED_LEFT)),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True, default=lambda: new_id("job"))
    name: Mapped[str] = mapped_column(String(200))
    """The spec's at first; its user may change it."""
    search_text: Mapped[str] = mapped_column(
        String(400), default=lambda context: search_text(context.get_current_parameters()["name"])
    )
    spec: Mapped[dict[str, Any]] = mapped_column(Json)
    spec_digest: Mapped[str] = mapped_column(String(64))
    status: Mapped[str] = mapped_column(String(20))
    """`lifecycle.job_status` of the steps and `desired`, stored so that lists can filter by it."""
    desired: Mapped[str] = mapped_column(String(20))
    """What the user asked for: run, pause or cancel."""
    priority: Mapped[int] = mapped_column(Integer, default=0)
    """Which of a project's jobs goes first: the higher one. Between projects it says nothing."""
    cloned_from_id: Mapped[str | None] = mapped_column(String(40))
    """The job whose spec this one began as."""
    root_job_id: Mapped[str | None] = mapped_column(String(40))
    """The first job of that line."""
    stage: Mapped[str | None] = mapped_column(String(20))
    """What is being done, or comes next; stored for the same reason. None when nothing is left."""
    strategy: Mapped[str] = mapped_column(String(20), default="default")
    """The preset that the spec's strategy starts from."""
    status_reason: Mapped[str | None] = mapped_column(Text)
    error: Mapped[dict[str, Any] | None] = mapped_column(Json)
    last_event_seq: Mapped[int] = mapped_column(Integer, default=0)
    """Taken under the row's lock, so that events of a job become visible in the order of their numbers."""
    last_metric_seq: Mapped[int] = mapped_column(Integer, default=0)
    last_log_seq: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    created_by: Mapped[str | None] = mapped_column(String(40))
    request_digest: Mapped[str | None] = mapped_column(String(64))
    """Of the request that made it, so that a client that sends it again gets this job."""
    openai_request: Mapped[dict[str, Any] | None] = mapped_column(Json)
    """What was asked for in the words of OpenAI's API, which that face says again; None for other jobs."""
    created_at: Mapped[datetime] = mapped_column(UtcTime, default=db_time())
    started_at: Mapped[datetime | None] = mapped_column(UtcTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcTime)
    deleted_at: Mapped[datetime | None] = mapped_column(UtcTime)
    """Since then it is shown to nobody. Its rows stay."""
    purged_at: Mapped[datetime | None] = mapped_column(UtcTime)
    """Since then its artifacts are garbage, apart from a model that is registered."""
    removed_log_seq: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    """Logs up to this number are no longer shown (`app.jobs.retention`); `logs_removed_at`: nor stored."""
    logs_removed_at: Mapped[datetime | None] = mapped_column(UtcTime)
    removed_metric_seq: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    """The same for the points of its curves."""
    metrics_removed_at: Mapped[datetime | None] = mapped_column(UtcTime)
    history_removed_at: Mapped[datetime | None] = mapped_column(UtcTime)
    """Since then events, curves and logs of a purged job are gone."""
