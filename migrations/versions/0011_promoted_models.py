"""models that were checkpoints

Revision ID: 0011
Revises: 0010
Create Date: 2026-11-29 07:45:00
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("models", sa.Column("checkpoint_id", sa.String(length=40), nullable=True))
    # Twice promoted at one moment is once promoted.
    op.create_index("uq_models_checkpoint_id", "models", ["checkpoint_id"], unique=True)


def downgrade() -> None:
    op.drop_index("uq_models_checkpoint_id", table_name="models")
    op.drop_column("models", "checkpoint_id")
