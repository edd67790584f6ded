"""logs of attempts

Revision ID: 0014
Revises: 0013
Create Date: 2026-11-29 08:00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("last_log_seq", sa.Integer(), nullable=False, server_default="0"))
    op.create_table(
        "log_chunks",
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("step_id", sa.String(length=40), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("first_byte", sa.BigInteger(), nullable=False),
        sa.Column("num_bytes", sa.BigInteger(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_log_chunks_job_id_jobs")),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_log_chunks_project_id_projects")
        ),
        sa.ForeignKeyConstraint(["step_id"], ["steps.id"], name=op.f("fk_log_chunks_step_id_steps")),
        sa.PrimaryKeyConstraint("job_id", "seq", name=op.f("pk_log_chunks")),
        sa.UniqueConstraint(
            "step_id", "attempt", "first_byte", name=op.f("uq_log_chunks_step_id_attempt_first_byte")
        ),
    )


def downgrade() -> None:
    op.drop_table("log_chunks")
    op.drop_column("jobs", "last_log_seq")
