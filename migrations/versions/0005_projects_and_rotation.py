"""projects can be deleted, keys know who made them and which one takes their place

Revision ID: 0005
Revises: 0004
Create Date: 2026-11-25 05:10:00
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("projects", sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("api_keys", sa.Column("created_by", sa.String(length=40), nullable=True))
    op.add_column("api_keys", sa.Column("replaced_by_id", sa.String(length=40), nullable=True))


def downgrade() -> None:
    op.drop_column("api_keys", "replaced_by_id")
    op.drop_column("api_keys", "created_by")
    op.drop_column("projects", "deleted_at")
