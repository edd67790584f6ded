"""what a job was expected to take

Revision ID: 0015
Revises: 0014
Create Date: 2026-11-29 07:40:00
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "job_estimates",
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column(
            "estimate",
            sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
            nullable=False,
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_estimates_job_id_jobs")),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_job_estimates_project_id_projects")
        ),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_job_estimates")),
    )


def downgrade() -> None:
    op.drop_table("job_estimates")
