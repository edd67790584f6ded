"""labels, filters, lineage and removal of jobs

Revision ID: 0008
Revises: 0007
Create Date: 2026-11-26 05:30:00
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

FINISHED = "('succeeded', 'failed', 'cancelled')"
FROZEN = (
    *("project_id", "spec", "spec_digest", "status", "desired", "status_reason", "error"),
    *("created_by", "created_at", "started_at", "finished_at"),
)
"""What of a finished job never changed before this revision."""
ALSO_FROZEN = ("strategy", "stage", "cloned_from_id", "root_job_id", "request_digest")
INDICES = {
    "ix_jobs_listed": [
        *("project_id", "id", "status", "stage", "strategy"),
        *("created_by", "created_at", "search_text", "deleted_at"),
    ],
    "ix_jobs_listed_by_status": ["project_id", "status", "id", "deleted_at"],
}
NEW_COLUMNS = ("search_text", "stage", "strategy", "root_job_id", "deleted_at", "purged_at")

STAGE = """
UPDATE jobs SET stage = (
    SELECT steps.stage FROM steps
    WHERE steps.job_id = jobs.id AND steps.status IN ('running', 'failed', 'queued', 'pending')
    ORDER BY CASE steps.status WHEN 'running' THEN 0 WHEN 'failed' THEN 1 WHEN 'queued' THEN 2 ELSE 3 END,
        CASE WHEN steps.status = 'running' THEN -steps.weight ELSE 0 END, steps.position
    LIMIT 1
)
"""

ROOT = """
UPDATE jobs SET root_job_id = (
    WITH RECURSIVE line (id, parent) AS (
        SELECT first.id, first.cloned_from_id FROM jobs AS first WHERE first.id = jobs.cloned_from_id
        UNION ALL
        SELECT further.id, further.cloned_from_id FROM jobs AS further JOIN line ON further.id = line.parent
    )
    SELECT line.id FROM line WHERE line.parent IS NULL
)
WHERE cloned_from_id IS NOT NULL
"""


def upgrade() -> None:
    dialect = op.get_bind().dialect.name
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column("search_text", sa.String(length=400), nullable=False, server_default="")
        )
        batch_op.add_column(sa.Column("stage", sa.String(length=20), nullable=True))
        batch_op.add_column(
            sa.Column("strategy", sa.String(length=20), nullable=False, server_default="default")
        )
        batch_op.add_column(sa.Column("root_job_id", sa.String(length=40), nullable=True))
        batch_op.add_column(sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))
        batch_op.add_column(sa.Column("purged_at", sa.DateTime(timezone=True), nullable=True))
    preset = "json_extract(spec, '$.strategy.preset')" if dialect == "sqlite" else "spec #>> '{strategy,preset}'"
    # Names were those of specs until now, in lower case already.
    op.execute(f"UPDATE jobs SET search_text = name, strategy = coalesce({preset}, 'default')")
    op.execute(STAGE)
    op.execute(ROOT)
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_jobs_project_id_id"))
        batch_op.drop_index(batch_op.f("ix_jobs_status_id"))
        for name, columns in INDICES.items():
            where = sa.text("deleted_at IS NULL")
            batch_op.create_index(name, columns, sqlite_where=where, postgresql_where=where)
    op.create_table(
        "job_labels",
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("value", sa.String(length=512), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_labels_job_id_jobs")),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_job_labels_project_id_projects")
        ),
        sa.PrimaryKeyConstraint("job_id", "kind", "key", name=op.f("pk_job_labels")),
    )
    with op.batch_alter_table("job_labels", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_job_labels_project_id_kind_key_value_job_id"),
            ["project_id", "kind", "key", "value", "job_id"],
            unique=False,
        )
    _guard_jobs(dialect, f"({_change(dialect, FROZEN + ALSO_FROZEN)}) AND ({_removal()})")


def downgrade() -> None:
    dialect = op.get_bind().dialect.name
    _guard_jobs(dialect, _change(dialect, FROZEN))
    op.drop_table("job_labels")
    for name in INDICES:
        op.drop_index(name, "jobs")
    op.create_index(op.f("ix_jobs_status_id"), "jobs", ["status", "id"])
    op.create_index(op.f("ix_jobs_project_id_id"), "jobs", ["project_id", "id"])
    for name in NEW_COLUMNS:
        # Not in a batch, which would rebuild the table on SQLite and lose its triggers.
        op.drop_column("jobs", name)


def _change(dialect: str, frozen: tuple[str, ...]) -> str:
    same = "IS" if dialect == "sqlite" else "IS NOT DISTINCT FROM"
    unchanged = " AND ".join(f"NEW.{column} {same} OLD.{column}" for column in frozen)
    return (
        f"(OLD.status NOT IN {FINISHED} AND (OLD.desired <> 'cancel' OR NEW.desired = 'cancel'))"
        f" OR (OLD.status = 'failed' AND NEW.status NOT IN {FINISHED})"
        f" OR ({unchanged})"
    )


def _removal() -> str:
    """Only what is finished goes, and what is gone is not taken up again."""
    return (
        f"(NEW.deleted_at IS NULL OR NEW.status IN {FINISHED})"
        " AND (NEW.purged_at IS NULL OR NEW.deleted_at IS NOT NULL)"
        " AND (OLD.deleted_at IS NULL OR NEW.deleted_at IS NOT NULL)"
    )


def _guard_jobs(dialect: str, allowed: str) -> None:
    name, refusal = "guard_jobs_update", "a finished job does not change"
    if dialect == "sqlite":
        op.execute(f"DROP TRIGGER {name}")
        op.execute(
            f"CREATE TRIGGER {name} BEFORE UPDATE ON jobs WHEN NOT ({allowed})"
            f" BEGIN SELECT RAISE(ABORT, '{refusal}'); END"
        )
    else:
        op.execute(
            f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" IF NOT ({allowed}) THEN"
            f" RAISE EXCEPTION '{refusal}' USING ERRCODE = 'check_violation'; END IF;"
            " RETURN NEW; END $$"
        )
