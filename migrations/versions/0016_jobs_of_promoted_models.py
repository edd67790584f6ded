"""promoted models beside the one model that a job publishes

Revision ID: 0016
Revises: 0015
Create Date: 2026-11-29 09:20:00
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("models", sa.Column("checkpoint_job_id", sa.String(length=40), nullable=True))
    op.create_index("ix_models_checkpoint_job_id", "models", ["checkpoint_job_id"])
    # A worker of an earlier release takes what it finds by `job_id` for the model that it publishes.
    op.execute(
        "UPDATE models SET checkpoint_job_id = job_id, job_id = NULL WHERE checkpoint_id IS NOT NULL"
    )


def downgrade() -> None:
    op.execute("UPDATE models SET job_id = checkpoint_job_id WHERE checkpoint_id IS NOT NULL")
    op.drop_index("ix_models_checkpoint_job_id", table_name="models")
    op.drop_column("models", "checkpoint_job_id")
