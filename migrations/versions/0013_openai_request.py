"""what jobs were asked for in OpenAI's words

Revision ID: 0013
Revises: 0012
Create Date: 2026-11-29 07:30:00
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    # Not in a batch, which would rebuild the table on SQLite and lose its triggers.
    op.add_column("jobs", sa.Column("openai_request", JSON, nullable=True))


def downgrade() -> None:
    op.drop_column("jobs", "openai_request")
