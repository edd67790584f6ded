"""what of a job's logs, curves and history is no longer kept

Revision ID: 0017
Revises: 0016
Create Date: 2026-11-29 11:00:00

Events of a purged job may be deleted from now on; those of any other job still may not.
"""

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

ENDED = "purged_at IS NULL AND finished_at IS NOT NULL"
INDICES = {
    "ix_jobs_logs_left": (
        "finished_at",
        f"{ENDED} AND (logs_removed_at IS NULL OR logs_removed_at < finished_at)",
    ),
    "ix_jobs_metrics_left": (
        "finished_at",
        f"{ENDED} AND (metrics_removed_at IS NULL OR metrics_removed_at < finished_at)",
    ),
    "ix_jobs_purged_left": ("id", "purged_at IS NOT NULL AND history_removed_at IS NULL"),
}
NEVER = "1 = 0"
OF_A_PURGED_JOB = "EXISTS (SELECT 1 FROM jobs WHERE jobs.id = OLD.job_id AND jobs.purged_at IS NOT NULL)"


def upgrade() -> None:
    for name in ("removed_log_seq", "removed_metric_seq"):
        op.add_column("jobs", sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
    for name in ("logs_removed_at", "metrics_removed_at", "history_removed_at"):
        op.add_column("jobs", sa.Column(name, sa.DateTime(timezone=True), nullable=True))
    for name, (column, condition) in INDICES.items():
        op.create_index(
            name,
            "jobs",
            [column],
            sqlite_where=sa.text(condition),
            postgresql_where=sa.text(condition),
        )
    for statement in _guard_of_events(OF_A_PURGED_JOB):
        op.execute(statement)


def downgrade() -> None:
    for statement in _guard_of_events(NEVER):
        op.execute(statement)
    for name in INDICES:
        op.drop_index(name, table_name="jobs")
    for name in ("history_removed_at", "metrics_removed_at", "logs_removed_at"):
        op.drop_column("jobs", name)
    for name in ("removed_metric_seq", "removed_log_seq"):
        op.drop_column("jobs", name)


def _guard_of_events(allowed: str) -> Iterator[str]:
    """The guard of 0002 against deletions, with another exception."""
    refusal = "events are never deleted"
    if op.get_bind().dialect.name == "sqlite":
        yield "DROP TRIGGER guard_events_delete"
        yield (
            f"CREATE TRIGGER guard_events_delete BEFORE DELETE ON events WHEN NOT ({allowed})"
            f" BEGIN SELECT RAISE(ABORT, '{refusal}'); END"
        )
    else:
        yield (
            "CREATE OR REPLACE FUNCTION guard_events_delete() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" IF NOT ({allowed}) THEN"
            f" RAISE EXCEPTION '{refusal}' USING ERRCODE = 'check_violation'; END IF;"
            " RETURN OLD; END $$"
        )
