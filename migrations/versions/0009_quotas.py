"""limits of projects

Revision ID: 0009
Revises: 0008
Create Date: 2026-11-29 07:30:00
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

COLUMNS = {
    "max_queued_jobs": sa.Integer(),
    "max_running_jobs": sa.Integer(),
    "max_stored_bytes": sa.BigInteger(),
    "max_gpu_hours_per_month": sa.Float(),
}


def upgrade() -> None:
    for name, kind in COLUMNS.items():
        op.add_column("projects", sa.Column(name, kind, nullable=True))


def downgrade() -> None:
    for name in COLUMNS:
        op.drop_column("projects", name)
