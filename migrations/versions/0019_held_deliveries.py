"""deliveries that wait for a disabled endpoint are not due

Revision ID: 0019
Revises: 0018
Create Date: 2026-11-29 13:20:00
"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

OF_DISABLED = "endpoint_id IN (SELECT id FROM webhook_endpoints WHERE NOT enabled)"


def upgrade() -> None:
    with op.batch_alter_table("webhook_deliveries", schema=None) as batch_op:
        batch_op.alter_column("due_at", existing_type=sa.DateTime(timezone=True), nullable=True)
        batch_op.create_index(batch_op.f("ix_webhook_deliveries_created_at"), ["created_at"])
    op.execute(f"UPDATE webhook_deliveries SET due_at = NULL WHERE status = 'pending' AND {OF_DISABLED}")


def downgrade() -> None:
    op.execute("UPDATE webhook_deliveries SET due_at = created_at WHERE due_at IS NULL")
    with op.batch_alter_table("webhook_deliveries", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_webhook_deliveries_created_at"))
        batch_op.alter_column("due_at", existing_type=sa.DateTime(timezone=True), nullable=False)
